#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What an administrator meets on the whole stack: defaults, warnings, a sealed keystore after a restart, a provider
that hangs, the wrong key under the right ID, what is not to be had yet. Exit codes and sentences."""
import glob
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../shim"))
import client  # noqa: E402
from dekstack import DEKCTL, Dekstack, eventually  # noqa: E402

MIB = 1 << 20


def failed(dek, words, *args, code=1, **kwargs):
    done = dek.try_dekctl(*args, **kwargs)
    text = done.stderr.decode()
    assert done.returncode == code, f"{args}: exit {done.returncode}, not {code}: {text}{done.stdout.decode()}"
    for word in words:
        assert word in text, f"{args}: no word of {word!r} in {text!r}"


def warned(dek, words, *args):
    done = dek.try_dekctl(*args)
    text = done.stderr.decode()
    assert done.returncode == 0 and "warning: " in text, f"{args}: exit {done.returncode}: {text!r}"
    for word in words:
        assert word in text, f"{args}: no word of {word!r} in {text!r}"


def in_place(dek):
    """Without --encrypt everything but the data units of the header is encrypted."""
    image = dek.image("place.img", 16 * MIB)
    for extra, first, last in ((("--data-unit", "4096"), 1024, 1535), (("--header-at", "1032", "--data-unit", "4096"), 1032, 1543),
                               (("--header-at", "0", "--data-unit", "512"), 0, 511)):
        dek.dekctl("protect", image, "--name", "place", "--in-place", *extra)
        ranges = [(r["first"], r["last"]) for r in dek.json("topology", "place")["ranges"] if r["state"] == "keyed"]
        assert ranges == [r for r in ((0, first - 1), (last + 1, 32767)) if r[0] <= r[1]], ranges
        dek.dekctl("detach", "place")
        dek.dekctl("erase", image, "--force", "--header-at", first)
    print("ok: in place, all but the header")


def already_attached(dek):
    image = dek.image("twice.img", 16 * MIB)
    dek.dekctl("protect", image, "--name", "twice")
    failed(dek, ["is attached already", "dekctl detach twice first"], "attach", image)
    failed(dek, ["is attached already", "dekctl detach twice first"], "protect", image, "--name", "twice")
    failed(dek, ["userspace shim"], "switch", "twice", "--to", "software")
    failed(dek, ["not one of"], "switch", "twice", "--to", "sideways", code=2)
    assert dek.status("twice")["state"] == "up"
    warned(dek, ["in use by volume twice"], "key", "state", "twice", "deactivated")
    dek.dekctl("detach", "twice")
    print("ok: attached already, switched nowhere, warned of a key in use")


def wrong_key(dek):
    """The ID is right, the bytes are another key's: the key-check value tells, before anything is attached."""
    image = dek.image("wrong.img", 16 * MIB)
    key = dek.import_key("wrong", bytes(range(64)))
    dek.dekctl("protect", image, "--name", "wrong", "--key", "wrong")
    dek.dekctl("detach", "wrong")
    other = Dekstack()
    try:
        other.dekctl("key", "import", "--name", "wrong", "--id", key, "--file", "-", stdin=bytes(range(1, 65)))
        failed(other, [key, "not the key this volume was made with"], "attach", image)
        assert other.json("status")["volumes"] == []
    finally:
        other.close()
    print("ok: the wrong key is told by its check value")


def hanging_provider():
    """The filesystem under the keystore is frozen: whoever needs it waits for the deadline and no longer, and the rest
    of kcmd goes on."""
    work = "/var/tmp/dekstack-frozen.%d" % os.getpid()
    disk, state = f"{work}/disk", f"{work}/state"
    os.makedirs(state)
    with open(disk, "wb") as file:
        file.truncate(16 * MIB)
    subprocess.run(["mkfs.ext4", "-q", disk], check=True)
    subprocess.run(["mount", "-o", "loop", disk, state], check=True)
    dek = None
    try:
        dek = Dekstack(state=state, kcmd_args=["--provider-timeout", "2"])
        image = dek.image("v.img", 16 * MIB)
        subprocess.run(["fsfreeze", "-f", state], check=True)
        try:
            for what in (("key", "create", "--name", "k"), ("key", "create", "--name", "l")):
                began = time.monotonic()
                failed(dek, ["keystore", "not answer"], *what, timeout=30)
                assert time.monotonic() - began < 8, f"{what} took {time.monotonic() - began:.1f} s"
            dek.dekctl("version", timeout=10)
            assert dek.json("status", timeout=10)["volumes"] == []
        finally:
            subprocess.run(["fsfreeze", "-u", state], check=True)
        eventually("the keystore answers again", lambda: dek.try_dekctl("key", "create", "--name", "m").returncode == 0)
        dek.dekctl("protect", image, "--name", "v")
        dek.dekctl("detach", "v")
    finally:
        if dek:
            dek.close()
        subprocess.run(["umount", state], check=True)
        os.unlink(disk)
        os.rmdir(state)
        os.rmdir(work)
    print("ok: a provider that hangs costs its deadline")


