// SPDX-License-Identifier: Apache-2.0
// A run of data units as the XTS engines take it. Internal to dekxts; plain types only, because
// xts_vaes.cpp includes it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dek {

// `count` whole data units, in order, at least one. `bytes_per_unit` is a multiple of 512. Unit i
// has the tweak number first + i * step, modulo 2^64. `to` may equal `from`.
struct XtsUnits {
    std::uint8_t* to;
    const std::uint8_t* from;
    std::size_t count;
    std::size_t bytes_per_unit;
    std::uint64_t first;
    std::uint32_t step;
};

} // namespace dek
