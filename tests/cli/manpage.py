#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""dekctl(8) and --help tell the same: manpage.py DEKCTL PAGE. Every command and every option of it stands in the
page, under that command; the page names none that --help does not know; and it and the pages beside it have no
formatting errors."""
import glob
import os
import re
import subprocess
import sys

dekctl, page = sys.argv[1:]
problems = []


def output(*argv):
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


def subcommands(text):
    part = text.partition("Subcommands:\n")[2]
    return re.findall(r"^  ([a-z]+) ", part, re.M)


def commands():
    for word in subcommands(output(dekctl, "--help")):
        inner = subcommands(output(dekctl, word, "--help"))
        yield from (f"{word} {name}" for name in inner) if inner else [word]


def options(*command):
    text = output(dekctl, *command, "--help").partition("Every command takes")[0]
    return set(re.findall(r"^ +(?:-h,)?(--[a-z-]+)", text, re.M)) - {"--help"}


def paragraphs(text):
    """The page by its headings of commands: {"key import": text}."""
    found, current = {}, None
    for line in text.splitlines():
        heading = re.match(r" {5}dekctl ((?:key|keystore|header|endpoint|cache) [a-z]+|[a-z]+)\b", line)
        if heading:
            current = heading[1]
        elif re.match(r"^[A-Z]| {3}[A-Z]", line):
            current = None
        if current:
            found[current] = found.get(current, "") + line + "\n"
    return found


plain = subprocess.run(f"mandoc -T ascii -O width=100 '{page}' | col -b | expand", shell=True, capture_output=True,
                       text=True, check=True).stdout
top, _, body = plain.partition("   Volumes\n")
told = paragraphs("   Volumes\n" + body.partition("\nENVIRONMENT")[0])
known = set(commands())
if len(known) < 30:
    problems.append(f"--help lists {len(known)} commands only")

for name in sorted(known | set(told)):
    if name not in told or name not in known:
        problems.append(f"{name}: only in {'--help' if name in known else 'the page'}")
        continue
    in_help, in_page = options(*name.split()), set(re.findall(r"(?<![\w-])--[a-z-]+", told[name]))
    problems += [f"{name}: {o} is not in the page" for o in sorted(in_help - in_page)]
    problems += [f"{name}: {o} is only in the page" for o in sorted(in_page - in_help - {"--json"})]
problems += [f"{o} is not in the page" for o in sorted(options() - set(re.findall(r"--[a-z-]+", top)))]

pages = sorted(glob.glob(f"{os.path.dirname(page)}/*.[48]"))
if page not in pages or len(pages) < 5:
    problems.append(f"few pages beside {page}")
for each in pages:
    problems += output("mandoc", "-T", "lint", "-W", "warning", each).splitlines()
    problems += subprocess.run(["man", "--warnings", "-l", each], capture_output=True, text=True, check=False,
                               env={"MANPAGER": "cat", "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}).stderr.splitlines()
print("\n".join(problems) or f"{len(known)} commands agree with the page")
sys.exit(bool(problems))
