#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What people are told on the whole stack: of keys that would be mistaken for others, of headers that nobody finds, of
what is damaged, down or read-only, and of a command line that is wrong. Each sentence must be the true one."""
import os
import shutil
import subprocess
import sys
import tempfile

from dekstack import BUILD, KCMD, SHIMD, Dekstack, eventually

MIB = 1 << 20
PROBE = f"{BUILD}/utils/dek-probe"


def check(done, code, words, unwanted=()):
    text = (done.stdout + done.stderr).decode()
    assert done.returncode == code, f"{done.args}: exit {done.returncode}, not {code}: {text}"
    for word in words:
        assert word in text, f"{done.args}: no word of {word!r} in {text!r}"
    for word in unwanted:
        assert word not in text, f"{done.args}: {word!r} in {text!r}"


def says(dek, words, *args, unwanted=(), **kwargs):
    check(dek.try_dekctl(*args, **kwargs), 0, words, unwanted)


def fails(dek, words, *args, unwanted=(), **kwargs):
    check(dek.try_dekctl(*args, **kwargs), 1, words, unwanted)


def names_and_ids(dek):
    material = bytes(range(64))
    dek.dekctl("key", "import", "--name", "one", "--id", "my-id", "--file", "-", stdin=material)
    fails(dek, ["the name my-id is the ID of a key already"], "key", "create", "--name", "my-id")
    fails(dek, ["the ID one is the name of key my-id already"], "key", "import", "--name", "two", "--id", "one", "--file", "-",
          stdin=bytes(range(1, 65)))
    says(dek, ["warning: key my-id has the same bytes"], "key", "import", "--name", "two", "--id", "twin", "--file", "-",
         stdin=material)
    says(dek, [], "key", "import", "--name", "three", "--file", "-", stdin=bytes(range(2, 66)), unwanted=["warning"])
    dek.dekctl("key", "state", "twin", "compromised")
    dek.dekctl("key", "destroy", "twin", "--force")
    fails(dek, ["key twin was destroyed", "never"], "key", "import", "--name", "four", "--id", "twin", "--file", "-", stdin=material)
    print("ok: names, IDs and bytes of keys")


def shared_key(dek):
    images = [dek.image(f"shared{n}.img", 16 * MIB) for n in range(3)]
    says(dek, [], "protect", images[0], "--name", "first", unwanted=["warning"])
    key = dek.status("first")["keys"][0]["id"]
    says(dek, [f"warning: key {key} is also that of volume first"], "protect", images[1], "--name", "second", "--key", key)
    uuid = dek.status("first")["uuid"]
    dek.dekctl("detach", "first")
    dek.dekctl("detach", "second")
    says(dek, [f"is also that of volume {uuid}"], "protect", images[2], "--name", "third", "--key", key)
    says(dek, [], "attach", images[0], unwanted=["warning"])
    for name in ("first", "third"):
        dek.dekctl("detach", name)
    print("ok: a key of several volumes")


def places(dek):
    image = dek.image("place.img", 16 * MIB)
    says(dek, ["the header lies at LBA 4096", "need --header-at 4096"], "protect", image, "--name", "place", "--in-place",
         "--header-at", "4096")
    dek.dekctl("detach", "place")
    fails(dek, ["no dekstack header where one is looked for", "--header-at"], "attach", image)
    says(dek, [], "attach", image, "--header-at", "4096", unwanted=["warning"])
    dek.dekctl("detach", "place")
    end = dek.image("end.img", 16 * MIB)
    says(dek, [], "protect", end, "--name", "end", "--in-place", "--header-at", 32768 - 512, unwanted=["warning"])
    os.truncate(end, 24 * MIB)
    says(dek, ["the header lies at LBA 32256", "need --header-at 32256"], "resize", "end")
    dek.dekctl("detach", "end")
    print("ok: a header where nobody looks")


def spoil(image, byte):
    with open(image, "r+b") as file:
        file.seek(byte + 600)
        file.write(b"\xff" * 16)


def torn(dek):
    image = dek.image("torn.img", 16 * MIB)
    dek.dekctl("protect", image, "--name", "torn")
    dek.dekctl("detach", "torn")
    spoil(image, 0)
    says(dek, ["torn: up", "copy A of its header is torn"], "attach", image)
    says(dek, ["copy A of its header is torn"], "status")
    dek.dekctl("detach", "torn")
    spoil(image, 65536)
    fails(dek, ["neither copy is whole", "dekctl header restore"], "attach", image)
    fails(dek, ["neither copy is whole", "--header-at"], "erase", image, "--force")
    dek.dekctl("erase", image, "--force", "--header-at", "0")
    print("ok: a torn header")


def read_only(dek):
    image = dek.image("ro.img", 16 * MIB)
    says(dek, ["ro: up"], "protect", image, "--name", "ro", unwanted=["read-only"])
    dek.dekctl("detach", "ro")
    loop = subprocess.run(["losetup", "-r", "-f", "--show", image], check=True, capture_output=True, text=True).stdout.strip()
    try:
        says(dek, ["ro: up", "read-only"], "attach", loop)
        dek.dekctl("detach", "ro")
    finally:
        subprocess.run(["losetup", "-d", loop], check=True)
    print("ok: read-only")


def no_such_endpoint(dek):
    fails(dek, ["no shim that answers has endpoint"], "endpoint", "handshake", "00000000-0000-0000-0000-000000000000",
          unwanted=["systemctl"])
    if not os.path.exists("/dev/dek-control"):
        fails(dek, ["modprobe dm-dek"], "protect", dek.image("k.img", 16 * MIB), "--name", "k", "--shim", "kernel",
              unwanted=["systemctl"])
    print("ok: an endpoint that is not there, and a shim that is not")


def moved(dek):
    """The header cannot be read any more, and what is encrypted is: the shim knows."""
    image = dek.image("moved.img", 16 * MIB)
    dek.dekctl("protect", image, "--name", "moved", "--encrypt", "0-8191")
    dek.kill_kcmd()
    os.rename(image, image + ".away")
    dek.start_kcmd()
    eventually("kcmd has looked", lambda: "No such file" in dek.status("moved")["reason"])
    volume = dek.status("moved")
    assert (volume["state"], volume["encrypted_blocks"], volume["plain_blocks"]) == ("up", 8192, 22528), volume
    assert "tries again by itself" in volume["reason"], volume
    os.rename(image + ".away", image)
    eventually("it is looked after again", lambda: dek.status("moved")["reason"] == "", seconds=40)
    dek.dekctl("detach", "moved")
    print("ok: a header that has gone, and come back")


def files(dek):
    image = dek.image("files.img", 16 * MIB)
    fails(dek, ["file has more than"], "header", "restore", image, "/dev/zero", unwanted=["descriptor"])
    fails(dek, ["/nonexistent/k cannot be created"], "keystore", "enrol", "--file", "/nonexistent/k")
    key = f"{dek.work}/other.key"
    with open(key, "wb") as file:
        file.write(b"k" * 32)
    fails(dek, ["is no keystore"], "keystore", "backup", key, "--force")
    with open(key, "rb") as file:
        assert file.read() == b"k" * 32
    dek.dekctl("keystore", "backup", f"{dek.work}/backup")
    dek.dekctl("keystore", "backup", f"{dek.work}/backup", "--force")
    print("ok: files that are none, or others'")


def damaged_keystore(dek):
    dek.kill_kcmd()
    with open(f"{dek.state}/keystore.db", "r+b") as file:
        file.write(b"this is no keystore")
    dek.start_kcmd()
    says(dek, ["keystore: NOT USABLE", "dekctl keystore restore"], "status", unwanted=["keystore init"])
    keystore = dek.json("status")["keystore"]
    assert keystore["present"] and keystore["trouble"]["code"] == "corrupt", keystore
    fails(dek, ["--force"], "keystore", "restore", f"{dek.work}/backup", "--file", f"{dek.state}/master.key")
    dek.dekctl("keystore", "restore", f"{dek.work}/backup", "--file", f"{dek.state}/master.key", "--force")
    says(dek, ["keystore: unsealed"], "status")
    assert dek.json("status")["keystore"]["trouble"] is None
    dek.shimd.terminate()
    dek.shimd.wait()
    eventually("kcmd knows", lambda: "DOWN" in dek.dekctl("status"))
    says(dek, ["DOWN"], "status", unwanted=["a crash"])
    print("ok: a damaged keystore, and a shim that is down")


def command_lines():
    for argv in ([KCMD, "--shim", "foo"], [KCMD, "--log-level", "7"], [SHIMD, "--engine", "foo"], [SHIMD, "--threads", "99"],
                 [PROBE, "--header-at", "x", "y"], [PROBE]):
        done = subprocess.run(argv, capture_output=True, check=False)
        check(done, 2, [os.path.basename(argv[0]) + ": ", "--help"], ["FAILED", "->"])
        assert done.stderr.count(b"\n") == 1 and not done.stdout, done
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        program = shutil.copy(SHIMD, f"{folder}/dek-shimd")  # the build folder may be root's alone
        done = subprocess.run([program, "--dir", f"{folder}/shim"], capture_output=True, check=False, user=65534)
        check(done, 1, ["dek-shimd: it has to run as root"])
        assert os.listdir(folder) == ["dek-shimd"], os.listdir(folder)
        with open(f"{folder}/plain", "wb") as file:
            file.truncate(MIB)
        check(subprocess.run([PROBE, f"{folder}/plain"], capture_output=True, check=False), 4, ["nothing of dekstack on"])
        for option, out in (("--json", b'"headers": []'), ("--export", b"")):
            done = subprocess.run([PROBE, option, f"{folder}/plain"], capture_output=True, check=False)
            assert done.returncode == 4 and done.stderr == b"" and out in done.stdout, done
    print("ok: wrong command lines")


def main():
    command_lines()
    dek = Dekstack()
    try:
        for part in (names_and_ids, shared_key, places, torn, read_only, no_such_endpoint, moved, files, damaged_keystore):
            part(dek)
    finally:
        dek.close()


if __name__ == "__main__":
    sys.exit(main())
