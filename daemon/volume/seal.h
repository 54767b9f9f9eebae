// SPDX-License-Identifier: Apache-2.0
// What guards a copy's bytes: SHA-256 against tearing, HMAC-SHA-256 against whoever edits the disk.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "base/secret.h"
#include "volume/header.h"
#include "volume/layout.h"

namespace dek::volume {

using Digest = std::array<std::uint8_t, digest_bytes>;
using Bytes = std::span<const std::uint8_t>;

// SHA-256 of both, one after the other.
Digest sha256(Bytes first, Bytes second);
// Of a whole copy (its first 512 bytes are a CopyHead): everything but the field `sha256`.
Digest copy_sha256(Bytes copy);
// HMAC-SHA-256 under HKDF-SHA-256(key, salt = uuid, "dekstack header mac 1") of everything but the
// fields `sha256` and `hmac`.
Digest copy_hmac(Bytes copy, const Uuid& uuid, const Secret& key);
// Constant time.
bool equal(Bytes a, Bytes b);

} // namespace dek::volume
