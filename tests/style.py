#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Every source file names its licence in an SPDX line, the right one for its folder; no function is longer than
100 lines and no file than 600 (ctags, where it is installed, finds the functions)."""
import json
import shutil
import subprocess
import sys

SOURCES = (".c", ".h", ".cpp", ".hpp", ".sh", ".py", ".txt", ".cmake", ".rules", ".service", ".conf", ".md")
EXEMPT = ("LICENSES/",)
DUAL = ("libdekproto/", "kernel-shim/core/")


def licence_for(path):
    if path.startswith(DUAL):
        return "GPL-2.0 OR Apache-2.0"
    if path.startswith("kernel-shim/linux/"):
        return "GPL-2.0"
    return "Apache-2.0"


def wrong_licence(path):
    with open(path, errors="replace") as file:
        head = [next(file, "") for _ in range(5)]
    line = next((l for l in head if "SPDX-License-Identifier:" in l), None)
    if line is None:
        return "no SPDX line"
    found = line.split("SPDX-License-Identifier:")[1].replace("*/", "").replace("-->", "").strip()
    return None if found == licence_for(path) else f"SPDX says {found}, should be {licence_for(path)}"


def long_functions(paths):
    if not shutil.which("ctags"):
        return []
    run = subprocess.run(["ctags", "--output-format=json", "--fields=+ne", "-f", "-", *paths],
                         capture_output=True, text=True)
    found = []
    for line in run.stdout.splitlines():
        try:
            tag = json.loads(line)
        except ValueError:
            return []
        if tag.get("kind") == "function" and tag.get("end", 0) - tag.get("line", 0) >= 100:
            found.append(f"{tag['path']}:{tag['line']}: {tag['name']} is {tag['end'] - tag['line'] + 1} lines long")
    return found


def main():
    files = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.split("\n")
    files = [f for f in files if f.endswith(SOURCES) and not f.startswith(EXEMPT)]
    problems = [f"{f}: {why}" for f in files if (why := wrong_licence(f))]
    code = [f for f in files if f.endswith((".c", ".h", ".cpp", ".hpp"))]
    problems += long_functions(code)
    for f in code:
        with open(f, errors="replace") as file:
            count = sum(1 for _ in file)
        if count > 600:
            problems.append(f"{f}: {count} lines, 600 are enough")
    print("\n".join(problems) or f"{len(files)} files have their licence and a sane size")
    return bool(problems)


sys.exit(main())
