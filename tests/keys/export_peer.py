#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Unwraps exported keys with another implementation, from what docs/keystore.md says of the format.

export_peer.py KEYSTORE_OPS
"""
import subprocess
import sys
import tempfile

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def material():
    seed, out = 1, []
    for _ in range(64):
        seed = (seed * 5 + 113) & 255
        out.append(seed)
    return bytes(out)


def transport_key(private, method, message):
    if method == "rsa-oaep-sha256":
        return private.decrypt(message, padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None))
    ephemeral = serialization.load_der_public_key(message)
    shared = private.exchange(ec.ECDH(), ephemeral)
    return HKDF(hashes.SHA256(), 32, message, b"dekstack wrapped key").derive(shared)


def unwrap(text, private):
    fields = dict(line.split(": ", 1) for line in text.splitlines()[1:])
    key = transport_key(private, fields["method"], bytes.fromhex(fields["message"]))
    bound = text[:text.index("nonce: ")].encode()
    return AESGCM(key).decrypt(bytes.fromhex(fields["nonce"]), bytes.fromhex(fields["wrapped"]), bound)


def export(ops, folder, private):
    pem = private.public_key().public_bytes(serialization.Encoding.PEM,
                                            serialization.PublicFormat.SubjectPublicKeyInfo)
    return subprocess.run([ops, "export", folder], input=pem, capture_output=True, check=False)


def main():
    ops = sys.argv[1]
    with tempfile.TemporaryDirectory(prefix="dek-export-") as folder:
        subprocess.run([ops, "prepare", folder], check=True)
        privates = [rsa.generate_private_key(65537, 2048), rsa.generate_private_key(65537, 3072)]
        privates += [ec.generate_private_key(curve) for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())]
        for private in privates:
            done = export(ops, folder, private)
            text = done.stdout.decode()
            assert done.returncode == 0, done.stderr
            assert unwrap(text, private) == material(), text
            try:
                unwrap(text.replace("state: active", "state: compromised"), private)
                sys.exit("an edited text was unwrapped")
            except InvalidTag:
                pass
        for weak in (rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP224R1())):
            assert export(ops, folder, weak).returncode == 1, "a weak key was accepted"
    print(f"{len(privates)} public keys: unwrapped by another implementation")


if __name__ == "__main__":
    main()
