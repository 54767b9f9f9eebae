// SPDX-License-Identifier: Apache-2.0
// What a fuzzer does to something well-formed: bytes, text, numbers. Repeatable by its seed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>

#include "client.h"

class Mutator {
  public:
    explicit Mutator(std::uint64_t seed) : engine_(seed) {}

    std::uint64_t below(std::uint64_t n) { return n ? engine_() % n : 0; }
    bool chance(unsigned percent) { return below(100) < percent; }
    // Small, large, at a power of two, or at the end of 32 or 64 bits.
    std::uint64_t number();
    // A few bytes, or 4 or 8 of them as a number, anywhere in it.
    void bytes(void* data, std::size_t size);
    // Words dropped, doubled, replaced by numbers; characters changed.
    std::string text(const std::string& valid);
    // Up to `most` ranges in ascending order, within [0, end), aligned to `align`; often valid, not
    // always.
    Ranges ranges(std::size_t most, std::uint64_t end, std::uint64_t align);

  private:
    std::mt19937_64 engine_;
};
