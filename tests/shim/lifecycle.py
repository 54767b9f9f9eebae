#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The processes of dek-shimd: one per directory, stopping and starting with descriptors kept by systemd's store (played
here), a kernel without FUSE_NOTIFY_RESEND, workers that die at once, and open files that hold no key."""
import array
import ctypes
import errno
import fcntl
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import client  # noqa: E402
from shimd import SHIMD, Shimd  # noqa: E402

UUID, MIB = b"\x21" * 16, 1 << 20
SECTORS = 4 * MIB // 512
PIDFD_GETFD = 438  # its system call


def page(byte):
    memory = mmap.mmap(-1, 4096)
    memory[:] = bytes([byte]) * 4096
    return memory


def keyed_volume(shimd, key, name="v", uuid=UUID, **options):
    shimd.control.create(uuid, name, shimd.image(f"{name}.img", 4 * MIB), SECTORS, **options)
    give_key(shimd, key, uuid)


def give_key(shimd, key, uuid=UUID):
    shimd.control.map(uuid, 1, [(0, 1024)])
    shimd.control.associate(uuid, key, [(0, 1024)])


def wait_until(what, true, seconds=20):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.005)


def one_per_directory():
    with Shimd() as shimd:
        keyed_volume(shimd, os.urandom(64))
        second = subprocess.run([SHIMD, "--dir", shimd.dir], capture_output=True, text=True, timeout=60)
        assert second.returncode == 1 and "another dek-shimd" in second.stderr, second
        shimd.control.version()  # and the first is as it was
        assert shimd.control.stats(UUID)["restarts"] == 0
        shimd.stop()
        assert not os.listdir(f"{shimd.dir}/volumes"), "files are left behind"
        with open("/proc/self/mountinfo") as mounts:
            assert shimd.dir not in mounts.read(), "mounts are left behind"


def usage():
    for arguments in (["--threads", "0"], ["--threads", "9"], ["--engine", "rot13"], ["--no-such-option"]):
        done = subprocess.run([SHIMD, *arguments], capture_output=True, timeout=60)
        assert done.returncode == 2, f"{arguments}: exit {done.returncode}"
    for argument in ("--help", "--version"):
        assert subprocess.run([SHIMD, argument], capture_output=True, timeout=60).returncode == 0


class Store:
    """systemd's descriptor store, as far as dek-shimd speaks to it."""

    def __init__(self, path):
        self.path, self.fds, self.states = path, {}, []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            message, ancillary, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(64))
            fields = dict(line.split("=", 1) for line in message.decode().splitlines() if "=" in line)
            fds = array.array("i")
            for _, _, data in ancillary:
                fds.frombytes(data)
            if "FDSTORE" in fields:
                self.fds[fields["FDNAME"]] = fds[0]
            elif "FDSTOREREMOVE" in fields:
                fd = self.fds.pop(fields["FDNAME"], None)
                if fd is not None:
                    os.close(fd)
            else:
                self.states.append(message.decode())

    def hand_over(self):
        """(shell words that start a program with the descriptors, fds to pass)"""
        names = sorted(self.fds)
        moves = "".join(f"exec {3 + i}<&{100 + i} {100 + i}<&-; " for i in range(len(names)))
        for i, name in enumerate(names):
            os.dup2(self.fds[name], 100 + i, inheritable=True)
        script = (f'{moves} LISTEN_PID=$$ LISTEN_FDS={len(names)} LISTEN_FDNAMES={":".join(names)} exec "$0" "$@"')
        return ["bash", "-c", script], [100 + i for i in range(len(names))]


