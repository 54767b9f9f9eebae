#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A second writer of command blocks, from the tables of docs/protocol.md alone: it shares no code with
libdekproto. Checks that each file in the folder given holds exactly the block it should; with --write,
writes the files; with --seeds, writes the blocks into the folder as fuzz/block.cpp takes them. A file holds
hex bytes, `*N` to repeat them, and what they mean after `#`."""

import hashlib
import struct
import sys
from pathlib import Path

SIZE = 1536
ENDPOINT = 0x1122334455667788
CONTROLLER = 0x0102030405060708
HANDSHAKE, QUERY, ASSOCIATE, UPDATE, DISASSOCIATE = 1, 2, 3, 4, 5
BUSY, EXISTS, UNKNOWN_HANDLE = 3, 6, 13

# Keys that nobody could take for real ones: they count.
KEY_64 = bytes(range(64))
KEY_32 = bytes(range(0x40, 0x60))
# KEY_64 under AES-256-GCM, KEK a0..bf, nonce c0..cb; tests/proto/vectors_test.cpp opens it with OpenSSL.
WRAPPED = bytes.fromhex(
    "4c6139f03ac5e482e64f99c7fd691aaae0dd11165016789e6e416ea7f66411ff"
    "52150d420f17af3854512a3ed70890d84c61dd7b752b8f6de589f5c2eff01ebf"
)
WRAP_TAG = bytes.fromhex("3669ef048141bc513214d037fed04372")

EXAMPLE_MAP = [(1536, 8704), (11264, 9216)]  # the document's: 1536-10239 and 11264-20479


def u16(n):
    return struct.pack("<H", n)


def u32(n):
    return struct.pack("<I", n)


def u64(n):
    return struct.pack("<Q", n)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def noise(label, size):
    out = b""
    while len(out) < size:
        out += hashlib.sha256(label + bytes([len(out) // 32])).digest()
    return out[:size]


class Block:
    """Fields by offset; what no field covers is zero."""

    def __init__(self, opcode, status=0, endpoint=ENDPOINT, version=1):
        self.fields = []
        self.put(0, bytes.fromhex("0a0b0c0d0e0f1011"), "protocol signature (Table 1)")
        self.put(16, u32(version), "version (Table 1)")
        self.put(24, u32(opcode), f"opcode {opcode} (Table 1)")
        self.put(28, u32(status), f"response status {status} (Table 1)")
        self.put(32, u64(endpoint), "endpoint ID (Table 1)")
        self.put(40, u64(CONTROLLER), "key controller handle (Table 1)")

    def put(self, offset, data, meaning):
        self.fields.append((offset, data, meaning))
        return offset + len(data)

    def ranges(self, offset, ranges, source):
        offset = self.put(offset, u32(len(ranges)), f"LUN map count {len(ranges)} ({source})")
        for i, (first, count) in enumerate(ranges):
            offset = self.put(offset, u64(first), f"starting LBA [{i}]: {first} ({source})")
            offset = self.put(offset, u64(count), f"number of blocks [{i}]: {count} ({source})")
        return offset

    def bytes(self):
        block = bytearray(SIZE)
        for offset, data, _ in self.fields:
            block[offset : offset + len(data)] = data
        block[8:16] = u64(crc32c(block[16:]))
        return bytes(block)

    def text(self):
        block = self.bytes()
        checksum = (8, block[8:16], "checksum: CRC-32C of bytes 16-1535, high half zero (Table 1)")
        lines, at = [], 0
        for offset, data, meaning in sorted(self.fields + [checksum]):
            if offset > at:
                lines.append(f"00*{offset - at}  # {at}: reserved")
            for i in range(0, len(data), 32):
                note = f"  # {offset}: {meaning}" if i == 0 else ""
                lines.append(data[i : i + 32].hex(" ") + note)
            at = offset + len(data)
        if at < SIZE:
            lines.append(f"00*{SIZE - at}  # {at}: reserved")
        return "\n".join(lines) + "\n"


def blob(kind, key, length, wrapping=b""):
    return [
        (u32(73 + len(wrapping)), "key blob length, itself not counted (Fig. 7)"),
        (bytes([kind]), f"key blob type {kind} (Fig. 7)"),
        (bytes(3), "reserved (Fig. 7)"),
        (b"\x01", "key data version (Fig. 7)"),
        (bytes([length]), f"key data length {length} (Fig. 7)"),
        (b"\x01", "key data algorithm: AES (Fig. 7)"),
        (b"\x01", "key data mode: XTS (Fig. 7)"),
        (key.ljust(64, b"\0"), "key data (Fig. 7)"),
        (b"\x20", "application info size 32 (Fig. 7)"),
    ] + ([(wrapping[:12], "nonce"), (wrapping[12:28], "tag"), (wrapping[28:29], "KEK name length"),
          (wrapping[29:], "KEK name")] if wrapping else [])


def key_id(text):
    return [(u32(len(text)), f"key ID length {len(text)} (Fig. 7)"), (text, f"key ID {text.decode()} (Fig. 7)")]


def geometry(unit, rule, device, logical, chunk=0, stripes=0, leg=0):
    return [
        (u32(unit), f"application info: data unit size {unit} (Fig. 7)"),
        (bytes([rule]), f"tweak rule {rule}"),
        (bytes(3), "zero"),
        (u64(device), f"device origin {device}"),
        (u64(logical), f"logical origin {logical}"),
        (u32(chunk), f"chunk {chunk}"),
        (u16(stripes), f"stripes {stripes}"),
        (u16(leg), f"leg {leg}"),
    ]


def size(part):
    return sum(len(data) for data, _ in part)


def association(block, handle, ranges, order=("blob", "key_id", "app_info", "map"), gap=0, **parts):
    """Fig. 7: the handle, four offsets, and what they point at, laid out in `order`."""
    block.put(48, u64(handle), "association handle (Fig. 7)")
    at, where = 72, {"blob": 0}
    for name in order:
        if name == "map":
            where[name], at = at, block.ranges(at, ranges, "Fig. 7") + gap
        elif name in parts:
            where[name] = at
            for data, meaning in parts[name]:
                at = block.put(at, data, meaning)
            at += gap
    for offset, name in ((56, "blob"), (60, "key_id"), (64, "app_info"), (68, "map")):
        block.put(offset, u32(where[name]), f"offset to {name} (Fig. 7)")
    return block


def handshake(answered):
    block = Block(HANDSHAKE, endpoint=ENDPOINT if answered else 0)
    block.put(48, b"EHBA\0", "endpoint class name (Table 2)")
    for offset, length, label in ((512, 512, b"one"), (1152, 256, b"two")):
        data = noise(label, length)
        block.put(offset, data[::-1] if answered else data,
                  "pseudo-random bytes" + (", reversed" if answered else "") + " (Table 2)")
    return block


def query(ranges, status=0):
    block = Block(QUERY, status)
    block.put(48, b"anything goes here, even", "undefined (Table 3)")
    block.ranges(72, ranges, "Table 3")
    return block


def associate(handle=0, status=0):
    return association(Block(ASSOCIATE, status), handle, EXAMPLE_MAP, blob=blob(1, KEY_64, 64),
                       key_id=key_id(b"vol-7f3a"), app_info=geometry(512, 0, 0, 0))


def wrapped():
    wrapping = bytes(range(0xC0, 0xCC)) + WRAP_TAG + b"\x08test-kek"
    return association(Block(ASSOCIATE), 0, EXAMPLE_MAP, blob=blob(2, WRAPPED, 64, wrapping),
                       key_id=key_id(b"vol-7f3a"), app_info=geometry(512, 0, 0, 0))


def key_id_only():
    return association(Block(ASSOCIATE), 0, [(0, 20480)], key_id=key_id(b"k"), app_info=geometry(4096, 0, 0, 0))


def any_order():
    return association(Block(ASSOCIATE), 0, [(2048, 128), (4096, 1024)], gap=5,
                       order=("map", "app_info", "blob", "key_id"), blob=blob(1, KEY_32, 32),
                       key_id=key_id(b"x" * 64), app_info=geometry(4096, 1, 2048, 1 << 40, 128, 3, 1))


def update(status=0):
    name = b"dekstack:vol-7f3a"
    return association(Block(UPDATE, status), 0x2A, [(1536, 8704)], blob=blob(3, name, len(name)),
                       key_id=key_id(b"vol-7f3a"), app_info=geometry(512, 1, 1536, 0))


def disassociate(handle, status=0):
    block = Block(DISASSOCIATE, status)
    block.put(48, u64(handle), "association handle")
    return block


VECTORS = {
    "handshake-command": handshake(False),
    "handshake-answer": handshake(True),
    "query-example": query(EXAMPLE_MAP),
    "query-60": query([(1000 * i, 8 * (i + 1)) for i in range(60)]),
    "query-answer-busy": query(EXAMPLE_MAP, BUSY),
    "associate-unwrapped": associate(),
    "associate-wrapped": wrapped(),
    "associate-key-id": key_id_only(),
    "associate-any-order": any_order(),
    "associate-answer": associate(handle=0x2A),
    "associate-answer-exists": associate(handle=0x2A, status=EXISTS),
    "update": update(),
    "update-answer-busy": update(BUSY),
    "disassociate": disassociate(0x2A),
    "disassociate-answer-unknown": disassociate(0x2B, UNKNOWN_HANDLE),
}


def parse(text):
    out = b""
    for line in text.splitlines():
        words, _, times = line.partition("#")[0].strip().partition("*")
        out += bytes.fromhex(words) * int(times or 1)
    return out


def main():
    folder = Path(sys.argv[-1])
    if "--seeds" in sys.argv:
        for name, block in VECTORS.items():
            (folder / name).write_bytes(b"\xff" + block.bytes())
        return 0
    if "--write" in sys.argv:
        for name, block in VECTORS.items():
            (folder / f"{name}.hex").write_text("# SPDX-License-Identifier: Apache-2.0\n" + block.text())
    wrong = {path.stem for path in folder.glob("*.hex")} ^ set(VECTORS)
    wrong |= {n for n, b in VECTORS.items() if n not in wrong and parse((folder / f"{n}.hex").read_text()) != b.bytes()}
    for name in sorted(wrong):
        print(f"{name}.hex is not the block that the tables give", file=sys.stderr)
    print(f"{len(VECTORS) - len(wrong)} of {len(VECTORS)} vectors are right")
    return 1 if wrong or crc32c(b"123456789") != 0xE3069283 else 0


if __name__ == "__main__":
    sys.exit(main())
