// SPDX-License-Identifier: Apache-2.0
// A fresh AES-256 key that only the owner of a public key can have too.
#pragma once

#include <string>

#include "keys/wrapping.h"

namespace dek::keys {

struct Conveyed {
    Secret key;         // 32 bytes
    std::string method; // "rsa-oaep-sha256" or "ecdh-hkdf-sha256"
    Bytes message; // the RSA ciphertext, or the ephemeral public key (DER SubjectPublicKeyInfo)
};

// RSA: a random key under OAEP with SHA-256 (also for MGF1), no label. EC: HKDF-SHA-256 of the
// shared x coordinate, the ephemeral public key as salt, "dekstack wrapped key" as info.
Result<Conveyed> convey_key(const std::string& pem);

} // namespace dek::keys
