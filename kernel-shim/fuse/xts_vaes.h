// SPDX-License-Identifier: Apache-2.0
// AES-XTS with VAES and AVX-512: the engine behind XtsKey where the CPU has both. Internal to
// dekxts. Plain types only: its source file is compiled for a newer CPU than the rest, so nothing
// inline may leave it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "xts_units.h"

namespace dek::vaes {

// Round keys of one direction, in the order in which the rounds take them, and what the engine
// derives from the last one.
struct Direction {
    std::uint8_t keys[15][16]; // for decryption those of the equivalent inverse cipher
    std::uint8_t last[16];     // the last one once more
    std::uint8_t whiten[16];   // first + last
    std::uint8_t x8[16];       // last * x^8 + last, in the field of the tweaks
    std::uint8_t x16[16];
    std::uint8_t x32[16];
};

// One XTS key. Lives in locked memory.
struct Schedule {
    Direction encrypt, decrypt;
    std::uint8_t tweak[15][16];
    std::uint32_t rounds; // 10 or 14; 0 in a child process, whose copy the kernel has wiped
};

// `key`: 32 or 64 bytes, data key first. The CPU must be capable, here and below. The others return
// false, and touch nothing, when the schedule is a wiped one.
void expand(Schedule& schedule, const std::uint8_t* key, std::size_t bytes);
bool encrypt(const Schedule& schedule, const XtsUnits& units);
bool decrypt(const Schedule& schedule, const XtsUnits& units);

// 1..32 AES blocks in place under a 16-byte tweak value, by the code that does whole units:
// standard test vectors have shorter units and longer tweaks than volumes.
bool encrypt_blocks(const Schedule& schedule, std::uint8_t* blocks, std::size_t count,
                    const std::uint8_t* tweak);
bool decrypt_blocks(const Schedule& schedule, std::uint8_t* blocks, std::size_t count,
                    const std::uint8_t* tweak);

} // namespace dek::vaes
