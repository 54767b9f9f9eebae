// SPDX-License-Identifier: Apache-2.0
// When a change of block devices is told. The kernel's side is tests/vm/layers/topology.sh's.
#include <catch2/catch.hpp>

#include "kcm/block_watch.h"

using namespace dek::kcm;
using namespace std::chrono_literals;

TEST_CASE("the first of a burst is told at once, the others together", "[live]") {
    Burst burst(200ms);
    const Burst::Clock::time_point start{};
    CHECK_FALSE(burst.wait(start));
    burst.note();
    CHECK(burst.wait(start) == 0ms);
    burst.told(start);
    CHECK_FALSE(burst.wait(start + 1ms));
    for (int i = 0; i < 50; i++)
        burst.note();
    CHECK(burst.wait(start + 50ms) == 150ms);
    CHECK(burst.wait(start + 199999us) == 1ms); // never 0 before its time
    CHECK(burst.wait(start + 200ms) == 0ms);
    burst.told(start + 300ms);
    CHECK_FALSE(burst.wait(start + 1h));
    burst.note();
    CHECK(burst.wait(start + 499ms) == 1ms);
    CHECK(burst.wait(start + 1h) == 0ms);
}

TEST_CASE("a watch with nothing to tell ends when it is told to", "[live]") {
    int calls = 0;
    const auto start = Burst::Clock::now();
    {
        const BlockWatch watch([&] { calls++; });
    }
    CHECK(Burst::Clock::now() - start < 2s);
}
