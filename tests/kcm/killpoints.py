#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Kills an operation of the controller at every durable call, before, after and in the middle of it.

killpoints.py CONTROLLER_OPS KILLPOINT_LIBRARY

After each kill a controller that starts afresh must find the old state or the new one: header whole or as it was,
keystore old or new, no stale record, and what is there attaches. A torn write ends at a 512-byte sector. The order in which
a failing disk would see the calls is another test's business.
"""
import os
import shutil
import subprocess
import sys
import tempfile

MOMENTS = ["before", "torn", "after"]
OPERATIONS = ["protect", "attach", "erase", "restore", "recover", "resize", "replace", "key"]


class Bench:
    def __init__(self, ops, library, folder):
        self.ops, self.library, self.folder = ops, library, folder
        self.place = os.path.join(folder, "place")
        self.count = os.path.join(folder, "count")

    def run(self, what, **environment):
        return subprocess.run([self.ops, what, self.place], env={**os.environ, **environment},
                              capture_output=True, text=True, check=False)

    def prepare(self, operation):
        shutil.rmtree(self.place, ignore_errors=True)
        os.mkdir(self.place)
        made = self.run("prepare-" + operation)
        if made.returncode != 0:
            sys.exit(f"{operation}: cannot be prepared: {made.stderr}")
        template = os.path.join(self.folder, "template-" + operation)
        os.rename(self.place, template)
        return template

    def interrupt(self, operation, template, at, moment):
        shutil.rmtree(self.place, ignore_errors=True)
        subprocess.run(["cp", "-a", "--sparse=always", template, self.place], check=True)
        return self.run(operation, LD_PRELOAD=self.library, KILLPOINT_PREFIX=self.place + "/",
                        KILLPOINT_AT=str(at), KILLPOINT_WHEN=moment, KILLPOINT_SECTOR="512", KILLPOINT_COUNT=self.count)

    def check(self, operation, told):
        answer = self.run("check-" + operation)
        if answer.returncode != 0 or answer.stdout.strip() not in ("old", "new"):
            sys.exit(f"{operation}, {told}: {answer.stdout}{answer.stderr}")
        return answer.stdout.strip()

    def sweep(self, operation):
        template = self.prepare(operation)
        undisturbed = self.interrupt(operation, template, 0, "before")
        if undisturbed.returncode != 0:
            sys.exit(f"{operation} fails undisturbed: {undisturbed.stderr}")
        with open(self.count, encoding="ascii") as file:
            points = int(file.read())
        if points < 3 or self.check(operation, "undisturbed") != "new":
            sys.exit(f"{operation} did not happen, or not where it is watched ({points} points)")
        seen = {"old": 0, "new": 0}
        for at in range(1, points + 1):
            for moment in MOMENTS:
                killed = self.interrupt(operation, template, at, moment)
                told = f"killed {moment} call {at} of {points}"
                if killed.returncode != -9:
                    sys.exit(f"{operation}, {told}: ended by itself, {killed.returncode}: {killed.stderr}")
                outcome = self.check(operation, told)
                seen[outcome] += 1
                if (at, moment, outcome) == (1, "before", "new"):
                    sys.exit(f"{operation} is done before it begins")
        if min(seen.values()) == 0:
            sys.exit(f"{operation}: never {'old' if seen['old'] == 0 else 'new'} in {points} points")
        print(f"{operation}: {points} points, {seen['old']} times the old state, {seen['new']} times the new one")


def main():
    with tempfile.TemporaryDirectory(prefix="kcm-kill-", dir=os.environ.get("TMPDIR")) as folder:
        bench = Bench(os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), os.path.realpath(folder))
        for operation in OPERATIONS:
            bench.sweep(operation)


main()
