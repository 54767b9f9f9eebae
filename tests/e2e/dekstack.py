# SPDX-License-Identifier: Apache-2.0
"""A dekstack of its own for one test: dek-shimd and kcmd in a temporary folder, dekctl against them."""
import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

BUILD = os.environ.get("DEK_BUILD", os.path.join(os.path.dirname(__file__), "../../build"))
SHIMD, KCMD, DEKCTL = (f"{BUILD}/kernel-shim/fuse/dek-shimd", f"{BUILD}/daemon/kcm/kcmd", f"{BUILD}/utils/dekctl")


def eventually(what, true, seconds=20):
    """Waits until `true()` holds; fails the test with `what` otherwise."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}")


class Dekstack:
    def __init__(self, shimd_args=(), kcmd_args=(), keystore=True, state=None):
        self.work = tempfile.mkdtemp(prefix="dekstack-e2e.", dir="/var/tmp")
        self.run, self.state, self.dev = f"{self.work}/run", state or f"{self.work}/state", f"{self.work}/dev"
        self.shim_dir, self.socket = f"{self.run}/shim", f"{self.run}/bus"
        for folder in (self.shim_dir, self.state, self.dev):
            os.makedirs(folder, exist_ok=True)
        self.shimd_args, self.kcmd_args = list(shimd_args), list(kcmd_args)
        self.shimd = self.kcmd = None
        atexit.register(self.close)
        self.start_shimd()
        self.start_kcmd()
        if keystore:
            self.dekctl("keystore", "init", "--file", f"{self.state}/master.key")

    def _spawn(self, name, argv):
        with open(f"{self.work}/{name}.log", "ab") as log:
            return subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def start_shimd(self):
        self.shimd = self._spawn("shimd", [SHIMD, "--dir", self.shim_dir, *self.shimd_args])
        eventually("the shim's control file", lambda: os.path.exists(f"{self.shim_dir}/control/control"))

    def start_kcmd(self, wait=True):
        self.kcmd = self._spawn("kcmd", [KCMD, "--state-dir", self.state, "--run-dir", self.run, "--socket", self.socket,
                                         "--dev-dir", self.dev, *self.kcmd_args])
        if wait:
            eventually("kcmd answers", lambda: self.try_dekctl("version").returncode == 0)

    def try_dekctl(self, *args, stdin=None, timeout=60):
        return subprocess.run([DEKCTL, "--socket", self.socket, *map(str, args)], capture_output=True,
                              input=stdin, timeout=timeout)

    def dekctl(self, *args, stdin=None, timeout=60):
        done = self.try_dekctl(*args, stdin=stdin, timeout=timeout)
        if done.returncode != 0:
            raise AssertionError(f"dekctl {' '.join(map(str, args))}: exit {done.returncode}: {done.stderr.decode()}")
        return done.stdout.decode()

    def json(self, *args, **kwargs):
        return json.loads(self.dekctl("--json", *args, **kwargs))

    def status(self, name):
        return self.json("status", name)["volumes"][0]

    def image(self, name, size):
        path = f"{self.work}/{name}"
        with open(path, "wb") as file:
            file.truncate(size)
        return path

    def import_key(self, name, material):
        return self.json("key", "import", "--name", name, "--file", "-", stdin=material)["id"]

    def node(self, name):
        return f"{self.dev}/{name}"

    def worker_pid(self):
        with open(f"{self.shim_dir}/worker.pid") as file:
            return int(file.read())

    def kill_worker(self):
        old = self.worker_pid()
        os.kill(old, signal.SIGKILL)
        eventually("a new worker", lambda: self._new_worker(old))

    def _new_worker(self, old):
        try:
            return self.worker_pid() != old
        except (OSError, ValueError):
            return False

    def kill_kcmd(self):
        self.kcmd.kill()
        self.kcmd.wait()

    def logs(self):
        text = b""
        for name in ("shimd", "kcmd"):
            with open(f"{self.work}/{name}.log", "rb") as log:
                text += log.read()
        return text

    def close(self):
        if not self.work:
            return
        if self.kcmd and self.kcmd.poll() is None:
            try:
                for volume in self.json("status")["volumes"]:
                    self.try_dekctl("detach", volume["name"])
            except (AssertionError, ValueError, KeyError, subprocess.TimeoutExpired):
                pass
        for daemon in (self.kcmd, self.shimd):
            if daemon and daemon.poll() is None:
                daemon.terminate()
                try:
                    daemon.wait(20)
                except subprocess.TimeoutExpired:
                    daemon.kill()
                    daemon.wait()
        if "--keep" in sys.argv:
            print(f"kept: {self.work}")
        else:
            shutil.rmtree(self.work, ignore_errors=True)
        self.work = None


def open_direct(path, flags=os.O_RDWR):
    """An O_DIRECT descriptor: what is read comes from the volume, what is written is on it when write returns."""
    return os.open(path, flags | os.O_DIRECT)
