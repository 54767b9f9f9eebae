// SPDX-License-Identifier: Apache-2.0
// The constructions everything in the keystore is sealed with: AES-256-GCM, HKDF-SHA-256,
// HMAC-SHA-256, Argon2id, and the unambiguous encoding of what a seal is bound to. docs/keystore.md
// names every use.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/secret.h"
#include "keys/argon2_cost.h"

namespace dek::keys {

using Bytes = std::vector<std::uint8_t>;
using ByteView = std::span<const std::uint8_t>;

inline constexpr std::size_t wrap_key_size = 32;
inline constexpr std::size_t nonce_size = 12;
inline constexpr std::size_t tag_size = 16;

ByteView bytes_of(std::string_view text);
Bytes random_bytes(std::size_t size);

// What a seal is bound to: texts and byte strings as a 32-bit little-endian length and the bytes,
// numbers as 64-bit little-endian, so that no two lists of fields encode alike.
class AssociatedData {
  public:
    explicit AssociatedData(std::string_view purpose) { text(purpose); }
    AssociatedData& text(std::string_view value) { return bytes(bytes_of(value)); }
    AssociatedData& bytes(ByteView value);
    AssociatedData& number(std::int64_t value);
    ByteView view() const { return encoded_; }

  private:
    Bytes encoded_;
};

struct Sealed {
    Bytes nonce; // 12 bytes
    Bytes text;  // ciphertext, then the 16-byte tag
};

// AES-256-GCM under a 32-byte key and a fresh random nonce.
Result<Sealed> seal(const Secret& key, ByteView plain, ByteView associated);
// Errc::wrong_key when it does not authenticate or has an impossible size. Empty plaintext gives an
// empty Secret.
Result<Secret> unseal(const Secret& key, const Sealed& sealed, ByteView associated);

// 32 bytes. The salt must not be empty.
Result<Secret> hkdf_sha256(const Secret& input, ByteView salt, std::string_view info);
Result<std::array<std::uint8_t, 32>> hmac_sha256(const Secret& key, ByteView message);
// 32 bytes. Errc::corrupt when the cost is out of bounds: it was read from somewhere.
Result<Secret> argon2id(const Secret& passphrase, ByteView salt, const Argon2Cost& cost);

} // namespace dek::keys
