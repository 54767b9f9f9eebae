#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""dekctl in front of a person: prompts.py DEKCTL FAKE_KCMD. On a pseudo-terminal: questions without echo, asked twice
when something is set, confirmations, the sign of life, Ctrl-C; and the echo is on again after each."""
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time

DEKCTL, FAKE = map(os.path.realpath, sys.argv[1:3])
work = tempfile.mkdtemp(prefix="dekctl-prompts.")
failures = []
arguments = []


def script(method, kind, text):
    for old in os.listdir(f"{work}/answers"):
        if old.startswith(f"{method}.") and not old.endswith("output"):
            os.unlink(f"{work}/answers/{old}")
    with open(f"{work}/answers/{method}.{kind}", "w") as file:
        file.write(text)


def calls():
    """The methods called since the last time; what they were called with is in `arguments`."""
    if not os.path.exists(f"{work}/calls"):
        return []
    with open(f"{work}/calls") as file:
        lines = file.read().splitlines()
    methods = [line.split()[0] for line in lines]
    arguments[:] = [line.partition(" ")[2] for line in lines]
    os.unlink(f"{work}/calls")
    return methods


def received(name):
    with open(f"{work}/{name}", "rb") as file:
        return file.read()


def converse(args, turns, seconds=30):
    """Runs dekctl on a terminal of its own; turns are (text to wait for, what to type). Returns (exit, all output)."""
    pid, fd = pty.fork()
    if pid == 0:
        for signum in (signal.SIGINT, signal.SIGQUIT):  # a shell's background job ignores them
            signal.signal(signum, signal.SIG_DFL)
        os.execv(DEKCTL, [DEKCTL, "--socket", f"{work}/bus", *args])
    seen, at, end = b"", 0, time.monotonic() + seconds
    turns = list(turns)
    while time.monotonic() < end:
        try:
            if select.select([fd], [], [], 0.05)[0]:
                seen += os.read(fd, 4096)
        except OSError:
            break
        if turns and turns[0][0].encode() in seen[at:]:
            at = len(seen)
            os.write(fd, turns.pop(0)[1].encode())
    else:
        os.kill(pid, signal.SIGKILL)
        failures.append(f"dekctl {args} did not end: {seen!r}")
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    echo = bool(termios.tcgetattr(fd)[3] & termios.ECHO)
    os.close(fd)
    return status, seen.decode().replace("\r\n", "\n"), echo


def check(what, true, detail=""):
    if not true:
        failures.append(f"{what} {detail!r}")


def main():
    os.makedirs(f"{work}/answers")
    fake = subprocess.Popen([FAKE, f"{work}/bus", work], stdout=subprocess.PIPE)
    fake.stdout.readline()
    try:
        for method in ("KeystoreInit", "KeystoreUnlock", "KeyDestroy", "Erase", "KeyExport"):
            script(method, "json", "{}")
        asks_twice()
        asks_once()
        confirms()
        shows_life()
    finally:
        fake.kill()
        fake.wait()
        shutil.rmtree(work)
    print("\n".join(f"FAILED: {f}" for f in failures) or "dekctl asks as it should")
    sys.exit(bool(failures))


def asks_twice():
    word = "correct horse"
    init = ["keystore", "init", "--passphrase"]
    status, seen, echo = converse(init, [("Passphrase: ", word + "\n"), ("(again): ", word + "\n")])
    check("a passphrase set twice is taken", status == 0 and calls() == ["KeystoreInit"], seen)
    check("it arrives without its newline", received("KeystoreInit.fd0") == word.encode())
    check("nothing typed is shown", word not in seen, seen)
    check("the echo is on again", echo)
    status, seen, echo = converse(init, [("Passphrase: ", word + "\n"), ("(again): ", "other\n")])
    check("two different answers are refused", status == 1 and "the two answers differ" in seen and not calls(), seen)
    check("nothing typed is shown", word not in seen and "other" not in seen, seen)
    status, seen, echo = converse(init, [("Passphrase: ", "\n")])
    check("an empty answer is refused", status == 1 and "empty" in seen and not calls(), seen)
    for key, signum in (("\x03", signal.SIGINT), ("\x1c", signal.SIGQUIT)):
        status, seen, echo = converse(init, [("Passphrase: ", "abc" + key)])
        check(f"{signum!r} ends the question and dekctl", status == -signum and not calls(), seen)
        check("the echo is on again", echo and "abc" not in seen, seen)
    status, seen, echo = converse(init, [("Passphrase: ", "abc\x04\x04")])
    check("the end of input is no answer", status == 1 and "not answered" in seen and not calls(), seen)
    status, seen, echo = converse(["key", "export", "k", "--passphrase-file", "-"],
                                  [("Passphrase: ", word + "\n"), ("(again): ", word + "\n")])
    check("- on a terminal asks", status == 0 and calls() == ["KeyExport"] and word not in seen, seen)


def asks_once():
    for how, question in (("--passphrase", "Passphrase: "), ("--recovery", "Recovery key: ")):
        status, seen, echo = converse(["keystore", "unlock", how], [(question, "ABCD\n")])
        check(f"unlock {how} asks once", status == 0 and calls() == ["KeystoreUnlock"] and "again" not in seen, seen)
        check("what is typed arrives", received("KeystoreUnlock.fd0") == b"ABCD")
        check("and is not shown", "ABCD" not in seen and echo, seen)
    status, seen, _ = converse(["key", "import", "--name", "k", "--file", "-"], [])
    check("a key is not typed in", status == 1 and "standard input is a terminal" in seen and not calls(), seen)


def confirms():
    for args, method in ((["key", "destroy", "k"], "KeyDestroy"), (["erase", "/dev/x"], "Erase"),
                         (["erase", "/dev/x", "--destroy-keys"], "Erase")):
        status, seen, _ = converse(args, [("Type yes: ", "y\n")])
        check("anything but yes changes nothing", status == 1 and "not confirmed" in seen and not calls(), seen)
        status, seen, _ = converse(args, [("Type yes: ", "yes\n")])
        check("yes goes on", status == 0 and calls() == [method], seen)
        check("and is as good as --force", '"force":true' in arguments[0], arguments)
        status, seen, _ = converse([*args, "--force"], [])
        check("--force does not ask", status == 0 and calls() == [method] and "Type" not in seen, seen)


def shows_life():
    script("Detach", "silent", "")
    status, seen, _ = converse(["detach", "secure", "--timeout", "2"], [])
    check("a long call shows that it goes on", status == 1 and "detach secure" in seen and " 1 s" in seen, seen)
    check("and the line is cleared", "\r\x1b[Kdekctl: detach secure: kcmd did not answer within 2 s" in seen, seen)
    calls()


main()
