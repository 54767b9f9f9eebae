// SPDX-License-Identifier: Apache-2.0
// XTS by libcrypto's EVP, one fresh context for each data unit: what the engines are compared with.
#pragma once

#include <cstdint>
#include <vector>

#include "xts.h"

using Bytes = std::vector<std::uint8_t>;

struct Geometry {
    std::uint32_t data_unit; // bytes
    std::uint64_t tweak;
    std::uint32_t step;
};

Bytes reference_encrypt(const Bytes& key, const Bytes& text, const Geometry& geometry);

// The engines this CPU can run; a test that finds only one says so.
std::vector<dek::XtsEngine> engines_here();
