# SPDX-License-Identifier: Apache-2.0
"""A controller in miniature: the ioctl interface and the few command blocks the kill tests need, written from the
documents and without dekstack's own code."""
import fcntl
import os
import struct
import time

BLOCK, UUID = 1536, 16
SIGNATURE = bytes([0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x10, 0x11])
OP_HANDSHAKE, OP_QUERY, OP_ASSOCIATE, OP_UPDATE, OP_DISASSOCIATE = range(1, 6)
MAP_BEGIN, MAP_ADD, MAP_COMMIT = 1, 2, 4
MAP_ENCRYPT, MAP_RESERVED = 1, 2
CAP_TAKEOVER = 1
ENDPOINT_FAILED = 2
VOLUME_READONLY = 1


def _crc_table():
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
        table.append(n)
    return table


_TABLE = _crc_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def _ioc(direction, number, size):
    return direction << 30 | size << 16 | 0xDE << 8 | number


VERSION = _ioc(2, 0x00, 680)
COMMAND = _ioc(3, 0x01, UUID + BLOCK)
MAP = _ioc(1, 0x02, 32 + 24 * 600)
QUIESCE = _ioc(3, 0x03, 48)
RELEASE = _ioc(1, 0x04, 24)
LIST = _ioc(3, 0x07, 24 + 472 * 24)
STATS = _ioc(3, 0x0B, 144)
VOLUME_CREATE = _ioc(1, 0x20, 56 + 128 + 1024)
VOLUME_REMOVE = _ioc(1, 0x21, 24)
VOLUME_RESIZE = _ioc(1, 0x22, 24)


def seal(block):
    block[8:16] = struct.pack("<Q", crc32c(bytes(block[16:])))
    return block


def begin(opcode, endpoint, handle=1):
    block = bytearray(BLOCK)
    block[0:8] = SIGNATURE
    struct.pack_into("<IIIIQQ", block, 16, 1, 0, opcode, 0, endpoint, handle)
    return block


def associate_block(endpoint, key, ranges, data_unit=4096, rule=0, key_id=b"test-key", origin=0, opcode=OP_ASSOCIATE,
                    association=0):
    block = begin(opcode, endpoint)
    blob = struct.pack("<IB3xBBBB", 73, 1, 1, len(key), 1, 1) + key.ljust(64, b"\0") + bytes([32])
    key_part = struct.pack("<I", len(key_id)) + key_id
    info = struct.pack("<IB3xQQIHH", data_unit, rule, origin, 0, 0, 0, 0)
    lun_map = struct.pack("<I", len(ranges)) + b"".join(struct.pack("<QQ", *r) for r in ranges)
    at, offsets = 72, []
    for part in (blob, key_part, info, lun_map):
        at = (at + 7) // 8 * 8
        offsets.append(at)
        block[at:at + len(part)] = part
        at += len(part)
    struct.pack_into("<QIIII", block, 48, association, *offsets)
    return seal(block)


class Control:
    """One open control file. Raises OSError as the kernel does."""

    def __init__(self, directory, seconds=20):
        self.path, end = f"{directory}/control/control", time.monotonic() + seconds
        while True:
            try:
                self.fd = os.open(self.path, os.O_RDWR)
                return
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.002)

    def close(self):
        os.close(self.fd)

    def call(self, number, data):
        buffer = bytearray(data.ljust(number >> 16 & 0x3FFF, b"\0"))
        fcntl.ioctl(self.fd, number, buffer)
        return buffer

    def version(self):
        out = self.call(VERSION, b"")
        names = ("abi", "kind", "engines", "caps", "blob_types", "max_associations", "max_ranges", "reserved0", "life")
        version = dict(zip(names, struct.unpack_from("<8IQ", out)))
        version["engine_name"] = out[104:168].split(b"\0")[0].decode()
        return version

    def create(self, uuid, name, device, sectors, offset=0, data_unit=4096, logical_block=4096, recover_ms=0, flags=0):
        head = struct.pack("<16sQQIIIIII", uuid, offset, sectors, data_unit, logical_block, 0, flags, recover_ms, 0)
        self.call(VOLUME_CREATE, head + name.encode().ljust(128, b"\0") + device.encode())

    def remove(self, uuid):
        self.call(VOLUME_REMOVE, uuid)

    def command(self, uuid, block):
        """(status, response)"""
        out = self.call(COMMAND, uuid + bytes(block))[UUID:]
        return struct.unpack_from("<I", out, 28)[0], out

    def endpoint_id(self, uuid):
        block = begin(OP_HANDSHAKE, 0)
        block[48:53] = b"EHBA\0"
        block[512:1024], block[1152:1408] = os.urandom(512), os.urandom(256)
        status, out = self.command(uuid, seal(block))
        assert status == 0, f"handshake: status {status}"
        return struct.unpack_from("<Q", out, 32)[0]

    def map(self, uuid, generation, ranges, kind=MAP_ENCRYPT):
        """The must-encrypt map, in one page."""
        entries = b"".join(struct.pack("<QQII", first, count, kind, 0) for first, count in ranges)
        self.call(MAP, uuid + struct.pack("<QII", generation, MAP_BEGIN | MAP_ADD | MAP_COMMIT, len(ranges)) + entries)

    def associate(self, uuid, key, ranges, **kwargs):
        status, out = self.command(uuid, associate_block(self.endpoint_id(uuid), key, ranges, **kwargs))
        assert status == 0, f"associate: status {status}"
        return struct.unpack_from("<Q", out, 48)[0]

    def list(self):
        out = self.call(LIST, b"")
        count = struct.unpack_from("<I", out, UUID)[0]
        entries = [out[24 + 472 * i:24 + 472 * (i + 1)] for i in range(count)]
        return [{"uuid": bytes(e[:16]), "flags": struct.unpack_from("<I", e, 76)[0],
                 "name": e[88:216].split(b"\0")[0].decode()} for e in entries]

    def quiesce(self, uuid, first, count, timeout_ms=0):
        out = self.call(QUIESCE, uuid + struct.pack("<QQQII", first, count, 0, timeout_ms, 0))
        return struct.unpack_from("<Q", out, 32)[0]

    def release(self, uuid, token):
        self.call(RELEASE, uuid + struct.pack("<Q", token))

    def stats(self, uuid):
        names = ("reads", "writes", "flushes", "read_bytes", "write_bytes", "encrypted_bytes", "decrypted_bytes",
                 "plain_bytes", "fence_hits", "refused", "waited", "errors", "in_flight", "restarts", "flushes_unknown")
        return dict(zip(names, struct.unpack_from("<15Q", self.call(STATS, uuid), UUID)))
