// SPDX-License-Identifier: Apache-2.0
// The map algebra against a model that cannot be wrong: one bit for each LBA of a small window, at
// the bottom and at the very top of all LBAs.
#include <catch2/catch.hpp>

#include <bitset>
#include <random>
#include <vector>

#include <dek/lunmap.h>

namespace {

constexpr std::size_t window = 48;
constexpr std::uint64_t top = ~std::uint64_t{0};
using Bits = std::bitset<window>;
using Map = std::vector<dek_range>;
using Random = std::mt19937_64;

struct Sample {
    Map map;
    Bits bits;
};

// Any valid map within the window: gaps and touching neighbours included.
Sample random_map(Random& random, std::uint64_t base) {
    Sample s;
    for (std::size_t at = random() % 6; at < window;) {
        std::size_t count = std::min<std::size_t>(1 + random() % 5, window - at);
        s.map.push_back({base + at, count});
        for (std::size_t i = 0; i < count; i++)
            s.bits.set(at + i);
        at += count + random() % 4;
        if (random() % 12 == 0)
            break;
    }
    return s;
}

Bits bits_of(const Map& map, std::uint64_t base) {
    Bits bits;
    for (const dek_range& r : map)
        for (std::uint64_t i = 0; i < r.count; i++)
            bits.set(r.first - base + i);
    return bits;
}

bool touching(const Map& map) {
    for (std::size_t i = 1; i < map.size(); i++)
        if (map[i - 1].first + map[i - 1].count == map[i].first)
            return true;
    return false;
}

using Operation = decltype(&dek_map_union);

// Through the operation with exactly enough room; with one entry too few nothing may be written.
Map apply(Operation operation, const Map& a, const Map& b) {
    std::size_t need = operation(a.data(), a.size(), b.data(), b.size(), nullptr, 0);
    Map out(need, {77, 77});
    if (need) {
        CHECK(operation(a.data(), a.size(), b.data(), b.size(), out.data(), need - 1) == need);
        for (const dek_range& r : out)
            CHECK((r.first == 77 && r.count == 77));
    }
    CHECK(operation(a.data(), a.size(), b.data(), b.size(), out.data(), need) == need);
    CHECK(dek_map_validate(out.data(), out.size(), 0, 0) == DEK_OK);
    return out;
}

bool model_contains(const Bits& bits, std::size_t at, std::size_t count, bool all) {
    std::size_t met = 0;
    for (std::size_t i = at; i < at + count; i++)
        met += bits.test(i);
    return all ? met == count : met > 0;
}

} // namespace

TEST_CASE("intersection, difference and union are those of the LBAs", "[lunmap]") {
    Random random(5);
    for (int round = 0; round < 4000; round++) {
        std::uint64_t base = round % 2 ? 0 : top - window;
        Sample a = random_map(random, base), b = random_map(random, base);
        CHECK(bits_of(apply(dek_map_intersect, a.map, b.map), base) == (a.bits & b.bits));
        CHECK(bits_of(apply(dek_map_subtract, a.map, b.map), base) == (a.bits & ~b.bits));
        Map both = apply(dek_map_union, a.map, b.map);
        CHECK(bits_of(both, base) == (a.bits | b.bits));
        CHECK_FALSE(touching(both));
    }
}

TEST_CASE("contains and overlaps ask for all and for any of the LBAs", "[lunmap]") {
    Random random(6);
    for (int round = 0; round < 300; round++) {
        std::uint64_t base = round % 2 ? 0 : top - window;
        Sample s = random_map(random, base);
        for (std::size_t at = 0; at < window; at++) {
            for (std::size_t count = 1; count <= std::min<std::size_t>(12, window - at); count++) {
                dek_range what{base + at, count};
                CHECK(dek_map_contains(s.map.data(), s.map.size(), what) ==
                      model_contains(s.bits, at, count, true));
                CHECK(dek_map_overlaps(s.map.data(), s.map.size(), what) ==
                      model_contains(s.bits, at, count, false));
            }
        }
    }
}

