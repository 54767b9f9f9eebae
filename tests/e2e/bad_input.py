#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Bad input on the whole stack: each case gives one clear sentence and exit code 1 (2 for usage), and changes
nothing: not a byte of the image, not the list of volumes, not the keystore."""
import hashlib
import os
import shutil
import struct
import subprocess

from dekstack import DEKCTL, KCMD, Dekstack

MIB = 1 << 20
count = 0
failures = []


def digest(path):
    if not os.path.exists(path):
        return None
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") \
            else hashlib.sha256(file.read()).hexdigest()


def snapshot(dek, files):
    keys = sorted((k["id"], k["state"]) for k in dek.json("key", "list", "--all")["keys"])
    volumes = sorted(v["name"] for v in dek.json("status")["volumes"])
    return keys, volumes, [digest(f) for f in files], sorted(os.listdir(dek.dev)), \
        sorted(os.listdir(f"{dek.shim_dir}/volumes"))


def refused(dek, what, *args, **kwargs):
    """One bad input; the others run even when it fails."""
    try:
        check_refused(dek, what, *args, **kwargs)
    except AssertionError as error:
        failures.append(what)
        print(f"FAILED: {error}")


def check_refused(dek, what, words, args, files=(), code=1, stdin=None):
    """`args` fails with `code` and one sentence that has each of `words`; nothing changes."""
    global count
    before = snapshot(dek, files)
    done = dek.try_dekctl(*args, stdin=stdin)
    text = done.stderr.decode()
    assert done.returncode == code, f"{what}: exit {done.returncode}, not {code}: {text}{done.stdout.decode()}"
    lines = [line for line in text.splitlines() if line.strip()]
    assert lines and lines[0].startswith("dekctl"), f"{what}: no sentence: {text!r}"
    assert code == 2 or len(lines) <= 3, f"{what}: not one clear sentence: {text!r}"
    for word in words:
        assert word.lower() in text.lower(), f"{what}: no word of {word!r} in {text!r}"
    assert snapshot(dek, files) == before, f"{what}: something changed"
    count += 1
    print(f"ok: {what}: {lines[0]}")


def maps_and_places(dek):
    image = dek.image("maps.img", 16 * MIB)
    base = ["protect", image, "--name", "v"]
    for what, words, extra in [
        ("overlapping ranges", ["overlap"], ["--encrypt", "0-79", "--encrypt", "72-159"]),
        ("a range beyond the device", [], ["--encrypt", "0-99999999"]),
        ("a range not aligned to the data unit", ["data unit"], ["--encrypt", "1-8", "--data-unit", "4096"]),
        ("a header over an encrypted range", ["header"],
         ["--in-place", "--header-at", "1024", "--data-unit", "512", "--encrypt", "1000-2000"]),
        ("a header beyond the device", ["header"], ["--in-place", "--header-at", "32767", "--encrypt", "0-7"]),
        ("an unknown key", ["key"], ["--key", "no-such-key"]),
    ]:
        refused(dek, what, words, base + extra, [image], code=1)
    refused(dek, "a name with a slash", ["name"], ["protect", image, "--name", "../v"], [image])
    refused(dek, "a data unit of 3000 bytes", ["data-unit"], base + ["--data-unit", "3000"], [image], code=2)
    refused(dek, "an LBA beyond 64 bits", ["too large"],
            base + ["--encrypt", "18446744073709551608-18446744073709551615"], [image], code=2)
    refused(dek, "a range that is no range", ["range"], base + ["--encrypt", "7-x"], [image], code=2)
    refused(dek, "a range that ends before it starts", [], base + ["--encrypt", "9-3"], [image], code=2)
    small = dek.image("small.img", MIB // 2)
    refused(dek, "a device too small", ["small"], ["protect", small, "--name", "v"], [small])
    refused(dek, "a device that is not there", [], ["protect", f"{dek.work}/nothing", "--name", "v"])
    refused(dek, "a directory", [], ["protect", dek.work, "--name", "v"])


def things_that_are_there(dek):
    image = dek.image("ext4.img", 16 * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    refused(dek, "a device that holds ext4", ["ext4", "--force"], ["protect", image, "--name", "v"], [image])
    refused(dek, "ext4 in an encrypted range in place", ["--force"],
            ["protect", image, "--name", "v", "--in-place", "--header-at", "20000", "--encrypt", "0-8191"], [image])
    luks = dek.image("luks.img", 32 * MIB)
    subprocess.run(["cryptsetup", "-q", "luksFormat", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", luks, "-"],
                   input=b"a passphrase", check=True)
    refused(dek, "a device that holds LUKS", ["luks"], ["protect", luks, "--name", "v"], [luks])
    data = dek.image("data.img", 16 * MIB)
    with open(data, "r+b") as file:
        file.seek(8192 * 512)
        file.write(b"somebody's data")
    refused(dek, "data in an encrypted range in place", ["--force"],
            ["protect", data, "--name", "v", "--in-place", "--header-at", "1024", "--encrypt", "8192-16383"], [data])
    refused(dek, "data where an in-place header would lie", ["--force"],
            ["protect", data, "--name", "v", "--in-place", "--header-at", "8000", "--encrypt", "16384-24575"], [data])
    busy = dek.image("busy.img", 16 * MIB)
    loop = subprocess.run(["losetup", "-f", "--show", busy], check=True, capture_output=True, text=True).stdout.strip()
    try:
        refused(dek, "an image with a loop device on it", [loop], ["protect", busy, "--name", "v"], [busy])
    finally:
        subprocess.run(["losetup", "-d", loop], check=True)


def attached_volume(dek):
    image = dek.image("up.img", 16 * MIB)
    other = dek.image("other.img", 16 * MIB)
    dek.dekctl("protect", image, "--name", "up")
    refused(dek, "a device already attached", [], ["protect", image, "--name", "again", "--force"], [image])
    refused(dek, "a name already in use", ["up"], ["protect", other, "--name", "up"], [other])
    refused(dek, "attached twice", [], ["attach", image], [image])
    refused(dek, "erased while attached", [], ["erase", image, "--force"], [image])
    key = dek.status("up")["keys"][0]["id"]
    refused(dek, "destroying a key in use", ["up"], ["key", "destroy", key], [image])
    with open(dek.node("up"), "rb"):
        refused(dek, "detached while open", [], ["detach", "up"], [image])
    dek.dekctl("detach", "up")
    refused(dek, "protected twice", ["dekstack"], ["protect", image, "--name", "again"], [image])
    refused(dek, "erased without --force", ["--force"], ["erase", image], [image])
    refused(dek, "detached twice", [], ["detach", "up"], [image])
    return image


def damaged(dek, image, change, where=(0,)):
    """A copy of `image` with bytes changed at each offset of `where`."""
    path = f"{dek.work}/damaged.img"
    shutil.copyfile(image, path)
    with open(path, "r+b") as file:
        for at in where:
            file.seek(at)
            change(file, at)
    return path


def headers(dek, image):
    def zero(file, _):
        file.write(b"\0" * 512)

    def flip(file, at):
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))

    torn = damaged(dek, image, zero, [4096 - 512, 0])
    dek.dekctl("attach", torn, "--name", "torn")  # the second copy is whole
    dek.dekctl("detach", "torn")
    print("ok: one torn copy is survived")
    for what, change, where in [("both copies torn", zero, [512, 65536 + 512]), ("both copies corrupt", flip, [300, 65536 + 300])]:
        path = damaged(dek, image, change, where)
        refused(dek, what, ["header"], ["attach", path], [path])
    blank = dek.image("blank.img", 16 * MIB)
    refused(dek, "attaching what was never protected", [], ["attach", blank], [blank])
    short = f"{dek.work}/short.img"
    shutil.copyfile(image, short)
    os.truncate(short, 8 * MIB)
    refused(dek, "a device that has shrunk", [], ["attach", short], [short])
    edited_map(dek, image)
    backups(dek, image)


def edited_map(dek, image):
    """The last 8 LBAs of the map's only range declared plain on disk, the SHA-256 made to fit (docs/header.md)."""
    path = f"{dek.work}/edited.img"
    shutil.copyfile(image, path)
    with open(path, "r+b") as file:
        for at in (0, 65536):
            file.seek(at)
            copy = bytearray(file.read(65536))
            copy = copy[:struct.unpack_from("<I", copy, 12)[0]]
            struct.pack_into("<Q", copy, 520, struct.unpack_from("<Q", copy, 520)[0] - 8)
            copy[448:480] = hashlib.sha256(copy[:448] + copy[480:]).digest()
            file.seek(at)
            file.write(copy)
    refused(dek, "a map edited on disk", ["edited"], ["attach", path], [path])


