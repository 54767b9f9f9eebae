#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Kills at random under load, the whole stack running: survive.py worker|kcmd|both N. Two submitters of fio write and
verify, one on the exported file, one through the loop device, each on its own half; whatever is killed, no I/O may
fail, no acknowledged write be lost or overwritten by an older one, and the volume ends up `up` with every range keyed."""
import json
import os
import random
import subprocess
import sys
import time

from dekstack import Dekstack, eventually

HALF = 64 << 20


def start_fio(path, offset, seconds, seed):
    return subprocess.Popen(
        ["fio", "--name=v", f"--filename={path}", "--rw=randrw", "--bs=4k", "--iodepth=32", "--direct=1",
         "--ioengine=libaio", f"--offset={offset}", f"--size={HALF}", "--verify=crc32c", "--verify_backlog=256",
         "--verify_fatal=1", "--verify_state_save=0", f"--runtime={seconds}", "--time_based", f"--randseed={seed}", "--output-format=json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish_fio(name, fio, timeout):
    """Worst completion time in ms; any error, and any I/O that never comes back, fails the test."""
    out, err = fio.communicate(timeout=timeout)
    assert fio.returncode == 0, f"fio on {name}: exit {fio.returncode}: {err[:2000]}"
    job = json.loads(out[out.index("{"):])["jobs"][0]
    assert job["error"] == 0, f"fio on {name}: error {job['error']}"
    assert job["read"]["total_ios"] and job["write"]["total_ios"], f"fio on {name} did nothing"
    return max(job["read"]["clat_ns"]["max"], job["write"]["clat_ns"]["max"]) / 1e6


def kill_one(dek, what):
    if what == "worker":
        dek.kill_worker()
    else:
        dek.kill_kcmd()
        dek.start_kcmd(wait=random.random() < 0.5)
    time.sleep(random.uniform(0.05, 0.4))


def main():
    what, kills = sys.argv[1], int(sys.argv[2])
    seed = int(os.environ.get("DEK_SEED", random.randrange(1 << 30)))
    random.seed(seed)
    print(f"seed {seed}")
    # No cache: each restart of the worker has to get its keys from the keystore again.
    dek = Dekstack(kcmd_args=["--cache-lifetime", "0"])
    image = dek.image("v.img", 2 * HALF + (2 << 20))
    dek.dekctl("protect", image, "--name", "v")
    file, node = f"{dek.shim_dir}/volumes/v", dek.node("v")
    seconds = int(kills * 0.6) + 6
    fios = {file: start_fio(file, 0, seconds, seed), node: start_fio(node, HALF, seconds, seed + 1)}
    time.sleep(1)
    done = 0
    while done < kills and all(f.poll() is None for f in fios.values()):
        kill_one(dek, random.choice(["worker", "kcmd"]) if what == "both" else what)
        done += 1
    worst = {name: finish_fio(name, fio, seconds + 120) for name, fio in fios.items()}
    eventually("kcmd answers", lambda: dek.try_dekctl("status").returncode == 0, 30)
    eventually("the volume is up", lambda: dek.status("v")["state"] == "up", 30)
    ranges = dek.json("topology", "v")["ranges"]
    assert all(r["state"] == "keyed" for r in ranges), ranges
    assert done >= kills * 0.6, f"only {done} of {kills} kills happened while fio ran"
    dek.dekctl("detach", "v")
    dek.close()
    print(f"{done} kills of {what}: no error, nothing lost; worst pause " +
          ", ".join(f"{ms:.0f} ms" for ms in worst.values()))


main()
