#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Kills the worker while writes are under way on a slow disk that lets them overtake each other (slowfs, 0..50 ms each):
what a dead worker had begun must not land over what was written later. Each block is written by one thread, version
after version; in the end it must hold the last one acknowledged.

  kill_in_flight.py [COUNT] [--seed N]
"""
import argparse
import mmap
import os
import random
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from shimd import BUILD, Shimd  # noqa: E402

BLOCK, BLOCKS, THREADS = 4096, 64, 16
SLOWFS = f"{BUILD}/tests/shim/slowfs"


class Writer(threading.Thread):
    """Writes the blocks that are its own, at random, each time a higher version; remembers what was acknowledged."""

    def __init__(self, path, number, stop):
        super().__init__()
        self.blocks, self.stop, self.error = range(number, BLOCKS, THREADS), stop, None
        self.versions, self.writes, self.chance = {b: 0 for b in self.blocks}, 0, random.Random(number)
        self.fd, self.page = os.open(path, os.O_RDWR | os.O_DIRECT), mmap.mmap(-1, BLOCK)

    def run(self):
        try:
            while not self.stop.is_set():
                block = self.chance.choice(self.blocks)
                version = self.versions[block] + 1
                self.page[:] = struct.pack("<QQ", block, version) * (BLOCK // 16)
                if os.pwritev(self.fd, [self.page], block * BLOCK) != BLOCK:
                    raise OSError("a short write")
                self.versions[block] = version
                self.writes += 1
        except OSError as error:
            self.error = error


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("count", nargs="?", type=int, default=5)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    with Shimd() as shimd:
        mount = f"{shimd.work}/slow"
        os.mkdir(mount)
        slow = subprocess.Popen([SLOWFS, shimd.image("backing", BLOCK * BLOCKS), mount, "50"])
        try:
            while not os.path.exists(f"{mount}/disk"):
                time.sleep(0.01)
            uuid, key, sectors = b"\x11" * 16, os.urandom(64), BLOCKS * BLOCK // 512
            shimd.control.create(uuid, "slow", f"{mount}/disk", sectors)

            def give_key():
                shimd.control.map(uuid, 1, [(0, sectors)])
                shimd.control.associate(uuid, key, [(0, sectors)])

            give_key()
            stop = threading.Event()
            writers = [Writer(shimd.volume("slow"), n, stop) for n in range(THREADS)]
            for writer in writers:
                writer.start()
            in_flight = 0
            for _ in range(options.count):
                time.sleep(chance.uniform(0.1, 0.25))
                in_flight += shimd.control.stats(uuid)["in_flight"]
                shimd.kill_worker()
                give_key()
            time.sleep(0.3)
            stop.set()
            for writer in writers:
                writer.join(30)
                assert not writer.is_alive(), "a writer hangs"
                assert writer.error is None, f"a writer got {writer.error}"
            time.sleep(0.2)  # whatever might still land late
            stale = []
            for writer in writers:
                for block, version in writer.versions.items():
                    page = mmap.mmap(-1, BLOCK)
                    os.preadv(writer.fd, [page], block * BLOCK)
                    if version and page[:] != struct.pack("<QQ", block, version) * (BLOCK // 16):
                        stale.append((block, version, struct.unpack_from("<QQ", page)))
                os.close(writer.fd)
            writes = sum(w.writes for w in writers)
            print(f"{options.count} kills with {in_flight} requests under way in all, {writes} writes, {len(stale)} stale")
            assert not stale, f"block, acknowledged version, found: {stale}"
            assert in_flight >= options.count, "hardly anything was under way"
            shimd.control.remove(uuid)
        finally:
            subprocess.run(["umount", "-l", mount], check=False)
            slow.wait(30)
        shimd.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
