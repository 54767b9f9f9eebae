#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The document's own example (US 9,160,526, column 8): 20480 blocks, the header at 1024 in place, blocks 1536-10239
and 11264-20479 encrypted. Every block outside is plain on disk; every block inside is AES-XTS as an
independent program computes it, for both key sizes, data units 512 and 4096, and both tweak rules."""
import mmap
import os

from dekstack import Dekstack
from xts import encrypt

BLOCKS = 20480
HEADER = (1024, 1535)
ENCRYPTED = [(1536, 10239), (11264, 20479)]
PLAIN = [(0, 1023), (10240, 11263)]


def pattern(first, last):
    """Recognisable plaintext: every 16 bytes name their block."""
    return b"".join(b"block %09d." % lba * 32 for lba in range(first, last + 1))


def write_all(node):
    fd = os.open(node, os.O_RDWR | os.O_DIRECT)
    try:
        for first, last in PLAIN + ENCRYPTED:
            data = pattern(first, last)
            buffer = mmap.mmap(-1, len(data))
            buffer[:] = data
            assert os.pwrite(fd, buffer, first * 512) == len(data)
        os.fsync(fd)
        for first, last in PLAIN + ENCRYPTED:
            data = pattern(first, last)
            buffer = mmap.mmap(-1, len(data))
            assert os.preadv(fd, [buffer], first * 512) == len(data)
            assert buffer[:] == data, f"read back differs in {first}-{last}"
        header = mmap.mmap(-1, 512 * 512)
        assert os.preadv(fd, [header], HEADER[0] * 512) == len(header), "the header's range is not readable"
        try:
            os.pwrite(fd, header, HEADER[0] * 512)
            os.fsync(fd)
        except OSError:
            return header[:]
        raise AssertionError("the header's range took a write")
    finally:
        os.close(fd)


def check_raw(image, key, unit, rule, header):
    with open(image, "rb") as file:
        raw = file.read()
    assert len(raw) == BLOCKS * 512
    for first, last in PLAIN:
        assert raw[first * 512:(last + 1) * 512] == pattern(first, last), f"{first}-{last} is not plain on disk"
    assert raw[HEADER[0] * 512:(HEADER[1] + 1) * 512] == header, "the header reads differently through the volume"
    for first, last in ENCRYPTED:
        expected = encrypt(key, pattern(first, last), first, unit, rule)
        got = raw[first * 512:(last + 1) * 512]
        for at in range(0, len(got), 512):
            assert got[at:at + 512] == expected[at:at + 512], f"block {first + at // 512} is not as computed"


def main():
    dek = Dekstack()
    for key_bytes in (32, 64):
        key = os.urandom(key_bytes)
        dek.import_key(f"key{key_bytes}", key)
        for unit in (512, 4096):
            for rule in ("unit", "lba512"):
                name = f"doc{key_bytes}-{unit}-{rule}"
                image = dek.image(name + ".img", BLOCKS * 512)
                dek.dekctl("protect", image, "--name", name, "--key", f"key{key_bytes}", "--in-place",
                           "--header-at", 1024, "--encrypt", "1536-10239,11264-20479",
                           "--data-unit", unit, "--tweak", rule)
                header = write_all(dek.node(name))
                dek.dekctl("detach", name)
                check_raw(image, key, unit, rule, header)
                dek.dekctl("attach", image)
                write_all(dek.node(name))
                dek.dekctl("detach", name)
                print(f"ok: AES-{key_bytes * 4}-XTS, data unit {unit}, tweak rule {rule}")
    dek.close()


main()
