// SPDX-License-Identifier: Apache-2.0
// What guessing a passphrase costs.
#pragma once

#include <cstdint>

namespace dek::keys {

// RFC 9106's second recommendation as the default; stored beside each passphrase slot and export.
struct Argon2Cost {
    std::uint32_t memory_kib = 64 * 1024; // 8 * lanes .. 1 GiB
    std::uint32_t passes = 3;             // 1 .. 64
    std::uint32_t lanes = 1;              // 1 .. 16
};

} // namespace dek::keys
