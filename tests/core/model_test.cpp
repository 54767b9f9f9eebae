// SPDX-License-Identifier: Apache-2.0
#include <random>
#include <stdexcept>

#include <catch2/catch.hpp>

#include "allocator.h"
#include "walk.h"

using namespace rig;

TEST_CASE("after any sequence of operations every LBA, list and count is what a plain model says") {
    const long before = allocator::live();
    const long unwiped = allocator::freed_unwiped();
    for (unsigned seed = 1; seed <= 60; ++seed) {
        std::mt19937 random(seed);
        Walk walk([&](unsigned n) { return static_cast<unsigned>(random() % n); }, seed, seed % 2,
                  seed % 3 == 0);
        for (unsigned i = 0; i < 2000; ++i) {
            try {
                walk.step();
            } catch (const std::logic_error& e) {
                FAIL("seed " << seed << ", step " << i << ": " << e.what());
            }
        }
    }
    CHECK(allocator::live() == before);
    CHECK(allocator::freed_unwiped() == unwiped);
    CHECK(allocator::freed_wiped() > 1000);
}