TEST_CASE("merging joins what touches and changes no LBA", "[lunmap]") {
    Random random(7);
    for (int round = 0; round < 2000; round++) {
        Sample s = random_map(random, 0);
        CHECK(dek_map_total(s.map.data(), s.map.size()) == s.bits.count());
        s.map.resize(dek_map_merge(s.map.data(), s.map.size()));
        CHECK(dek_map_validate(s.map.data(), s.map.size(), window, 0) == DEK_OK);
        CHECK(bits_of(s.map, 0) == s.bits);
        CHECK_FALSE(touching(s.map));
        CHECK(dek_map_total(s.map.data(), s.map.size()) == s.bits.count());
    }
}

TEST_CASE("a range that is empty or reaches 2^64 is contained nowhere", "[lunmap]") {
    Map everything{{0, top}};
    CHECK(dek_map_contains(everything.data(), 1, {0, top}));
    CHECK(dek_map_contains(everything.data(), 1, {top - 1, 1}));
    CHECK_FALSE(dek_map_contains(everything.data(), 1, {5, 0}));
    CHECK_FALSE(dek_map_contains(everything.data(), 1, {top, 1}));
    CHECK_FALSE(dek_map_contains(everything.data(), 1, {1, top}));
    CHECK_FALSE(dek_map_overlaps(everything.data(), 1, {5, 0}));
    CHECK(dek_map_overlaps(everything.data(), 1, {top - 1, top}));
    Map near_top{{top - 10, 5}};
    CHECK(dek_map_overlaps(near_top.data(), 1, {50, top - 20}));
    Map bottom{{0, 10}};
    CHECK_FALSE(dek_map_overlaps(bottom.data(), 1, {10, top}));
}

TEST_CASE("validation knows every way not to be a map", "[lunmap]") {
    auto verdict = [](const Map& map, std::uint64_t size, std::uint32_t unit) {
        return dek_map_validate(map.data(), map.size(), size, unit);
    };
    CHECK(verdict({}, 0, 0) == DEK_OK);
    CHECK(verdict({{0, 8}, {8, 8}}, 16, 4096) == DEK_OK);
    CHECK(verdict({{0, top}}, 0, 0) == DEK_OK);
    CHECK(verdict({{0, 0}}, 0, 0) == DEK_INVALID_RANGE);
    CHECK(verdict({{1, top}}, 0, 0) == DEK_INVALID_RANGE);
    CHECK(verdict({{top, 1}}, 0, 0) == DEK_INVALID_RANGE);
    CHECK(verdict({{8, 8}, {0, 8}}, 0, 0) == DEK_INVALID_RANGE);
    CHECK(verdict({{0, 9}, {8, 8}}, 0, 0) == DEK_INVALID_RANGE);
    CHECK(verdict({{0, 8}, {8, 9}}, 16, 0) == DEK_INVALID_RANGE);
    CHECK(verdict({{4, 8}}, 0, 4096) == DEK_INVALID_RANGE);
    CHECK(verdict({{8, 4}}, 0, 4096) == DEK_INVALID_RANGE);
    CHECK(verdict({{4, 4}}, 0, 2048) == DEK_OK);
    constexpr std::uint64_t high = std::uint64_t{1} << 32;
    CHECK(verdict({{high, high}}, 0, 4096) == DEK_OK);
    CHECK(verdict({{high, high}}, 0, 256) == DEK_INVALID_RANGE);
    CHECK(verdict({{0, 8}}, 0, 1536) == DEK_INVALID_RANGE);
}

TEST_CASE("shifting moves every range or none", "[lunmap]") {
    const Map map{{1536, 8704}, {11264, 9216}};
    auto shift = [&](std::uint64_t from, std::uint64_t to) {
        Map moved = map;
        dek_status status = dek_map_shift(moved.data(), moved.size(), from, to);
        for (std::size_t i = 0; i < map.size(); i++) {
            CHECK(moved[i].count == map[i].count);
            CHECK(moved[i].first == (status == DEK_OK ? map[i].first - from + to : map[i].first));
        }
        return status;
    };
    CHECK(shift(0, 0) == DEK_OK);
    CHECK(shift(0, 32000) == DEK_OK); // the document's D1
    CHECK(shift(1536, 0) == DEK_OK);
    CHECK(shift(1537, 0) == DEK_INVALID_RANGE);
    CHECK(shift(0, top - 20480) == DEK_OK);
    CHECK(shift(0, top - 20479) == DEK_INVALID_RANGE);
    CHECK(dek_map_shift(nullptr, 0, 5, 0) == DEK_OK);
}
