// SPDX-License-Identifier: Apache-2.0
// Crockford's base 32 in groups of 40 bits: 4 bytes of key, 1 of CRC-8.
#include "keys/recovery.h"

#include <string>
#include <string_view>

namespace dek::keys {
namespace {

constexpr std::string_view alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
constexpr std::size_t groups = 8;
constexpr std::size_t group_characters = 8;
constexpr std::size_t group_bytes = recovery_key_size / groups;

// Polynomial 0x07: every error within 8 successive bits is found, so every wrong character is.
std::uint8_t crc8(std::uint8_t crc, std::uint8_t byte) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit)
        crc = static_cast<std::uint8_t>((crc << 1) ^ ((crc & 0x80) != 0 ? 0x07 : 0));
    return crc;
}

// The group's place is part of it: groups that changed places are found.
std::uint8_t checksum(std::size_t group, std::span<const std::uint8_t> bytes) {
    std::uint8_t crc = crc8(0, static_cast<std::uint8_t>(group + 1));
    for (const std::uint8_t byte : bytes)
        crc = crc8(crc, byte);
    return crc;
}

bool ignored(std::uint8_t c) {
    return c == '-' || c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

int digit_of(std::uint8_t c) {
    char upper = static_cast<char>(c);
    if (c >= 'a' && c <= 'z')
        upper = static_cast<char>(c - 'a' + 'A');
    if (upper == 'O')
        upper = '0';
    if (upper == 'I' || upper == 'L')
        upper = '1';
    const auto at = alphabet.find(upper);
    return at == std::string_view::npos ? -1 : static_cast<int>(at);
}

tl::unexpected<Error> mistyped(std::size_t group) {
    return fail(Errc::invalid_argument, "group " + std::to_string(group + 1) + " of " +
                                            std::to_string(groups) +
                                            " of the recovery key is mistyped");
}

// `digits` holds one base 32 digit per byte; true when the checksum holds.
bool decode_group(std::size_t group, std::span<const std::uint8_t> digits,
                  std::span<std::uint8_t> bytes) {
    std::uint64_t bits = 0;
    for (const std::uint8_t digit : digits)
        bits = bits << 5 | digit;
    for (std::size_t i = 0; i < group_bytes; ++i)
        bytes[i] = static_cast<std::uint8_t>(bits >> (32 - 8 * i));
    return checksum(group, bytes) == static_cast<std::uint8_t>(bits);
}

} // namespace

Secret recovery_text(const Secret& key) {
    Secret text(groups * (group_characters + 1) - 1);
    std::size_t at = 0;
    for (std::size_t group = 0; group < groups; ++group) {
        const auto bytes = key.bytes().subspan(group * group_bytes, group_bytes);
        std::uint64_t bits = 0;
        for (const std::uint8_t byte : bytes)
            bits = bits << 8 | byte;
        bits = bits << 8 | checksum(group, bytes);
        if (group > 0)
            text.bytes()[at++] = '-';
        for (std::size_t i = 0; i < group_characters; ++i)
            text.bytes()[at++] = static_cast<std::uint8_t>(alphabet[bits >> (35 - 5 * i) & 31]);
    }
    return text;
}

Result<Secret> recovery_key_of(const Secret& text) {
    Secret digits(groups * group_characters);
    std::size_t filled = 0;
    for (const std::uint8_t c : text.bytes()) {
        if (ignored(c))
            continue;
        const int digit = digit_of(c);
        if (filled == digits.size())
            return fail(Errc::invalid_argument, "the recovery key is too long");
        if (digit < 0)
            return mistyped(filled / group_characters);
        digits.bytes()[filled++] = static_cast<std::uint8_t>(digit);
    }
    if (filled < digits.size())
        return fail(Errc::invalid_argument, "the recovery key is too short");
    Secret key(recovery_key_size);
    for (std::size_t group = 0; group < groups; ++group)
        if (!decode_group(group, digits.bytes().subspan(group * group_characters, group_characters),
                          key.bytes().subspan(group * group_bytes, group_bytes)))
            return mistyped(group);
    return key;
}

} // namespace dek::keys
