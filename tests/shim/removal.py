#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Volumes that go: removed while somebody still has them out of sight, with I/O under way on a connection that has
ended, or because a new worker cannot take them on. And what a lane does when its memory or its device gives out."""
import ctypes
import errno
import fcntl
import mmap
import os
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import client  # noqa: E402
from shimd import Shimd  # noqa: E402

UUID, MIB = b"\x31" * 16, 1 << 20
SECTORS = 4 * MIB // 512
MNT_FORCE, MNT_DETACH = 1, 2


def page(byte, size=4096):
    memory = mmap.mmap(-1, size)
    memory[:] = bytes([byte]) * size
    return memory


def open_direct(path):
    return os.open(path, os.O_RDWR | os.O_DIRECT)


def wait_until(what, true, seconds=20):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.005)


def error_of(call, *arguments):
    """errno, or 0"""
    try:
        call(*arguments)
    except OSError as error:
        return error.errno
    return 0


def umount(path, flags):
    assert ctypes.CDLL(None, use_errno=True).umount2(path.encode(), flags) == 0, os.strerror(ctypes.get_errno())


class Call(threading.Thread):
    """A system call that may take long: its result, or the errno it failed with."""

    def __init__(self, call, *arguments):
        super().__init__(daemon=True)
        self.call, self.arguments, self.result, self.error = call, arguments, None, 0
        self.start()

    def run(self):
        try:
            self.result = self.call(*self.arguments)
        except OSError as error:
            self.error = error.errno

    def end(self, what, seconds=20):
        self.join(seconds)
        assert not self.is_alive(), f"hangs: {what}"
        return self


def kept_out_of_sight():
    """Unmounted lazily by somebody, or copied into another mount namespace: the volume is in use all the same."""
    with Shimd() as shimd:
        image, key = shimd.image("v.img", 4 * MIB), os.urandom(64)
        shimd.control.create(UUID, "v", image, SECTORS)
        shimd.control.map(UUID, 1, [(0, 1024)])
        shimd.control.associate(UUID, key, [(0, 1024)])
        fd = open_direct(shimd.volume("v"))
        subprocess.run(["umount", "-l", shimd.volume("v")], check=True)
        assert error_of(shimd.control.remove, UUID) == errno.EBUSY
        assert [e["name"] for e in shimd.control.list()] == ["v"]
        assert error_of(shimd.control.create, b"\x32" * 16, "w", image, SECTORS) == errno.EBUSY, "the device was let go"
        back = mmap.mmap(-1, 4096)
        assert os.pwritev(fd, [page(5)], 0) == 4096 and os.preadv(fd, [back], 0) == 4096 and back[:] == page(5)[:]
        with open(image, "rb") as file:
            assert file.read(4096) != page(5)[:], "what is encrypted lies there in plain"
        os.close(fd)
        wait_until("the volume can be removed", lambda: error_of(shimd.control.remove, UUID) == 0)

        shimd.control.create(UUID, "v", image, SECTORS)
        shimd.control.map(UUID, 1, [])
        copy = subprocess.Popen(["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo; exec cat"],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        copy.stdout.readline()
        assert error_of(shimd.control.remove, UUID) == errno.EBUSY
        fd = open_direct(f"/proc/{copy.pid}/root{shimd.volume('v')}")
        assert os.pwritev(fd, [page(6)], 0) == 4096
        os.close(fd)
        copy.communicate()
        wait_until("the volume can be removed", lambda: error_of(shimd.control.remove, UUID) == 0)
        shimd.stop()


def under_way_when_the_connection_ends():
    """What was begun has ended before the volume is gone; what waited holds nothing up."""
    with Shimd() as shimd, shimd.slow_disk("slow", 4 * MIB, 500, "fixed") as (disk, bytes_of):
        shimd.control.create(UUID, "v", disk, SECTORS)
        shimd.control.map(UUID, 1, [])
        shimd.control.quiesce(UUID, 0, 1024)
        fd = open_direct(shimd.volume("v"))
        waiting = Call(os.pwritev, fd, [page(1)], 0)
        writing = Call(os.pwritev, fd, [page(2)], MIB)
        wait_until("both have come", lambda: shimd.control.stats(UUID)["in_flight"] == 2)
        worker = shimd.worker()
        umount(shimd.volume("v"), MNT_FORCE | MNT_DETACH)
        assert waiting.end("the write that waits").error and writing.end("the write under way").error
        os.close(fd)
        removal = Call(shimd.control.remove, UUID).end("removal")
        assert removal.error == 0, os.strerror(removal.error)
        with open(bytes_of, "rb") as file:
            data = file.read()
        assert data[MIB:MIB + 4096] == page(2)[:], "the volume was gone before its I/O had ended"
        assert not any(data[:4096]), "what waited was written after all"
        shimd.control.create(UUID, "v", disk, SECTORS)
        shimd.control.map(UUID, 1, [])
        fd = open_direct(shimd.volume("v"))
        assert os.pwritev(fd, [page(3)], 0) == 4096
        os.close(fd)
        shimd.control.remove(UUID)
        assert shimd.worker() == worker, "the worker died"
        shimd.stop()


def cannot_be_taken_on():
    """A new worker cannot mount the volume again: its users get errors, and the others are served."""
    with Shimd() as shimd:
        other = b"\x33" * 16
        for name, uuid in (("lost", UUID), ("kept", other)):
            shimd.control.create(uuid, name, shimd.image(f"{name}.img", 4 * MIB), SECTORS)
            shimd.control.map(uuid, 1, [])
        lost, kept = open_direct(shimd.volume("lost")), open_direct(shimd.volume("kept"))
        shimd.process.send_signal(signal.SIGSTOP)
        os.kill(shimd.worker(), signal.SIGKILL)
        subprocess.run(["umount", "-l", shimd.volume("lost")], check=True)
        os.unlink(shimd.volume("lost"))
        os.mkdir(shimd.volume("lost"))
        writing = Call(os.pwritev, lost, [page(1)], 0)
        time.sleep(0.1)
        assert writing.is_alive()
        shimd.process.send_signal(signal.SIGCONT)
        assert writing.end("a write to a volume nobody serves").error in (errno.ENOTCONN, errno.ECONNABORTED)
        shimd.reopen()
        assert [e["name"] for e in shimd.control.list()] == ["kept"]
        assert shimd.text().count("volume-lost") == 1, shimd.text()
        shimd.control.map(other, 1, [])
        assert os.pwritev(kept, [page(2)], 0) == 4096
        os.close(lost)
        os.close(kept)
        os.rmdir(shimd.volume("lost"))
        shimd.control.create(UUID, "lost", f"{shimd.work}/lost.img", SECTORS)  # name, slot and device are free
        shimd.control.remove(UUID)
        shimd.control.remove(other)
        shimd.stop()


def killed_before_it_serves():
    """Every worker is counted, also those that were killed before they had begun."""
    with Shimd() as shimd:
        shimd.control.create(UUID, "v", shimd.image("v.img", 4 * MIB), SECTORS)
        for _ in range(5):
            worker = shimd.worker()
            os.kill(worker, signal.SIGKILL)
            wait_until("another worker", lambda old=worker: shimd.worker() not in (None, old))
        shimd.reopen()
        restarts = shimd.control.stats(UUID)["restarts"]
        assert restarts == 5, f"{restarts} restarts counted of 5"
        shimd.control.remove(UUID)
        shimd.stop()


def flush_failed():
    """A device says once that writes were lost. Every flush says so, until the volume is made anew."""
    with Shimd() as shimd, shimd.slow_disk("slow", 4 * MIB, 1) as (disk, bytes_of):
        shimd.control.create(UUID, "v", disk, SECTORS)
        shimd.control.map(UUID, 1, [])
        fd = open_direct(shimd.volume("v"))
        os.fsync(fd)
        with open(f"{bytes_of}.flush-fails", "w"):
            pass
        for _ in range(2):
            assert error_of(os.fsync, fd) == errno.EIO
        assert not os.path.exists(f"{bytes_of}.flush-fails"), "the device was never asked"
        for _ in range(2):
            shimd.kill_worker()
            shimd.control.map(UUID, 1, [])
            assert error_of(os.fsync, fd) == errno.EIO, "a flush succeeded after one had failed"
            assert os.pwritev(fd, [page(1)], 0) == 4096
        os.close(fd)
        shimd.control.remove(UUID)
        shimd.control.create(UUID, "v", disk, SECTORS)
        fd = open_direct(shimd.volume("v"))
        os.fsync(fd)
        os.close(fd)
        shimd.control.remove(UUID)
        shimd.stop()


def flush_under_way_at_takeover():
    """How a flush ended that was under way when the worker was killed nobody can tell: that is counted, and told."""
    with Shimd() as shimd, shimd.slow_disk("slow", 4 * MIB, 500, "fixed") as (disk, bytes_of):
        shimd.control.create(UUID, "v", disk, SECTORS)
        fd = open_direct(shimd.volume("v"))
        os.fsync(fd)
        shimd.kill_worker()
        assert shimd.control.stats(UUID)["flushes_unknown"] == 0, "a flush that had ended is counted"
        flushing = Call(os.fsync, fd)
        wait_until("the flush is under way", lambda: shimd.control.stats(UUID)["in_flight"] == 1)
        time.sleep(0.1)
        shimd.kill_worker()
        assert flushing.end("the flush").error == 0
        assert shimd.control.stats(UUID)["flushes_unknown"] == 1
        assert shimd.text().count("flush-result-unknown") == 1, shimd.text()
        shimd.kill_worker()
        assert shimd.control.stats(UUID)["flushes_unknown"] == 1, "it is forgotten, or counted again"
        # An ordinary stop waits for the flush, and keeps its error.
        with open(f"{bytes_of}.flush-fails", "w"):
            pass
        flushing = Call(os.fsync, fd)
        wait_until("the flush is under way", lambda: shimd.control.stats(UUID)["in_flight"] == 1)
        old = shimd.worker()
        os.kill(old, signal.SIGTERM)
        assert flushing.end("the flush").error == errno.EIO
        wait_until("a new worker", lambda: shimd.worker() not in (None, old))
        shimd.reopen()
        assert error_of(os.fsync, fd) == errno.EIO
        assert shimd.control.stats(UUID)["flushes_unknown"] == 1
        os.close(fd)
        shimd.control.remove(UUID)
        shimd.control.create(UUID, "v", disk, SECTORS)
        assert shimd.control.stats(UUID)["flushes_unknown"] == 0, "of the volume before"
        shimd.control.remove(UUID)
        shimd.stop()


def lock_error(path, how=fcntl.LOCK_EX):
    with open(path, "rb") as file:
        return error_of(fcntl.flock, file, how | fcntl.LOCK_NB)


def image_is_claimed():
    """An image file belongs to one volume of all the dek-shimd there are, also while no worker lives."""
    with Shimd() as first, Shimd() as second:
        image = first.image("v.img", 4 * MIB)
        for flags in (0, client.VOLUME_READONLY):
            with open(image, "rb") as somebody:
                fcntl.flock(somebody, fcntl.LOCK_SH)
                assert error_of(lambda f=flags: first.control.create(UUID, "v", image, SECTORS, flags=f)) == errno.EBUSY
            first.control.create(UUID, "v", image, SECTORS, flags=flags)
            assert error_of(second.control.create, UUID, "w", image, SECTORS) == errno.EBUSY, "a second volume over it"
            assert lock_error(image, fcntl.LOCK_SH) == errno.EWOULDBLOCK
            worker = first.worker()
            first.process.send_signal(signal.SIGSTOP)
            os.kill(worker, signal.SIGKILL)
            wait_until("it is dead", lambda pid=worker: state_of(pid) == "Z")
            assert error_of(second.control.create, UUID, "w", image, SECTORS) == errno.EBUSY, "let go with the worker"
            first.process.send_signal(signal.SIGCONT)
            wait_until("a new worker", lambda pid=worker: first.worker() not in (None, pid))
            first.reopen()
            assert error_of(second.control.create, UUID, "w", image, SECTORS) == errno.EBUSY
            first.control.remove(UUID)
            assert lock_error(image) == 0, "still claimed after removal"
            # What cannot be made claims nothing.
            assert error_of(first.control.create, UUID, "v", image, 2 * SECTORS) == errno.ENXIO
            assert lock_error(image) == 0
        second.control.create(UUID, "w", image, SECTORS)
        second.control.remove(UUID)
        first.stop()
        second.stop()


def state_of(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0]


def more_reads_than_memory():
    """More large reads than a lane has memory for, all of which must wait half-way: those that had no memory yet get what
    the others give back."""
    count, size = 24, 128 * 1024
    with Shimd("--threads", "1") as shimd, shimd.slow_disk("slow", 4 * MIB, 200, "fixed") as (disk, bytes_of):
        with open(bytes_of, "r+b") as file:
            data = os.urandom(count * size)
            file.write(data)
        shimd.control.create(UUID, "v", disk, SECTORS)
        ranges = [(at, 8) for at in range(0, count * size // 512, 16)]
        shimd.control.map(UUID, 1, ranges, kind=client.MAP_RESERVED)  # readable, in more pieces than go at once
        fd, memory = open_direct(shimd.volume("v")), [mmap.mmap(-1, size) for _ in range(count)]
        reads = [Call(os.preadv, fd, [memory[i]], i * size) for i in range(count)]
        wait_until("all have come", lambda: shimd.control.stats(UUID)["in_flight"] == count)
        token = shimd.control.quiesce(UUID, 0, SECTORS, timeout_ms=5000)
        assert all(r.is_alive() for r in reads)
        shimd.control.release(UUID, token)
        for i, read in enumerate(reads):
            assert read.end("a read").result == size and memory[i][:] == data[i * size:(i + 1) * size]
        os.close(fd)
        shimd.control.remove(UUID)
        shimd.stop()


def main():
    tests = [kept_out_of_sight, under_way_when_the_connection_ends, cannot_be_taken_on,
             killed_before_it_serves, flush_failed, flush_under_way_at_takeover, image_is_claimed, more_reads_than_memory]
    for test in [t for t in tests if t.__name__ in sys.argv[1:]] or tests:
        began = time.monotonic()
        test()
        print(f"{time.monotonic() - began:.2f} s: {test.__name__}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
