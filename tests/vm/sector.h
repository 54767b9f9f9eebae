// SPDX-License-Identifier: Apache-2.0
// A sector that says what it is: a mark in plain text, where it belongs and which writing of it
// this is, contents made from both, and a checksum. Whoever finds one needs nothing else to judge
// it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

inline constexpr std::size_t sector_size = 512;
inline constexpr char sector_mark[] = "dekstack-vm-load"; // 16 characters at the start
inline constexpr std::size_t sector_mark_size = sizeof(sector_mark) - 1;

struct SectorName {
    std::uint64_t lba = 0;  // 512-byte LBA of what it was written to
    std::uint32_t pass = 0; // from 1
    bool operator==(const SectorName&) const = default;
};

void sector_fill(std::uint8_t* sector, SectorName name);
// What the sector says of itself, or nothing when a byte of it is wrong.
std::optional<SectorName> sector_read(const std::uint8_t* sector);
bool sector_has_mark(const std::uint8_t* sector);
