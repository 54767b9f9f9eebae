#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""An exported volume with encryption, against qemu-storage-daemon's LUKS FUSE export and against the same shim
without encryption: volume.py BUILD-FOLDER [STARTS]. All three are FUSE files over tmpfs, driven by the same
fio jobs, read and write mixed, in turns whose order rotates; figures are medians of each round's ratio. All is set
up anew a few times, for where its memory happens to lie can tell two equal volumes apart by a tenth."""
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

SIZE = 512 << 20
JOBS = {
    "4k_qd32": ["--bs=4k", "--iodepth=32", "--rw=randrw"],
    "1m": ["--bs=1m", "--iodepth=8", "--rw=randrw"],
}
GOALS = {"4k_qd32": (5, 0.92), "1m": (6, 0.85)}
SECONDS = 1
ROUNDS = 3  # of each start, so that each of the three is first once


def run(*argv, **kwargs):
    return subprocess.run(argv, check=True, capture_output=True, text=True, **kwargs).stdout


def wait_for(path):
    for _ in range(200):
        if os.path.exists(path):
            return
        time.sleep(0.05)
    raise SystemExit(f"{path} did not appear")


class Dekstack:
    """dek-shimd and kcmd with one encrypted and one plain volume."""

    def __init__(self, build, work):
        self.build, self.run_dir = build, f"{work}/run"
        os.makedirs(f"{self.run_dir}/shim")
        os.makedirs(f"{work}/state")
        log = open(f"{work}/dekstack.log", "w")
        self.daemons = [
            subprocess.Popen([f"{build}/kernel-shim/fuse/dek-shimd", "--dir", f"{self.run_dir}/shim"], stderr=log)]
        self.socket = f"{self.run_dir}/bus"
        self.daemons.insert(0, subprocess.Popen(
            [f"{build}/daemon/kcm/kcmd", "--state-dir", f"{work}/state", "--run-dir", self.run_dir,
             "--socket", self.socket, "--dev-dir", f"{work}/dev"], stderr=log))
        wait_for(self.socket)
        self.dekctl("keystore", "init", "--file", f"{work}/state/master.key")
        self.names = []

    def dekctl(self, *args):
        return run(f"{self.build}/utils/dekctl", "--socket", self.socket, *args)

    def volume(self, work, name, ranges):
        image = f"{work}/{name}.img"
        with open(image, "wb") as file:
            file.truncate(SIZE + (2 << 20))
        self.dekctl("protect", image, "--name", name, "--encrypt", ranges)
        self.names.append(name)
        return f"{self.run_dir}/shim/volumes/{name}"

    def close(self):
        for name in self.names:
            self.dekctl("detach", name)
        for daemon in self.daemons:
            daemon.terminate()
            daemon.wait(20)


class QemuLuks:
    """qemu-storage-daemon exporting a LUKS image (aes-256, xts, plain64) as a FUSE file."""

    def __init__(self, work):
        image, self.file = f"{work}/luks.img", f"{work}/luks.raw"
        secret = f"{work}/luks.secret"
        with open(secret, "w") as file:
            file.write("benchmark")
        create = ["qemu-img", "create", "-q", "--object", f"secret,id=s,file={secret}", "-f", "luks",
                  "-o", "key-secret=s,iter-time=200,cipher-alg=aes-256,cipher-mode=xts,ivgen-alg=plain64",
                  image, str(SIZE)]
        for _ in range(20):  # its timing of the key derivation fails now and then on a virtual machine
            if subprocess.run(create, capture_output=True, check=False).returncode == 0:
                break
        else:
            run(*create)
        open(self.file, "w").close()
        self.daemon = subprocess.Popen(
            ["qemu-storage-daemon", "--object", f"secret,id=s,file={secret}",
             "--blockdev", f"driver=file,node-name=f,filename={image},cache.direct=on,aio=threads",
             "--blockdev", "driver=luks,node-name=l,file=f,key-secret=s,cache.direct=on",
             "--export", f"type=fuse,id=e,node-name=l,mountpoint={self.file},writable=on"])
        for _ in range(200):
            if os.stat(self.file).st_size:
                return
            time.sleep(0.05)
        raise SystemExit("qemu-storage-daemon did not export its volume")

    def close(self):
        self.daemon.terminate()
        self.daemon.wait(20)


def fio(path, options):
    """MiB/s, read and write together."""
    text = run("fio", "--name=b", f"--filename={path}", "--direct=1", "--ioengine=libaio", f"--size={SIZE}",
               "--time_based", f"--runtime={SECONDS}", "--randrepeat=0", "--norandommap", "--refill_buffers=0",
               "--output-format=json", *options)
    job = json.loads(text[text.index("{"):])["jobs"][0]
    assert job["error"] == 0, job["error"]
    return (job["read"]["bw_bytes"] + job["write"]["bw_bytes"]) / (1 << 20)


def measure(paths, results):
    for path in paths.values():  # every block exists before it is timed
        run("fio", "--name=fill", f"--filename={path}", "--direct=1", "--ioengine=libaio", "--rw=write",
            "--bs=1m", f"--size={SIZE}")
    order = list(paths)
    for _ in range(ROUNDS):
        order.append(order.pop(0))
        for job, options in JOBS.items():
            for name in order:
                results[job][name].append(fio(paths[name], options))


def ratio(by_name, peer):
    return statistics.median(ours / theirs for ours, theirs in zip(by_name["dekstack"], by_name[peer]))


def start(build, results, encrypted_first):
    work = tempfile.mkdtemp(prefix="dekstack-bench.", dir="/dev/shm")
    qemu = dek = None
    volumes = [("dekstack", "cipher", "all"), ("plain", "plain", "0-7")]
    try:
        dek = Dekstack(os.path.abspath(build), work)
        qemu = QemuLuks(work)
        paths = {name: dek.volume(work, volume, ranges)
                 for name, volume, ranges in (volumes if encrypted_first else reversed(volumes))}
        measure(paths | {"qemu": qemu.file}, results)
    finally:
        for part in (qemu, dek):
            if part:
                part.close()
        shutil.rmtree(work, ignore_errors=True)


def main():
    build, starts = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 8
    results = {job: {name: [] for name in ("dekstack", "plain", "qemu")} for job in JOBS}
    for i in range(starts):
        start(build, results, i % 2 == 0)
    for job, by_name in results.items():
        print(f"{job}: " + ", ".join(f"{n} {statistics.median(v):.0f} MiB/s" for n, v in by_name.items()))
        print(f"figure volume_{job}_vs_qemu_luks {ratio(by_name, 'qemu'):.2f} {GOALS[job][0]}")
        print(f"figure volume_{job}_vs_plain {ratio(by_name, 'plain'):.3f} {GOALS[job][1]}")
    return 0


sys.exit(main())
