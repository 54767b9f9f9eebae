#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Kills every change of a keystore at every durable call, before, after and in the middle of it.

killpoints.py KEYSTORE_OPS KILLPOINT_LIBRARY

After each kill the keystore must open and be the old or the new one. That the calls reach the disk in
this order when the power fails is another test's business.
"""
import os
import shutil
import subprocess
import sys
import tempfile

CHANGES = ["init", "put", "destroy", "enrol", "remove", "backup", "restore"]
MOMENTS = ["torn", "after"]  # before one call is after the one before it, but for the first


class Bench:
    def __init__(self, ops, library, folder):
        self.ops, self.library = ops, library
        self.template = os.path.join(folder, "template")
        self.place = os.path.join(folder, "place")
        self.count = os.path.join(folder, "count")
        os.mkdir(self.template)

    def run(self, what, **environment):
        return subprocess.run([self.ops, what, self.place], env={**os.environ, **environment},
                              capture_output=True, text=True, check=False)

    def fresh(self, change):
        shutil.rmtree(self.place, ignore_errors=True)
        if change == "init":
            os.mkdir(self.place)
        else:
            shutil.copytree(self.template, self.place)

    def interrupt(self, change, at, moment):
        self.fresh(change)
        return self.run(change, LD_PRELOAD=self.library, KILLPOINT_PREFIX=self.place,
                        KILLPOINT_AT=str(at), KILLPOINT_WHEN=moment, KILLPOINT_COUNT=self.count)

    def check(self, change, told):
        answer = self.run("check-" + change)
        if answer.returncode != 0 or answer.stdout.strip() not in ("old", "new"):
            sys.exit(f"{change}, {told}: {answer.stdout}{answer.stderr}")
        return answer.stdout.strip()

    def prepare(self):
        os.mkdir(self.place)
        if self.run("prepare").returncode != 0:
            sys.exit("the keystore to start from cannot be made")
        shutil.rmtree(self.template)
        os.rename(self.place, self.template)

    def sweep(self, change):
        undisturbed = self.interrupt(change, 0, "before")
        if undisturbed.returncode != 0:
            sys.exit(f"{change} fails undisturbed: {undisturbed.stderr}")
        with open(self.count, encoding="ascii") as file:
            points = int(file.read())
        if points < 5 or self.check(change, "undisturbed") != "new":
            sys.exit(f"{change} did not happen, or not where it is watched ({points} points)")
        seen = {"old": 0, "new": 0}
        moments = [(1, "before")] + [(at, when) for at in range(1, points + 1) for when in MOMENTS]
        for at, when in moments:
            killed = self.interrupt(change, at, when)
            told = f"killed {when} call {at} of {points}"
            if killed.returncode != -9:
                sys.exit(f"{change}, {told}: ended by itself, {killed.returncode}")
            outcome = self.check(change, told)
            seen[outcome] += 1
            if (at, when, outcome) == (1, "before", "new"):
                sys.exit(f"{change} is done before it begins")
            if (at, when, outcome) == (points, "after", "old"):
                sys.exit(f"{change} is not done when its last call is")
        print(f"{change}: {points} points, {seen['old']} times the old one, {seen['new']} times the new")

    def stale_journals(self):
        """The rollback journals that kills of one change leave."""
        at, found = 1, []
        while self.interrupt("put", at, "after").returncode == -9:
            journal = os.path.join(self.place, "ks-journal")
            if os.path.exists(journal) and os.path.getsize(journal) > 512:
                with open(journal, "rb") as file:
                    found.append(file.read())
            at += 1
        return found

    def sweep_stale_journals(self):
        """A journal whose keystore is gone or broken must not be applied to the one that takes its place."""
        journals = self.stale_journals()
        if not journals:
            sys.exit("no kill left a journal")
        for journal in journals:
            for change, old in (("restore", None), ("restore", b"x" * 20480), ("init", None)):
                self.fresh("put")
                os.remove(os.path.join(self.place, "ks"))
                if old is not None:
                    with open(os.path.join(self.place, "ks"), "wb") as file:
                        file.write(old)
                with open(os.path.join(self.place, "ks-journal"), "wb") as file:
                    file.write(journal)
                done = self.run(change)
                if done.returncode != 0 or self.check(change, "beside a stale journal") != "new":
                    sys.exit(f"{change} beside a stale journal: {done.stderr}")
        print(f"{len(journals)} stale journals settled, three ways each")


def main():
    base = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="dek-killpoints-", dir=base) as folder:
        bench = Bench(sys.argv[1], sys.argv[2], folder)
        bench.prepare()
        for change in sys.argv[3:] or CHANGES:
            bench.sweep(change)
        bench.sweep_stale_journals()


if __name__ == "__main__":
    main()
