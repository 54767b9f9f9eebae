#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What does not go on must not take kcmd along: a worker that is stopped, a mount that is copied elsewhere; and a
volume that is in use does not shrink."""
import os
import signal
import subprocess
import time

from dekstack import Dekstack, eventually

MIB = 1 << 20


def size_of(node):
    with open(f"/sys/block/{os.path.basename(os.path.realpath(node))}/size") as file:
        return int(file.read())


def stopped_worker(dek):
    worker = dek.worker_pid()
    os.kill(worker, signal.SIGSTOP)
    try:
        for _ in range(2):
            start = time.monotonic()
            volume = dek.json("--timeout", "5", "status", "v")["volumes"][0]
            assert time.monotonic() - start < 5, "status waits for the shim"
            assert volume["state"] == "down" and "stands still" in volume["reason"], volume
        assert dek.json("--timeout", "5", "key", "list")["keys"], "keys need no shim"
    finally:
        os.kill(worker, signal.SIGCONT)
    eventually("the volume is up again", lambda: dek.status("v")["state"] == "up")
    print("ok: a stopped worker is told of")


def copied_mount(dek):
    before = size_of(dek.node("v"))
    other = subprocess.Popen(["unshare", "--mount", "--propagation", "private", "sleep", "600"])
    try:
        eventually("another mount namespace", lambda: os.readlink(f"/proc/{other.pid}/ns/mnt") !=
                   os.readlink("/proc/self/ns/mnt"))
        done = dek.try_dekctl("detach", "v", "--wait", "1")
        assert done.returncode == 1 and f"process {other.pid}".encode() in done.stderr, done
        assert size_of(dek.node("v")) == before, "the block device has lost its volume"
        with open(dek.node("v"), "rb") as node:
            assert len(node.read(MIB)) == MIB
    finally:
        other.kill()
        other.wait()
    print("ok: a volume whose mount is copied elsewhere stays whole")


def used_volume(dek):
    with open(dek.node("v"), "rb"):
        done = dek.try_dekctl("resize", "v", "--size", 8192)
        assert done.returncode == 1 and b"--force" in done.stderr, done
        assert f"process {os.getpid()}".encode() in done.stderr, done
        assert size_of(dek.node("v")) == 15 * 2048
        dek.dekctl("resize", "v", "--size", 16384, "--force")
        assert size_of(dek.node("v")) == 16384
    dek.dekctl("resize", "v", "--size", 8192)
    assert size_of(dek.node("v")) == 8192
    print("ok: a volume that is open does not shrink unasked")


def main():
    dek = Dekstack()
    dek.dekctl("protect", dek.image("v.img", 16 * MIB), "--name", "v", "--encrypt", "0-8191")
    stopped_worker(dek)
    copied_mount(dek)
    used_volume(dek)
    dek.dekctl("detach", "v")


main()
