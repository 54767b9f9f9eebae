# SPDX-License-Identifier: Apache-2.0
"""AES-XTS of a stretch of LBAs by another hand (python3-cryptography), tweaks as docs/protocol.md defines them."""
import struct

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


def encrypt(key, plain, first_lba, unit, rule):
    """`plain` starts at `first_lba` (512-byte LBAs of the volume); unit in bytes; rule `unit` or `lba512`."""
    out = bytearray()
    for at in range(0, len(plain), unit):
        lba = first_lba + at // 512
        number = lba * 512 // unit if rule == "unit" else lba
        tweak = struct.pack("<QQ", number, 0)
        encryptor = Cipher(algorithms.AES(key), modes.XTS(tweak)).encryptor()
        out += encryptor.update(plain[at:at + unit]) + encryptor.finalize()
    return bytes(out)
