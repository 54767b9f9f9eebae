# SPDX-License-Identifier: Apache-2.0
"""A dek-shimd of its own for one test."""
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import client  # noqa: E402

BUILD = os.environ.get("DEK_BUILD", os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../build"))
SHIMD = f"{BUILD}/kernel-shim/fuse/dek-shimd"


class Shimd:
    def __init__(self, *arguments, folder="/dev/shm"):
        self.work = tempfile.mkdtemp(prefix="dek-shim-test.", dir=folder)
        self.dir, self.arguments = f"{self.work}/shim", list(arguments)
        self.log = open(f"{self.work}/shimd.log", "ab")
        self.start()

    def start(self):
        self.process = subprocess.Popen([SHIMD, "--dir", self.dir, *self.arguments], stderr=self.log, stdout=self.log)
        self.control = client.Control(self.dir)

    def image(self, name, size):
        path = f"{self.work}/{name}"
        with open(path, "wb") as file:
            file.truncate(size)
        return path

    @contextlib.contextmanager
    def slow_disk(self, name, size, milliseconds, *how):
        """(path of a disk that takes its time, path of its bytes)"""
        mount, bytes_of = f"{self.work}/{name}.slow", self.image(name, size)
        os.mkdir(mount)
        process = subprocess.Popen([f"{BUILD}/tests/shim/slowfs", bytes_of, mount, str(milliseconds), *how])
        try:
            while not os.path.exists(f"{mount}/disk"):
                assert process.poll() is None, "slowfs does not start"
                time.sleep(0.005)
            yield f"{mount}/disk", bytes_of
        finally:
            subprocess.run(["umount", "-l", mount], check=False)
            process.terminate()
            process.wait(30)

    def volume(self, name):
        return f"{self.dir}/volumes/{name}"

    def worker(self):
        try:
            with open(f"{self.dir}/worker.pid") as file:
                return int(file.read())
        except (OSError, ValueError):
            return None

    def kill_worker(self, expected=None):
        """Kills the worker and opens the next one's control file. Returns the pid killed."""
        pid = self.worker()
        os.kill(pid, signal.SIGKILL)
        end = time.monotonic() + 30
        while self.worker() in (None, pid):
            if time.monotonic() > end:
                raise AssertionError("no new worker within 30 s")
            time.sleep(0.001)
        self.reopen()
        return pid

    def reopen(self):
        """The control file of the worker that serves now: the last one's is dead."""
        end = time.monotonic() + 30
        while True:
            try:
                self.control.close()
            except OSError:
                pass
            try:
                self.control = client.Control(self.dir)
                self.control.version()
                return
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.002)

    def text(self):
        with open(f"{self.work}/shimd.log") as log:
            return log.read()

    def stop(self, seconds=60):
        self.control.close()
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(seconds)
        assert status == 0, f"dek-shimd ended with {status}:\n{self.text()}"

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()
        if "--keep" not in sys.argv:
            shutil.rmtree(self.work, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind:
            print(f"the log of dek-shimd:\n{self.text()[-3000:]}", file=sys.stderr)
        self.close()
