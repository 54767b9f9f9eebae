#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A second reader of dekstack headers, written from docs/header.md alone.

read_header.py FILE PLACE_BYTE KEYFILE    prints the header at that byte of FILE as JSON, verified under the raw key in
                                          KEYFILE; exit 1 with one line where it must be refused
read_header.py --check GENERATOR          runs GENERATOR DIRECTORY, which makes headers and says in DIRECTORY/expected.json
                                          what they say, and compares
"""
import hashlib
import hmac
import json
import os
import re
import struct
import subprocess
import sys
import tempfile

MAGIC = bytes.fromhex("d644454b4844521a")
BACKUP_MAGIC = bytes.fromhex("d644454b42414b1a")
REKEY = 1
NUMBERS = {"header_lba", "device_lbas", "offset", "size", "data_unit", "logical_block"}
TEXTS = {"uuid", "name", "cipher", "place", "tweak", "endpoint"}
KEY_MEMBERS = {"id", "provider", "bits", "salt", "check"}
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")


class Refused(Exception):
    pass


def need(condition, why):
    if not condition:
        raise Refused(why)


def hkdf(key, salt, info, length):
    """RFC 5869 with SHA-256."""
    secret = hmac.new(salt, key, hashlib.sha256).digest()
    out, block = b"", b""
    while len(out) < length:
        block = hmac.new(secret, block + info + bytes([len(out) // 32 + 1]), hashlib.sha256).digest()
        out += block
    return out[:length]


def whole_copy(raw):
    """The copy's bytes, None where it is empty, b'' where it is torn."""
    if raw[:8] != MAGIC:
        return None
    size = struct.unpack_from("<I", raw, 12)[0]
    if size % 4096 or not 4096 <= size <= min(65536, len(raw)):
        return b""
    copy = raw[:size]
    return copy if hashlib.sha256(copy[:448] + copy[480:]).digest() == copy[448:480] else b""


def object_without_duplicates(pairs):
    need(len({name for name, _ in pairs}) == len(pairs), "a member twice")
    return dict(pairs)


def depth(value):
    if isinstance(value, (dict, list)):
        return 1 + max([depth(v) for v in (value.values() if isinstance(value, dict) else value)], default=0)
    return 0


def is_number(value):
    return type(value) is int and 0 <= value <= 1 << 53


def check_text(text, incompatible, readonly):
    need(isinstance(text, dict) and depth(text) <= 8, "text is no object, or too deep")
    wanted = NUMBERS | TEXTS | {"keys", "journal"} | ({"rekey"} if incompatible & REKEY else set())
    need(wanted <= set(text) and (readonly or wanted == set(text)), "members missing or unknown")
    need(all(is_number(text[n]) for n in NUMBERS) and all(isinstance(text[t], str) for t in TEXTS), "types")
    need(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text["uuid"]) and set(text["uuid"]) != {"0", "-"}, "uuid")
    need(NAME.fullmatch(text["name"]) and text["cipher"] == "aes-xts", "name or cipher")
    need(text["endpoint"] in ("prefer", "hardware-only", "never") and text["tweak"] in ("unit", "lba512"), "words")
    journal = 131072 if text["place"] == "in-place" else 917504
    need(text["journal"] == {"offset": 131072, "size": journal}, "journal")


def check_sizes(text):
    units = (512, 1024, 2048, 4096)
    need(text["data_unit"] in units and text["logical_block"] in units and text["data_unit"] <= text["logical_block"], "units")
    block = text["logical_block"] // 512
    need(text["size"] and text["size"] % block == 0 and text["offset"] + text["size"] <= text["device_lbas"], "size")
    at = text["header_lba"]
    if text["place"] == "in-place":
        need(text["offset"] == 0 and at % block == 0 and at + 512 <= text["device_lbas"], "place")
    else:
        need(at == 0, "place")
        default = text["place"] == "default"
        need(default or text["place"] == "detached", "place")
        need(text["offset"] >= 2048 and text["offset"] % block == 0 if default else text["offset"] == 0, "offset")


def check_keys(keys):
    need(isinstance(keys, list) and 1 <= len(keys) <= 64, "number of keys")
    need(len({k["id"] for k in keys}) == len(keys), "a key ID twice")
    for key in keys:
        need(isinstance(key, dict) and set(key) == KEY_MEMBERS and key["bits"] in (256, 512), "key")
        need(1 <= len(key["id"].encode()) <= 64 and not any(ord(c) < 32 or ord(c) == 127 for c in key["id"]), "key ID")
        need(NAME.fullmatch(key["provider"]), "provider")
        need(all(re.fullmatch("[0-9a-f]{32}", key[m]) for m in ("salt", "check")), "salt or check")


