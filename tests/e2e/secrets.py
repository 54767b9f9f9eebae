#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""No key where it does not belong: looks for imported keys, whole and either half, raw, in hex and in base64, in logs,
argv, environment, JSON, core dumps, headers, the keystore, the shim's open files, and in the memory of kcmd once the
volume is attached and the cache flushed. It finds every one of them where it was planted first."""
import base64
import glob
import os
import re
import resource
import subprocess

from dekstack import Dekstack

MIB = 1 << 20


def needles(key):
    """Every form to look for. base64 depends on where the key starts in its text, hence three shifts of it."""
    found = {}
    half = len(key) // 2
    for part, data in (("whole", key), ("first half", key[:half]), ("second half", key[half:])):
        found[f"{part}, raw"] = data
        found[f"{part}, hex"] = data.hex().encode()
        found[f"{part}, HEX"] = data.hex().upper().encode()
        for shift in range(3):
            text = base64.b64encode(b"\0" * shift + data)
            found[f"{part}, base64+{shift}"] = text[4 if shift else 0:len(text) - 4]
    return found


def search(haystack, key):
    return [form for form, needle in needles(key).items() if needle in haystack]


def planted(key):
    """The search finds what it is meant to find."""
    for form, needle in needles(key).items():
        assert form in search(b"junk" * 100 + needle + b"junk", key), f"planted but not found: {form}"
    assert not search(os.urandom(1 << 16), key)


def memory(pid):
    """Every readable mapping of a process, one bytes object each."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            bounds, mode = line.split()[:2]
            if "r" not in mode or "[v" in line:
                continue
            start, end = (int(x, 16) for x in bounds.split("-"))
            try:
                mem.seek(start)
                yield line.strip(), mem.read(end - start)
            except (OSError, ValueError):
                continue


def in_memory(pid, key):
    return [f"{form} in {where}" for where, data in memory(pid) for form in search(data, key)]


def process_text(pid):
    text = b""
    for name in ("cmdline", "environ"):
        with open(f"/proc/{pid}/{name}", "rb") as file:
            text += file.read()
    return text


def open_files(pid):
    """What the process's descriptors to regular files (memfds among them) hold."""
    for fd in glob.glob(f"/proc/{pid}/fd/*"):
        try:
            if os.path.isfile(fd) and os.path.getsize(fd) < 64 * MIB:
                with open(fd, "rb") as file:
                    yield os.readlink(fd), file.read()
        except OSError:
            continue


def children(pid):
    out = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout
    return [int(p) for p in out.split()]


def core_of(pid, folder):
    """A core as a crash would leave it: the limit says no, and so does the dumpable flag."""
    before = set(os.listdir(folder))
    subprocess.run(["gcore", "-o", f"{folder}/core", str(pid)], capture_output=True)
    for name in set(os.listdir(folder)) - before:
        with open(f"{folder}/{name}", "rb") as file:
            yield name, file.read()


def dumpable(pid):
    with open(f"/proc/{pid}/limits") as file:
        limit = re.search(r"Max core file size +(\d+|unlimited)", file.read()).group(1)
    return os.stat(f"/proc/{pid}/maps").st_uid, limit


def exercise(dek, key, bits):
    dek.import_key(f"k{bits}", key)
    image = dek.image(f"k{bits}.img", 16 * MIB)
    texts = [dek.dekctl("--json", "protect", image, "--name", f"v{bits}", "--key", f"k{bits}")]
    with open(dek.node(f"v{bits}"), "r+b") as node:
        node.write(b"hello" * 10000)
    for args in (["status"], ["topology", f"v{bits}"], ["key", "list"], ["key", "show", f"k{bits}"], ["keystore", "show"],
                 ["header", "show", image], ["endpoint", "list"]):
        texts += [dek.dekctl("--json", *args), dek.dekctl(*args)]
    backup = f"{dek.work}/{bits}.header"
    dek.dekctl("header", "backup", image, backup)
    return image, "".join(texts).encode(), backup


def check(dek, key, image, texts, backup):
    def absent(where, data):
        found = search(data, key)
        assert not found, f"a key in {where}: {found}"

    absent("what dekctl printed", texts)
    absent("the logs", dek.logs())
    for path in [image, backup] + [p for p in glob.glob(f"{dek.state}/*") + glob.glob(f"{dek.run}/volumes/*")]:
        if os.path.isfile(path):
            with open(path, "rb") as file:
                absent(path, file.read())
    for pid in [dek.kcmd.pid, dek.shimd.pid, *children(dek.shimd.pid)]:
        absent(f"argv or environment of {pid}", process_text(pid))
        for where, data in open_files(pid):
            absent(f"an open file of {pid}: {where}", data)
        assert dumpable(pid)[1] == "0", f"{pid} may dump core"
    for name, data in core_of(dek.kcmd.pid, dek.work):
        absent(f"a core of kcmd: {name}", data)


def main():
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))  # the daemons forbid it themselves
    dek = Dekstack(kcmd_args=["--cache-lifetime", "3600"])
    for bits, size in ((256, 32), (512, 64)):
        key = os.urandom(size)
        planted(key)
        image, texts, backup = exercise(dek, key, bits)
        assert in_memory(dek.kcmd.pid, key), "the search does not see the cached key in kcmd: it would see nothing"
        assert any(in_memory(p, key) for p in children(dek.shimd.pid)), "nor the key in the shim's worker"
        assert not in_memory(dek.shimd.pid, key), "the shim's parent holds a key"
        dek.dekctl("cache", "flush")
        left = in_memory(dek.kcmd.pid, key)
        assert not left, f"kcmd still holds the key after the flush: {left}"
        check(dek, key, image, texts, backup)
        dek.dekctl("detach", f"v{bits}")
        left = [where for p in children(dek.shimd.pid) for where in in_memory(p, key)]
        assert not left, f"the worker still holds the key after detach: {left}"
        print(f"ok: no trace of a {bits}-bit key")
    dek.close()


main()