def slots(dek):
    word = b"correct horse"
    dek.dekctl("keystore", "enrol", "--passphrase-file", "-", stdin=word)
    failed(dek, ["slot 2 has this passphrase already"], "keystore", "enrol", "--passphrase-file", "-", stdin=word)
    warned(dek, ["no slot is left that unseals the keystore by itself"], "keystore", "remove", "1")
    print("ok: the same passphrase twice, and no automatic slot left")
    return word


def sealed(dek, word):
    """kcmd restarts and cannot unseal: what the shim does is told as it is, and it can be told when it stops."""
    image = dek.image("sealed.img", 16 * MIB)
    dek.dekctl("protect", image, "--name", "sealed", "--encrypt", "0-8191")
    before, drawn = dek.status("sealed"), dek.json("topology", "sealed")
    dek.kill_kcmd()
    dek.start_kcmd()
    eventually("the volume is told of", lambda: dek.status("sealed")["size"] != 0)
    now = dek.status("sealed")
    assert now["state"] == "up" and "sealed" in now["reason"], now
    for same in ("size", "offset", "encrypted_blocks", "plain_blocks", "data_unit", "block_device", "associations"):
        assert now[same] == before[same], (same, now[same], before[same])
    assert dek.json("topology", "sealed") == drawn
    with open(dek.node("sealed"), "rb") as node:
        assert len(node.read(MIB)) == MIB
    dek.kill_worker()
    eventually("keys are waited for", lambda: dek.status("sealed")["state"] == "waiting-for-keys")
    eventually("the wait is over", lambda: dek.status("sealed")["state"] == "fenced")
    assert "sealed" in dek.status("sealed")["reason"]
    dek.dekctl("keystore", "unlock", "--passphrase-file", "-", stdin=word)
    # The shim has its keys a moment before kcmd is through with the volume.
    eventually("the volume is up", lambda: (dek.status("sealed")["state"], dek.status("sealed")["reason"]) == ("up", ""))
    dek.dekctl("detach", "sealed")
    print("ok: a sealed keystore after a restart")


def events(dek):
    log = f"{dek.work}/events"
    with open(log, "wb") as out:
        follower = subprocess.Popen([DEKCTL, "--socket", dek.socket, "events"], stdout=out, stderr=out)

    def seen(*words):
        with open(log, "rb") as file:
            return any(all(word in line for word in words) for line in file)
    try:
        image = dek.image("events.img", 16 * MIB)
        dek.dekctl("protect", image, "--name", "events")
        eventually("an event", lambda: seen(b"volume-attached") and seen(b"association-made"))
        # What a new worker did before kcmd found it is told, too.
        dek.kcmd.send_signal(signal.SIGSTOP)
        dek.kill_worker()
        control, uuid = client.Control(dek.shim_dir), b"\x5a" * 16
        control.create(uuid, "another", dek.image("another.img", MIB), MIB // 512)
        control.associate(uuid, os.urandom(64), [(0, 8)])
        dek.kcmd.send_signal(signal.SIGCONT)
        eventually("the new worker's events are told", lambda: seen(b"association-made", uuid.hex()[:8].encode()))
        control.remove(uuid)
        control.close()
        dek.kill_kcmd()
        eventually("the loss is told", lambda: seen(b"waiting for it"))
        dek.start_kcmd()
        eventually("the return is told", lambda: seen(b"kcmd is back"))
        eventually("the volume is up", lambda: dek.status("events")["state"] == "up")
        dek.dekctl("detach", "events")
        eventually("an event afterwards", lambda: seen(b"volume-detached"))
    finally:
        follower.send_signal(signal.SIGINT)
        assert follower.wait(10) == 0
    print("ok: events outlive kcmd")


def loops():
    """The loop devices in use, and what each is said to be on."""
    found = {}
    for path in glob.glob("/sys/block/loop*/loop/backing_file"):
        with open(path) as file:
            found[path.split("/")[3]] = file.read().strip()
    return found


def stopped_shim(dek):
    image = dek.image("stopped.img", 16 * MIB)
    dek.dekctl("protect", image, "--name", "stopped")
    left = os.path.basename(os.path.realpath(dek.node("stopped")))
    dek.shimd.terminate()
    dek.shimd.wait(20)
    eventually("the loss is known", lambda: dek.status("stopped")["state"] == "down")
    assert left in loops()
    dek.start_shimd()
    dek.dekctl("attach", image)
    node = os.path.realpath(dek.node("stopped"))
    assert loops().get(left) != "/", loops()
    assert loops()[os.path.basename(node)].endswith("/stopped"), (node, loops())
    dek.dekctl("detach", "stopped")
    print("ok: a stopped shim leaves no loop device behind for good")


def main():
    dek = Dekstack(kcmd_args=["--recover-timeout", "3"])
    in_place(dek)
    already_attached(dek)
    wrong_key(dek)
    events(dek)
    stopped_shim(dek)
    sealed(dek, slots(dek))
    dek.close()
    hanging_provider()


main()
