#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""vmlinux.py VMLINUZ VMLINUX: takes the uncompressed ELF kernel out of a bzImage, so that a virtual machine without
hardware support need not spend seconds on decompressing it."""
import subprocess
import sys

FORMATS = [(b"\xfd7zXZ\0", ["xz", "-dc", "--single-stream"]), (b"\x28\xb5\x2f\xfd", ["zstd", "-dc"]),
           (b"\x1f\x8b\x08", ["gzip", "-dc"])]


def kernels(image):
    """Whatever unpacks to something from any place that looks like the start of a compressed stream."""
    for magic, command in FORMATS:
        at = image.find(magic)
        while at >= 0:
            yield subprocess.run(command, input=image[at:], capture_output=True, check=False).stdout
            at = image.find(magic, at + 1)


def main():
    with open(sys.argv[1], "rb") as file:
        image = file.read()
    elf = next((k for k in kernels(image) if k.startswith(b"\x7fELF")), None)
    if elf is None:
        raise SystemExit(f"vmlinux.py: no ELF kernel in {sys.argv[1]}")
    with open(sys.argv[2], "wb") as file:
        file.write(elf)


main()