def read_map(copy, count, text):
    ranges, free = [], 0
    unit = text["data_unit"] // 512
    for i in range(count):
        first, lbas, key, zero = struct.unpack_from("<QQHH", copy, 512 + 20 * i)
        need(not zero and lbas and first >= free and first + lbas <= text["size"], "map")
        need(first % unit == 0 and lbas % unit == 0 and key < len(text["keys"]), "map")
        if text["place"] == "in-place":
            need(first >= text["header_lba"] + 512 or first + lbas <= text["header_lba"], "map over the header")
        ranges.append([first, lbas, text["keys"][key]["id"]])
        free = first + lbas
    return ranges


def parse(copy):
    version, size, incompatible, readonly, sequence, count, length = struct.unpack_from("<IIIIQII", copy, 8)
    need(version == 1, "version")
    need(not incompatible & ~REKEY, "unknown feature")
    need(0 < sequence < 1 << 63 and count <= 2048, "sequence or count")
    start = 512 + 20 * count
    need(start + length <= size and not any(copy[40:448]) and not any(copy[start + length:]), "structure")
    try:
        text = json.loads(copy[start:start + length].decode(), object_pairs_hook=object_without_duplicates)
    except ValueError as error:
        raise Refused(f"text: {error}") from None
    check_text(text, incompatible, readonly)
    check_sizes(text)
    check_keys(text["keys"])
    return text, sequence, read_map(copy, count, text)


def newest(raw_a, raw_b):
    copies = [whole_copy(raw) for raw in (raw_a, raw_b)]
    need(any(c is not None for c in copies), "no header")
    whole = [c for c in copies if c]
    need(whole, "torn")
    sequences = [struct.unpack_from("<Q", c, 24)[0] for c in whole]
    need(len(whole) < 2 or sequences[0] != sequences[1] or whole[0] == whole[1], "contradiction")
    parsed = [parse(c) for c in whole]
    best = sequences.index(max(sequences))
    return whole[best], parsed[best]


def verify(copy, text, key):
    first = text["keys"][0]
    check = hkdf(key, bytes.fromhex(first["salt"]), b"dekstack key check 1", 16)
    need(8 * len(key) == first["bits"] and hmac.compare_digest(check.hex(), first["check"]), "wrong key")
    mac_key = hkdf(key, bytes.fromhex(text["uuid"].replace("-", "")), b"dekstack header mac 1", 32)
    mac = hmac.new(mac_key, copy[:448] + copy[512:], hashlib.sha256).digest()
    need(hmac.compare_digest(mac, copy[480:512]), "the HMAC does not match")


def read_header(path, place, key):
    with open(path, "rb") as file:
        raw = []
        for at in (place, place + 65536):
            file.seek(at)
            raw.append(file.read(65536).ljust(65536, b"\0"))
    copy, (text, sequence, ranges) = newest(*raw)
    need(text["place"] == "detached" or text["header_lba"] * 512 == place, "belongs elsewhere")
    verify(copy, text, key)
    return {"uuid": text["uuid"], "name": text["name"], "place": text["place"], "size": text["size"],
            "offset": text["offset"], "data_unit": text["data_unit"], "tweak": text["tweak"],
            "sequence": sequence, "ranges": ranges}


def read_backup(path, key):
    with open(path, "rb") as file:
        data = file.read(64 + 65536 + 1)
    version, size = struct.unpack_from("<II", data, 8)
    need(data[:8] == BACKUP_MAGIC and version == 1 and len(data) == 64 + size and not any(data[16:32]), "backup")
    need(hashlib.sha256(data[:32] + data[64:]).digest() == data[32:64], "backup is damaged")
    copy = whole_copy(data[64:])
    need(copy and len(copy) == size, "backup without a copy")
    text, sequence, _ = parse(copy)
    verify(copy, text, key)
    return {"uuid": text["uuid"], "sequence": sequence}


def outcome(case, directory):
    path = os.path.join(directory, case["file"])
    with open(os.path.join(directory, case["key"]), "rb") as file:
        key = file.read()
    try:
        return read_backup(path, key) if case.get("backup") else read_header(path, case["place_byte"], key)
    except Refused as refusal:
        return {"refused": str(refusal)}


def check(generator):
    failures = 0
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run([generator, directory], check=True)
        with open(os.path.join(directory, "expected.json"), encoding="utf-8") as file:
            cases = json.load(file)
        for case in cases:
            found, wanted = outcome(case, directory), case["says"]
            if found != wanted:
                failures += 1
                print(f"{case['file']}: read {found}, expected {wanted}")
    print(f"{len(cases)} headers, {failures} read otherwise than written")
    return failures or not cases


def main(arguments):
    if len(arguments) == 2 and arguments[0] == "--check":
        return bool(check(arguments[1]))
    if len(arguments) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    with open(arguments[2], "rb") as file:
        key = file.read(65)
    try:
        print(json.dumps(read_header(arguments[0], int(arguments[1]), key), indent=2))
    except Refused as refusal:
        print(f"refused: {refusal}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
