#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Kills the worker of dek-shimd COUNT times at random instants under fio's verification, two submitters on the file and
two through a loop device, gives each new worker its keys, and checks: no I/O error, no hang, no acknowledged write lost.

  kill_worker.py [COUNT] [--seed N] [--threads N] [--no-loop]
"""
import argparse
import json
import os
import random
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from shimd import Shimd  # noqa: E402

MIB = 1 << 20
SIZE = 64 * MIB
GAP = (0.05, 0.45)  # seconds between kills


class Volume:
    """Half of it encrypted under one key, a quarter under another, the rest plain."""

    def __init__(self, shimd, name, number):
        self.uuid, self.name, self.path = bytes([number]) * 16, name, shimd.volume(name)
        self.keys = [os.urandom(64), os.urandom(32)]
        sectors = SIZE // 512
        self.ranges = [(0, sectors // 2), (sectors // 2, sectors // 4)]
        shimd.control.create(self.uuid, name, shimd.image(f"{name}.img", SIZE), sectors)
        self.key(shimd.control)

    def key(self, control):
        control.map(self.uuid, 1, self.ranges)
        for key, ranges in zip(self.keys, self.ranges):
            control.associate(self.uuid, key, [ranges])


def fio(name, path, seconds, work):
    command = ["fio", f"--name={name}", f"--filename={path}", "--rw=randrw", "--bs=4k", "--iodepth=32", "--direct=1",
               "--ioengine=libaio", f"--size={SIZE // 2}", f"--offset_increment={SIZE // 2}", "--numjobs=2",
               "--group_reporting", "--verify=crc32c", "--verify_backlog=512", "--verify_fatal=1", "--time_based",
               f"--runtime={seconds}", "--output-format=json", f"--output={work}/{name}.json", f"--aux-path={work}"]
    with open(f"{work}/{name}.err", "w") as errors:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, cwd=work)


def check(name, work):
    with open(f"{work}/{name}.err") as errors, open(f"{work}/{name}.json") as out:
        said, text = errors.read().strip(), out.read()
    job = json.loads(text[text.index("{"):])["jobs"][0]
    worst = max(job[way]["clat_ns"]["max"] for way in ("read", "write")) / 1e6
    ios = job["read"]["total_ios"] + job["write"]["total_ios"]
    print(f"{name}: {ios} requests, worst {worst:.1f} ms, error {job['error']}")
    assert job["error"] == 0 and not said, f"{name}: fio's error {job['error']}: {said[:1000]}"
    assert ios > 1000, f"{name}: hardly any I/O happened"
    return worst


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("count", nargs="?", type=int, default=5)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-loop", action="store_true")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    seconds = int(options.count * (sum(GAP) / 2 + 0.05)) + 3
    loop = None
    with Shimd("--threads", str(options.threads)) as shimd:
        try:
            volumes = [Volume(shimd, "file", 1)]
            targets = {"file": volumes[0].path}
            if not options.no_loop:
                volumes.append(Volume(shimd, "loop", 2))
                loop = subprocess.run(["losetup", "--direct-io=on", "--sector-size=4096", "--show", "-f",
                                       volumes[1].path], capture_output=True, text=True, check=True).stdout.strip()
                targets["loop"] = loop
            running = {name: fio(name, path, seconds, shimd.work) for name, path in targets.items()}
            time.sleep(0.5)
            pauses = []
            for _ in range(options.count):
                time.sleep(chance.uniform(*GAP))
                began = time.monotonic()
                shimd.kill_worker()
                for volume in volumes:
                    volume.key(shimd.control)
                pauses.append(time.monotonic() - began)
            for name, process in running.items():
                try:
                    process.wait(seconds + 60)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise AssertionError(f"{name}: fio hangs") from None
            for name in running:
                check(name, shimd.work)
            restarts = [shimd.control.stats(v.uuid)["restarts"] for v in volumes]
            assert restarts == [options.count] * len(volumes), f"restarts: {restarts}"
            print(f"{options.count} kills; from kill to keyed: median {sorted(pauses)[len(pauses) // 2] * 1e3:.1f} ms, "
                  f"worst {max(pauses) * 1e3:.1f} ms")
        finally:
            if loop:
                subprocess.run(["losetup", "-d", loop], check=False)
        shimd.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