def backups(dek, image):
    backup = f"{dek.work}/header.backup"
    dek.dekctl("header", "backup", image, backup)
    second = dek.image("second.img", 16 * MIB)
    dek.dekctl("protect", second, "--name", "second")
    dek.dekctl("detach", "second")
    refused(dek, "the header of another volume restored", ["another"], ["header", "restore", second, backup], [second])
    before = f"{dek.work}/before.img"
    shutil.copyfile(image, before)
    dek.dekctl("header", "restore", image, backup)  # moves the sequence on
    dek.dekctl("attach", image)
    dek.dekctl("detach", "up")
    refused(dek, "an older header of this volume", ["sequence", "old"], ["attach", before], [before])
    with open(backup, "r+b") as file:
        file.seek(200)
        file.write(b"\xff")
    refused(dek, "a damaged backup", [], ["header", "restore", image, backup], [image])
    unknown_key(dek, image)


def unknown_key(dek, image):
    stranger = Dekstack()
    refused(stranger, "a volume whose key no provider has", ["key"], ["attach", image], [image])
    escrow(dek, stranger, image)
    stranger.dekctl("keystore", "lock")
    done = stranger.try_dekctl("attach", image)
    assert done.returncode == 1 and b"lock" in done.stderr, done.stderr
    stranger.close()


