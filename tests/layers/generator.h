// SPDX-License-Identifier: Apache-2.0
// Random storage stacks and encrypted ranges, each from one seed.
#pragma once

#include "bench.h"

namespace bench {

class Random {
  public:
    explicit Random(std::uint64_t seed) : state_(seed) {}
    std::uint64_t next(); // any 64 bits
    std::uint64_t below(std::uint64_t n) { return n ? next() % n : 0; }
    std::uint64_t between(std::uint64_t from, std::uint64_t to) {
        return from + below(to - from + 1);
    }
    bool chance(unsigned percent) { return below(100) < percent; }

  private:
    std::uint64_t state_;
};

class Generator {
  public:
    explicit Generator(Random& random) : random_(random) {}

    // Up to four layers above the leaves; no two ways from the top to one LBA of a leaf but for a
    // mirror's or multipath's.
    Stack stack();
    // Of the stack made last, from `geometry()` on; never empty.
    LunMap ranges(const Stack& stack);
    dek_geometry geometry(const Stack& stack);
    std::uint64_t unit() const { return unit_; } // LBAs
    Device new_path(std::uint64_t size) { return leaf_of(size); }

  private:
    std::size_t make(unsigned depth, std::uint64_t size);
    Device leaf_of(std::uint64_t size);
    std::uint64_t grain(); // mostly a data unit
    std::string name();
    std::vector<Leg> legs_on(unsigned depth, std::uint64_t n, std::uint64_t length);
    std::size_t make_linear(unsigned depth, std::uint64_t size);
    std::size_t make_striped(unsigned depth, std::uint64_t size);
    std::size_t make_mirror(unsigned depth, std::uint64_t size);
    std::size_t make_multipath(unsigned depth, std::uint64_t size);
    std::size_t push(Device device);

    Random& random_;
    Stack stack_;
    std::uint64_t unit_ = 1;
    std::uint64_t origin_ = 0;
    unsigned oddities_ = 0;  // percent of what does not fit the unit
    unsigned strangers_ = 0; // percent of leaves that cannot encrypt
    unsigned names_ = 0;
};

} // namespace bench
