// SPDX-License-Identifier: Apache-2.0
#include "printable.h"

#include <array>
#include <cstdio>

namespace dek::ctl {
namespace {

struct Decoded {
    char32_t point;
    std::size_t bytes; // 0: not UTF-8
};

// Overlong forms, surrogates and what lies beyond U+10FFFF are not UTF-8.
Decoded decode(std::string_view text) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned char lead = byte(0);
    if (lead < 0x80)
        return {lead, 1};
    const std::size_t size = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || text.size() < size)
        return {0, 0};
    char32_t point = lead & (0x7f >> size);
    for (std::size_t i = 1; i < size; ++i) {
        if ((byte(i) & 0xc0) != 0x80)
            return {0, 0};
        point = point << 6 | (byte(i) & 0x3f);
    }
    constexpr std::array<char32_t, 5> least{0, 0, 0x80, 0x800, 0x10000};
    if (point < least[size] || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff))
        return {0, 0};
    return {point, size};
}

bool harmless(char32_t point) {
    if (point < 0x20 || (point >= 0x7f && point < 0xa0))
        return false;
    const bool directs = (point >= 0x200e && point <= 0x200f) ||
                         (point >= 0x2028 && point <= 0x202e) ||
                         (point >= 0x2066 && point <= 0x2069) || point == 0x61c || point == 0xfeff;
    return !directs;
}

std::string escaped(const Decoded& what, unsigned char byte) {
    char text[16];
    if (what.bytes <= 1)
        std::snprintf(text, sizeof(text), "\\x%02x", byte);
    else
        std::snprintf(text, sizeof(text), "\\u{%04x}", static_cast<unsigned>(what.point));
    return text;
}

} // namespace

std::string printable(std::string_view text) {
    std::string out;
    while (!text.empty()) {
        const Decoded next = decode(text);
        const std::size_t size = next.bytes ? next.bytes : 1;
        if (next.bytes && harmless(next.point))
            out += text.substr(0, size);
        else
            out += escaped(next, static_cast<unsigned char>(text[0]));
        text.remove_prefix(size);
    }
    return out;
}

bool valid_utf8(std::string_view text) {
    while (!text.empty()) {
        const std::size_t size = decode(text).bytes;
        if (size == 0)
            return false;
        text.remove_prefix(size);
    }
    return true;
}

std::size_t columns_of(std::string_view utf8) {
    std::size_t columns = 0;
    for (const char c : utf8)
        columns += (static_cast<unsigned char>(c) & 0xc0) != 0x80;
    return columns;
}

std::string size_of_bytes(std::uint64_t bytes) {
    constexpr std::array<const char*, 7> units{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    std::size_t unit = 0;
    double value = static_cast<double>(bytes);
    for (; value >= 1024 && unit + 1 < units.size(); ++unit)
        value /= 1024;
    char text[40];
    std::snprintf(text, sizeof(text), unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return text;
}

std::string size_of_lbas(std::uint64_t lbas) {
    constexpr std::uint64_t most = UINT64_MAX / 512;
    if (lbas > most) // no device is that large: say the number, not a wrong size
        return std::to_string(lbas) + " LBAs";
    return size_of_bytes(lbas * 512);
}

std::string counted(const std::string& number, const std::string& noun) {
    return number + " " + noun + (number == "1" ? "" : "s");
}

} // namespace dek::ctl
