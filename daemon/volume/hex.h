// SPDX-License-Identifier: Apache-2.0
// Bytes as lower-case hexadecimal digits, and strictly back. For what is no secret.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace dek::volume {

inline std::string hex_text(std::span<const std::uint8_t> bytes) {
    static constexpr char digits[] = "0123456789abcdef";
    std::string text;
    text.reserve(2 * bytes.size());
    for (const std::uint8_t byte : bytes) {
        text += digits[byte >> 4];
        text += digits[byte & 15];
    }
    return text;
}

// -1 for what is no lower-case digit.
inline int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// False, and `out` unspecified, unless `text` is exactly out.size() pairs of lower-case digits.
inline bool hex_bytes(std::string_view text, std::span<std::uint8_t> out) {
    if (text.size() != 2 * out.size())
        return false;
    for (std::size_t i = 0; i < out.size(); ++i) {
        const int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        out[i] = static_cast<std::uint8_t>(high << 4 | low);
    }
    return true;
}

} // namespace dek::volume
