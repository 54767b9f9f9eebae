// SPDX-License-Identifier: Apache-2.0
// Known answers for an XTS engine: both key sizes, both tweak rules, tweak numbers that wrap, more
// units than an engine takes in one batch. An answer is the SHA-256 of a ciphertext made by an
// independent program.
#include "xts.h"

#include <algorithm>
#include <new>
#include <vector>

#include <openssl/evp.h>

namespace dek {
namespace {

struct KnownAnswer {
    std::size_t key_bytes;
    std::uint32_t data_unit; // bytes
    std::size_t units;
    std::uint64_t tweak;
    std::uint32_t step;
    std::uint8_t sha256[32];
};

constexpr KnownAnswer known_answers[] = {
    {32, 512, 37, 0xfffffffffffffff5, 1, {0x2b, 0xac, 0x8c, 0x1c, 0x4a, 0x04, 0x7e, 0xc7,
                                          0x32, 0x82, 0x72, 0xf3, 0x40, 0x27, 0xaa, 0x5b,
                                          0xb1, 0x26, 0x93, 0xa5, 0x08, 0x45, 0x83, 0x0d,
                                          0x3d, 0xc3, 0x7d, 0x1e, 0xe1, 0x58, 0xd7, 0x91}},
    {32, 4096, 6, 0x0123456789abcdef, 8, {0xf7, 0xcc, 0x98, 0x11, 0xb0, 0x77, 0xc8, 0x16,
                                          0x9d, 0x98, 0x27, 0x0c, 0x98, 0x0b, 0xc6, 0x4c,
                                          0x77, 0x17, 0x6b, 0x6f, 0x38, 0xa9, 0xff, 0xe0,
                                          0x4b, 0x42, 0xe4, 0xe0, 0xa2, 0x5b, 0x9a, 0x14}},
    {64, 512, 37, 0xfffffffffffffff5, 1, {0x19, 0x0f, 0x29, 0x00, 0xd1, 0x01, 0xcb, 0xf1,
                                          0x6c, 0x4f, 0xb5, 0x63, 0xfc, 0x71, 0x0e, 0x39,
                                          0x7c, 0xd2, 0x4e, 0xd8, 0xe0, 0x5c, 0xe3, 0x09,
                                          0xf6, 0x31, 0x4e, 0x34, 0xcd, 0xa5, 0x03, 0x46}},
    {64, 4096, 6, 0x0123456789abcdef, 8, {0x1c, 0xb7, 0x58, 0x0b, 0xec, 0x24, 0xa5, 0xf7,
                                          0xf8, 0xf3, 0xd2, 0x86, 0x04, 0x39, 0x4e, 0x06,
                                          0xab, 0xbd, 0x64, 0x46, 0xc3, 0xb3, 0x2e, 0x07,
                                          0xfe, 0xe2, 0x71, 0x73, 0x36, 0x39, 0xfc, 0x4d}},
};

// Not a secret: byte i of the key is 29 i + 7.
std::vector<std::uint8_t> test_key(std::size_t bytes) {
    std::vector<std::uint8_t> key(bytes);
    for (std::size_t i = 0; i < bytes; i++)
        key[i] = static_cast<std::uint8_t>(29 * i + 7);
    return key;
}

// Byte i is 167 i + 13 (i / 256).
std::vector<std::uint8_t> test_text(std::size_t bytes) {
    std::vector<std::uint8_t> text(bytes);
    for (std::size_t i = 0; i < bytes; i++)
        text[i] = static_cast<std::uint8_t>(167 * i + 13 * (i / 256));
    return text;
}

bool has_digest(const std::vector<std::uint8_t>& bytes, const std::uint8_t (&expected)[32]) {
    std::uint8_t digest[32];
    unsigned size = 0;
    return EVP_Digest(bytes.data(), bytes.size(), digest, &size, EVP_sha256(), nullptr) == 1 &&
           size == sizeof(digest) && std::equal(std::begin(digest), std::end(digest), expected);
}

bool answers(const KnownAnswer& known, XtsEngine engine) {
    const auto key = XtsKey::make(test_key(known.key_bytes), engine);
    if (!key)
        return false;
    const auto text = test_text(known.units * known.data_unit);
    std::vector<std::uint8_t> work(text.size());
    return key->encrypt(work.data(), text.data(), work.size(), known.data_unit, known.tweak,
                        known.step) &&
           has_digest(work, known.sha256) &&
           key->decrypt(work.data(), work.data(), work.size(), known.data_unit, known.tweak,
                        known.step) &&
           work == text;
}

} // namespace

bool xts_self_test(XtsEngine engine) {
    try {
        return std::all_of(std::begin(known_answers), std::end(known_answers),
                           [engine](const KnownAnswer& known) { return answers(known, engine); });
    } catch (const std::bad_alloc&) {
        return false;
    }
}

} // namespace dek
