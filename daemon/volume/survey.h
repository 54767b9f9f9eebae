// SPDX-License-Identifier: Apache-2.0
// Both copies of a place, looked at together: what is newest, what contradicts itself, and how a
// new header takes their place.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "volume/header.h"

namespace dek::volume {

inline constexpr std::array<std::uint64_t, 2> copy_bytes{copy_a_byte, copy_b_byte};

struct Survey {
    std::array<CopyState, 2> states{};
    std::array<std::uint64_t, 2> sequences{}; // 0 where not valid
    Result<Copy> newest;                      // or why there is none
    std::uint64_t highest() const { return std::max(sequences[0], sequences[1]); }
};
// Fails only where reading does.
Result<Survey> survey(const Location& at);

// Writes sealed bytes over what the survey found, in an order that leaves the old header or the new
// one at any instant. Where there was none, or a refused one, that is what is read until the new
// one is whole; but of two copies that contradict each other the second may be read alone for a
// moment, and it is the HMAC that judges it.
Result<void> replace(const Location& at, const Survey& old, const std::vector<std::uint8_t>& copy);

} // namespace dek::volume