def restarted_by_systemd():
    with Shimd(folder="/dev/shm") as shimd:
        shimd.stop()
        store = Store(f"{shimd.work}/notify")
        environment = {**os.environ, "NOTIFY_SOCKET": store.path}
        start = [SHIMD, "--dir", shimd.dir, "--fd-store"]
        shimd.process = subprocess.Popen(start, stderr=shimd.log, env=environment)
        shimd.control = client.Control(shimd.dir)
        wait_until("READY=1", lambda: any("READY=1" in s for s in store.states))
        key = os.urandom(64)
        keyed_volume(shimd, key)
        gone = b"\x22" * 16
        keyed_volume(shimd, key, "gone", gone)
        wait_until("the store has it", lambda: "v1.0" in store.fds)
        copy = os.dup(store.fds["v1.0"])  # systemd may take its time
        shimd.control.remove(gone)
        with open(f"{shimd.work}/gone.img", "rb") as image:
            fcntl.flock(image, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(copy)
        fd = os.open(shimd.volume("v"), os.O_RDWR | os.O_DIRECT)
        assert os.pwritev(fd, [page(1)], 0) == 4096
        for ending in (signal.SIGTERM, signal.SIGKILL):
            worker = shimd.worker()
            shimd.process.send_signal(ending)
            shimd.process.wait(60)
            wait_until("the worker ends", lambda pid=worker: not os.path.exists(f"/proc/{pid}"))
            wait_until("the store settles", lambda: len(store.fds) == 1 + 3)  # table, device, two of FUSE
            result = []
            waiting = threading.Thread(target=lambda: result.append(os.pwritev(fd, [page(2)], 4096)))
            waiting.start()
            time.sleep(0.2)
            assert not result, "a write passed with nobody there"
            words, fds = store.hand_over()
            shimd.process = subprocess.Popen([*words, *start], stderr=shimd.log, env=environment, pass_fds=fds)
            for handed in fds:
                os.close(handed)
            shimd.reopen()
            assert shimd.control.stats(UUID)["restarts"] > 0
            give_key(shimd, key)
            waiting.join(20)
            assert result == [4096], "the write did not survive the restart"
            back = mmap.mmap(-1, 8192)
            assert os.preadv(fd, [back], 0) == 8192 and back[:] == b"\1" * 4096 + b"\2" * 4096
        os.close(fd)
        shimd.control.remove(UUID)
        shimd.stop()


def without_resend():
    with Shimd("--no-resend", "--recover-ms", "60000") as shimd:
        assert not shimd.control.version()["caps"] & client.CAP_TAKEOVER
        key = os.urandom(64)
        keyed_volume(shimd, key)
        fd = os.open(shimd.volume("v"), os.O_RDWR | os.O_DIRECT)
        shimd.control.quiesce(UUID, 0, 1024)
        failed = []

        def write():
            try:
                os.pwritev(fd, [page(1)], 0)
            except OSError as error:
                failed.append(error.errno)

        # What waits when an orderly stop comes fails; the file itself goes on with the next worker.
        writer = threading.Thread(target=write)
        writer.start()
        wait_until("the write waits", lambda: shimd.control.stats(UUID)["waited"] == 1)
        old = shimd.worker()
        os.kill(old, signal.SIGTERM)
        writer.join(20)
        assert failed == [errno.EIO], failed
        wait_until("a new worker", lambda: shimd.worker() not in (None, old))
        shimd.reopen()
        give_key(shimd, key)
        assert os.pwritev(fd, [page(1)], 0) == 4096
        # After a crash open files are dead, and the name leads to a file that works.
        shimd.kill_worker()
        give_key(shimd, key)
        write()
        assert len(failed) == 2, "a write on the dead connection went through"
        os.close(fd)
        fd = os.open(shimd.volume("v"), os.O_RDWR | os.O_DIRECT)
        back = mmap.mmap(-1, 4096)
        assert os.preadv(fd, [back], 0) == 4096 and back[:] == b"\1" * 4096
        os.close(fd)
        shimd.control.remove(UUID)
        shimd.stop()


def killed_while_it_takes_over():
    """Without RESEND, what a worker took before it was killed is lost, also if it had not taken over all volumes yet: then
    files that are open get an error, and do not wait for an answer that nobody owes them."""
    other = b"\x24" * 16
    with Shimd("--no-resend", "--recover-ms", "60000") as shimd, shimd.slow_disk("slow", 4 * MIB, 1) as (disk, bytes_of):
        keyed_volume(shimd, os.urandom(64))
        shimd.control.create(other, "w", disk, SECTORS)
        fd, result = os.open(shimd.volume("v"), os.O_RDWR | os.O_DIRECT), []

        def write():
            try:
                result.append(os.pwritev(fd, [page(1)], 0))
            except OSError as error:
                result.append(error.errno)

        with open(f"{bytes_of}.stat-waits", "w"):
            pass
        old = shimd.worker()
        os.kill(old, signal.SIGTERM)
        wait_until("a new worker", lambda: shimd.worker() not in (None, old))
        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        time.sleep(0.5)  # the first volume is served, the second one's device does not answer
        os.kill(shimd.worker(), signal.SIGKILL)
        os.unlink(f"{bytes_of}.stat-waits")
        writer.join(10)
        assert result and result[0] in (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO), f"the write: {result or 'hangs'}"
        os.close(fd)
        shimd.reopen()
        shimd.control.remove(UUID)
        shimd.control.remove(other)
        shimd.stop()


def cpu_ticks(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return sum(map(int, stat.read().rsplit(")", 1)[1].split()[11:13]))


def no_worker_to_be_had():
    """When the holder cannot start a worker it tries again, neither never nor all the time."""
    with Shimd() as shimd:
        key = os.urandom(64)
        keyed_volume(shimd, key)
        fd = os.open(shimd.volume("v"), os.O_RDWR | os.O_DIRECT)
        holder, result = shimd.process.pid, []
        limits = resource.prlimit(holder, resource.RLIMIT_NOFILE)
        for _ in range(2):
            resource.prlimit(holder, resource.RLIMIT_NOFILE, (3, limits[1]))  # no room for a socket
            said, ticks = shimd.text().count("event=worker-start"), cpu_ticks(holder)
            old = shimd.worker()
            os.kill(old, signal.SIGKILL)
            writer = threading.Thread(target=lambda: result.append(os.pwritev(fd, [page(7)], 0)), daemon=True)
            writer.start()
            wait_until("it has failed twice", lambda n=said: shimd.text().count("event=worker-start") >= n + 2, 10)
            time.sleep(0.5)
            assert cpu_ticks(holder) - ticks < 20, "the holder spins"
            assert shimd.text().count("event=worker-start") < said + 20, "it tries all the time"
            resource.prlimit(holder, resource.RLIMIT_NOFILE, limits)
            wait_until("a worker", lambda pid=old: shimd.worker() not in (None, pid), 10)
            shimd.reopen()
            give_key(shimd, key)
            writer.join(20)
        assert result == [4096, 4096], result
        os.close(fd)
        # And it can be stopped in that state.
        resource.prlimit(holder, resource.RLIMIT_NOFILE, (3, limits[1]))
        said = shimd.text().count("event=worker-start")
        os.kill(shimd.worker(), signal.SIGKILL)
        wait_until("the pauses are long", lambda: shimd.text().count("event=worker-start") >= said + 5, 10)
        resource.prlimit(holder, resource.RLIMIT_NOFILE, limits)  # it needs some to clean up
        shimd.process.terminate()
        assert shimd.process.wait(10) == 0
        assert not os.listdir(f"{shimd.dir}/volumes"), "files are left behind"


def hung_up_and_alive():
    """A worker that is not gone yet, but whose socket is: its holder waits for it without spinning."""
    with Shimd() as shimd:
        holder, worker = shimd.process.pid, shimd.worker()
        with open(f"/proc/{worker}/cmdline") as file:
            words = file.read().split("\0")
        pidfd = os.pidfd_open(worker)
        theirs = ctypes.CDLL(None, use_errno=True).syscall(PIDFD_GETFD, pidfd, int(words[words.index("--worker") + 1]), 0)
        assert theirs >= 0, os.strerror(ctypes.get_errno())
        os.kill(worker, signal.SIGSTOP)
        socket.socket(fileno=theirs).shutdown(socket.SHUT_RDWR)
        os.close(pidfd)
        ticks = cpu_ticks(holder)
        time.sleep(0.5)
        ticks = cpu_ticks(holder) - ticks
        os.kill(worker, signal.SIGCONT)
        assert ticks < 8, f"the holder spins: {ticks} ticks in half a second"
        wait_until("another worker", lambda: shimd.worker() not in (None, worker))
        shimd.reopen()
        shimd.stop()


def orderly_worker_stop():
    """A worker that is asked to stop answers what it has begun; what waits is sent again to the next."""
    with Shimd() as shimd:
        key = os.urandom(64)
        keyed_volume(shimd, key)
        fd, result = os.open(shimd.volume("v"), os.O_RDWR | os.O_DIRECT), []
        shimd.control.quiesce(UUID, 0, 1024)
        writer = threading.Thread(target=lambda: result.append(os.pwritev(fd, [page(3)], 0)))
        writer.start()
        wait_until("the write waits", lambda: shimd.control.stats(UUID)["waited"] == 1)
        old = shimd.worker()
        os.kill(old, signal.SIGTERM)
        wait_until("a new worker", lambda: shimd.worker() not in (None, old))
        shimd.reopen()
        assert not result
        give_key(shimd, key)
        writer.join(20)
        assert result == [4096]
        os.close(fd)
        shimd.control.remove(UUID)
        shimd.stop()


def another_device():
    """Without its descriptors (none to restart from) nothing is taken for the device it was."""
    with Shimd() as shimd:
        image = shimd.image("d.img", 4 * MIB)
        shimd.control.create(UUID, "d", image, SECTORS)
        os.rename(image, image + ".away")
        shimd.image("d.img", 4 * MIB)
        shimd.kill_worker()  # the holder has the device open: a new name changes nothing
        shimd.control.map(UUID, 1, [])
        fd = os.open(shimd.volume("d"), os.O_RDWR | os.O_DIRECT)
        assert os.pwritev(fd, [page(5)], 0) == 4096
        os.close(fd)
        with open(image + ".away", "rb") as file:
            assert file.read(1) == b"\5"
        with open(image, "rb") as file:
            assert file.read(1) == b"\0"
        shimd.control.remove(UUID)
        shimd.stop()


def descriptors_lost():
    """Only the table survives: volumes are opened again by path, unless the path means another device by now."""
    with Shimd() as shimd:
        shimd.stop()
        store = Store(f"{shimd.work}/notify")
        environment = {**os.environ, "NOTIFY_SOCKET": store.path}
        start = [SHIMD, "--dir", shimd.dir, "--fd-store", "--recover-ms", "200"]
        shimd.process = subprocess.Popen(start, stderr=shimd.log, env=environment)
        shimd.control = client.Control(shimd.dir)
        other = b"\x23" * 16
        shimd.control.create(UUID, "same", shimd.image("same.img", 4 * MIB), SECTORS)
        shimd.control.create(other, "changed", shimd.image("changed.img", 4 * MIB), SECTORS)
        shimd.process.terminate()
        shimd.process.wait(60)
        wait_until("the store settles", lambda: len(store.fds) == 1 + 2 * 3)
        for name in [n for n in store.fds if n != "table"]:
            os.close(store.fds.pop(name))
        os.rename(f"{shimd.work}/changed.img", f"{shimd.work}/changed.img.away")
        shimd.image("changed.img", 4 * MIB)
        words, fds = store.hand_over()
        shimd.process = subprocess.Popen([*words, *start], stderr=shimd.log, env=environment, pass_fds=fds)
        shimd.reopen()
        listed = {e["name"]: e["flags"] for e in shimd.control.list()}
        assert listed == {"same": 0, "changed": client.ENDPOINT_FAILED}, listed
        for name, uuid, works in (("same", UUID, True), ("changed", other, False)):
            shimd.control.map(uuid, 1, [])
            fd = os.open(shimd.volume(name), os.O_RDWR | os.O_DIRECT)
            try:
                assert os.pwritev(fd, [page(6)], 0) == 4096 and works, f"{name}: a write passed"
            except OSError as error:
                assert error.errno == errno.EIO and not works, f"{name}: {error}"
            os.close(fd)
            shimd.control.remove(uuid)
        with open(f"{shimd.work}/changed.img", "rb") as file:
            assert not any(file.read()), "another device was written to"
        shimd.stop()


def cannot_start():
    with Shimd() as shimd:
        shimd.stop()
        os.rmdir(f"{shimd.dir}/volumes")
        with open(f"{shimd.dir}/volumes", "w"):
            pass
        done = subprocess.run([SHIMD, "--dir", shimd.dir], capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and "volumes" in done.stderr, done
        os.unlink(f"{shimd.dir}/volumes")
        done = subprocess.run(["unshare", "--mount", "sh", "-c", 'mount --bind /dev/null /dev/fuse && exec "$0" "$@"', SHIMD,
                               "--dir", shimd.dir], capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and "mounting" in done.stderr, done
        with open("/proc/self/mountinfo") as mounts:
            assert shimd.dir not in mounts.read()


def many_volumes_come_and_go():
    """Memory is for the most volumes at a time, not for all there ever were."""
    with Shimd() as shimd:
        image, sizes = shimd.image("m.img", 4 * MIB), []
        for _ in range(6):
            for _ in range(50):
                shimd.control.create(UUID, "m", image, SECTORS)
                shimd.control.remove(UUID)
            with open(f"/proc/{shimd.worker()}/statm") as statm:
                sizes.append(int(statm.read().split()[1]) * 4096)
        # The heap takes its memory by 2 MiB, and some threads theirs late.
        assert sizes[5] - sizes[2] < MIB, f"resident bytes after 50, 100, ... 300 volumes: {sizes}"
        shimd.stop()


def no_key_in_open_files():
    with Shimd() as shimd:
        key = os.urandom(64)
        keyed_volume(shimd, key)
        halves = [key[:32], key[32:]]
        searched, found = 0, []
        for pid in (shimd.process.pid, shimd.worker()):
            for number in os.listdir(f"/proc/{pid}/fd"):
                path = f"/proc/{pid}/fd/{number}"
                target = os.readlink(path)
                if "memfd:" in target or target.startswith("/dev/shm"):
                    with open(path, "rb") as file:
                        data = file.read()
                    searched += len(data)
                    found += [target for half in halves if half in data]
        assert searched > 100000, "the volume table was not searched"
        assert not found, f"a key is in {found}"
        shimd.control.remove(UUID)
        shimd.stop()


def main():
    tests = [usage, one_per_directory, orderly_worker_stop, restarted_by_systemd, without_resend,
             killed_while_it_takes_over, no_worker_to_be_had, hung_up_and_alive, another_device, descriptors_lost,
             cannot_start, many_volumes_come_and_go, no_key_in_open_files]
    for test in [t for t in tests if t.__name__ in sys.argv[1:]] or tests:
        began = time.monotonic()
        test()
        print(f"{time.monotonic() - began:.2f} s: {test.__name__}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
