// SPDX-License-Identifier: Apache-2.0
// A test key, and the ways it is handed to the shim.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include <dek/codec.h>

struct Key {
    std::array<std::uint8_t, DEK_KEY_DATA_SIZE> bytes{};
    std::uint8_t blob = DEK_BLOB_UNWRAPPED;
    bool kek_encrypted = false; // an `encrypted` key wraps it, not a `logon` key
};

// 128 hexadecimal digits, `logon:` before them for a key in the kernel's keyring, `wrapped:` for
// one under a KEK that is there, `encrypted:` likewise with a KEK of that type, which the kernel
// has drawn. NO_KEK in the environment: that is not there; FLIP: with a bit of the ciphertext
// changed.
Key parse_key(const std::string& text);
std::uint8_t hex_byte(const std::string& text, std::size_t at);

// The blob of a command to the endpoint `id`; the key's name is "vm".
class Blob {
  public:
    Blob(const Key& key, std::uint64_t id);
    Blob(const Blob&) = delete;
    Blob& operator=(const Blob&) = delete;
    const dek_blob* view() const { return &view_; }

  private:
    void wrap(std::uint64_t id, bool kek_encrypted);

    dek_blob view_{};
    std::array<std::uint8_t, DEK_KEY_DATA_SIZE> data_;
    std::array<std::uint8_t, DEK_WRAP_NONCE_SIZE> nonce_{9, 8, 7};
    std::array<std::uint8_t, DEK_WRAP_TAG_SIZE> tag_{};
};