def escrow(dek, stranger, image):
    """A key that was exported opens its volume where it is imported, under its own ID."""
    text = f"{dek.work}/escrow"
    dek.dekctl("key", "export", "up", "--passphrase-file", "-", "--output", text, stdin=b"a passphrase")
    stranger.dekctl("key", "import", "--name", "escrow", "--wrapped", text, "--passphrase-file", "-",
                    stdin=b"a passphrase")
    stranger.dekctl("attach", image)
    stranger.dekctl("detach", "up")
    print("ok: an escrowed key opens its volume")


def processes(dek):
    second = subprocess.run([KCMD, "--state-dir", dek.state, "--run-dir", dek.run, "--socket", dek.socket + "2",
                             "--dev-dir", dek.dev], capture_output=True, timeout=30)
    assert second.returncode == 1 and second.stderr.strip(), (second.returncode, second.stderr)
    print("ok: a second daemon:", second.stderr.decode().strip().splitlines()[-1])
    os.chmod(dek.work, 0o755)
    os.chmod(dek.run, 0o755)
    done = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", DEKCTL, "--socket", dek.socket, "status"],
                          capture_output=True, timeout=30)
    assert done.returncode == 1 and done.stderr.strip(), (done.returncode, done.stderr)
    print("ok: an unprivileged user:", done.stderr.decode().strip())


def full_disk(dek):
    state = f"{dek.work}/full"
    os.makedirs(state)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "full", state], check=True)
    full = Dekstack(state=state, keystore=False)
    try:
        full.dekctl("keystore", "init", "--file", f"{full.work}/master.key")
        full.dekctl("key", "create", "--name", "before")
        with open(f"{state}/ballast", "wb", buffering=0) as ballast:
            try:
                while ballast.write(b"x" * 512):
                    pass
            except OSError:
                pass
        image = full.image("full.img", 16 * MIB)
        refused(full, "a key on a full disk", [], ["key", "create", "--name", "after"], [image])
        refused(full, "a volume on a full disk", [], ["protect", image, "--name", "v"], [image])
        os.unlink(f"{state}/ballast")
        full.dekctl("key", "create", "--name", "after")
    finally:
        full.close()
        subprocess.run(["umount", state], check=True)


def usage(dek):
    for args in (["protect"], ["nonsense"], ["key", "import"], ["status", "--nonsense"], ["protect", "/dev/null", "--name"]):
        refused(dek, f"usage: {' '.join(args)}", [], args, code=2)
    refused(dek, "a key of 33 bytes", ["32", "64"], ["key", "import", "--name", "odd", "--file", "-"], stdin=b"x" * 33)
    refused(dek, "a key with equal halves", ["halves"], ["key", "import", "--name", "twin", "--file", "-"], stdin=b"x" * 64)


def main():
    dek = Dekstack()
    maps_and_places(dek)
    things_that_are_there(dek)
    image = attached_volume(dek)
    headers(dek, image)
    usage(dek)
    processes(dek)
    full_disk(dek)
    dek.close()
    print(f"{count} bad inputs refused")
    assert not failures, failures


main()
