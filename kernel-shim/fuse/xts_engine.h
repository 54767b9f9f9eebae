// SPDX-License-Identifier: Apache-2.0
// What an XTS engine is to XtsKey. Internal to dekxts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "xts_units.h"

namespace dek {

// One expanded key. Const members may run in several threads at once. False: not done, and what
// lies at the destination must not be used.
class XtsCipher {
  public:
    virtual ~XtsCipher() = default;
    virtual bool encrypt(const XtsUnits& units) const noexcept = 0;
    virtual bool decrypt(const XtsUnits& units) const noexcept = 0;
    // 1..32 AES blocks in place, under 16 bytes of tweak.
    virtual bool encrypt_blocks(std::span<std::uint8_t> blocks,
                                const std::uint8_t* tweak) const noexcept = 0;
    virtual bool decrypt_blocks(std::span<std::uint8_t> blocks,
                                const std::uint8_t* tweak) const noexcept = 0;

    XtsCipher() = default;
    XtsCipher(const XtsCipher&) = delete;
    XtsCipher& operator=(const XtsCipher&) = delete;
};

// `key`: 32 or 64 bytes with different halves. Null when the library refuses; std::bad_alloc.
std::unique_ptr<const XtsCipher> make_openssl_xts(std::span<const std::uint8_t> key);

} // namespace dek
