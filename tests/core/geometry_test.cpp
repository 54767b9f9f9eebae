// SPDX-License-Identifier: Apache-2.0
#include <random>

#include <catch2/catch.hpp>

#include <snapshot.h>

namespace {

dek_geometry plain_geometry(unsigned unit = 4096, std::uint8_t rule = DEK_TWEAK_UNIT) {
    dek_geometry g{};
    g.data_unit = unit;
    g.tweak_rule = rule;
    return g;
}

struct dek_tweak_run run(const dek_geometry& g, std::uint64_t lba, std::uint64_t count) {
    struct dek_tweak_run out {};
    ::dek_tweak_run(&g, lba, count, &out);
    return out;
}

// The number of one data unit, from the definition.
std::uint64_t tweak_of(const dek_geometry& g, std::uint64_t lba) {
    const unsigned __int128 p = lba - g.device_origin;
    unsigned __int128 logical = g.logical_origin + p;
    if (g.chunk)
        logical = g.logical_origin + (p / g.chunk * g.stripes + g.leg) * g.chunk + p % g.chunk;
    return static_cast<std::uint64_t>(g.tweak_rule == DEK_TWEAK_UNIT ? logical / (g.data_unit / 512)
                                                                     : logical);
}

} // namespace

TEST_CASE("a data unit is numbered in units or in LBAs of the logical volume") {
    auto g = plain_geometry();
    g.device_origin = 2048;
    g.logical_origin = 800;
    auto got = run(g, 2048 + 16, 64);
    CHECK(got.tweak == 102);
    CHECK(got.step == 1);
    CHECK(got.count == 64);
    g.tweak_rule = DEK_TWEAK_LBA512;
    got = run(g, 2048 + 16, 64);
    CHECK(got.tweak == 816);
    CHECK(got.step == 8);
    CHECK(got.count == 64);
}

TEST_CASE("on 512-byte units both tweak rules are the same") {
    for (const std::uint64_t lba : {0ull, 1ull, 12345ull}) {
        const auto unit = run(plain_geometry(512), lba, 9);
        const auto lba512 = run(plain_geometry(512, DEK_TWEAK_LBA512), lba, 9);
        CHECK(unit.tweak == lba512.tweak);
        CHECK(unit.step == lba512.step);
    }
}

TEST_CASE("a run of tweaks ends with its stripe chunk and goes on in the next row") {
    auto g = plain_geometry();
    g.chunk = 128;
    g.stripes = 3;
    g.leg = 1;
    auto got = run(g, 120, 64);
    CHECK(got.count == 8);
    CHECK(got.tweak == (128 + 120) / 8);
    got = run(g, 128, 56);
    CHECK(got.count == 56);
    CHECK(got.tweak == (3 * 128 + 128) / 8);
}

TEST_CASE("every unit of a run has the number that the definition gives it") {
    std::mt19937_64 random(5);
    for (int i = 0; i < 20'000; ++i) {
        auto g =
            plain_geometry(512u << random() % 4, random() % 2 ? DEK_TWEAK_UNIT : DEK_TWEAK_LBA512);
        const std::uint64_t unit = g.data_unit / 512;
        g.device_origin = random() % 100'000 * unit;
        g.logical_origin = (random() >> 10) / unit * unit;
        if (random() % 2) {
            g.chunk = static_cast<std::uint32_t>((1 + random() % 64) * unit);
            g.stripes = static_cast<std::uint16_t>(1 + random() % 9);
            g.leg = static_cast<std::uint16_t>(random() % g.stripes);
        }
        REQUIRE(dek_geometry_valid(&g));
        std::uint64_t lba = g.device_origin + random() % 100'000 * unit;
        std::uint64_t left = (1 + random() % 40) * unit;
        while (left) {
            const auto got = run(g, lba, left);
            REQUIRE((got.count && got.count <= left && got.count % unit == 0));
            for (std::uint64_t n = 0; n < got.count / unit; ++n)
                REQUIRE(got.tweak + n * got.step == tweak_of(g, lba + n * unit));
            lba += got.count;
            left -= got.count;
        }
    }
}

TEST_CASE("a data unit that is no power of two between 512 and 4096 is no geometry") {
    for (const unsigned unit : {0u, 1u, 256u, 513u, 1536u, 8192u}) {
        const auto g = plain_geometry(unit);
        CHECK_FALSE(dek_geometry_valid(&g));
    }
    for (const unsigned unit : {512u, 1024u, 2048u, 4096u}) {
        const auto g = plain_geometry(unit);
        CHECK(dek_geometry_valid(&g));
    }
    const auto g = plain_geometry(4096, 2);
    CHECK_FALSE(dek_geometry_valid(&g));
}

TEST_CASE("a geometry that would cut a data unit is refused") {
    auto g = plain_geometry();
    g.device_origin = 4;
    CHECK_FALSE(dek_geometry_valid(&g));
    g.logical_origin = 12; // the same remainder: units stay whole
    CHECK(dek_geometry_valid(&g));
    g.chunk = 64;
    g.stripes = 2;
    CHECK_FALSE(dek_geometry_valid(&g)); // but not where a chunk ends
    g.device_origin = g.logical_origin = 8;
    CHECK(dek_geometry_valid(&g));
    g.chunk = 60;
    CHECK_FALSE(dek_geometry_valid(&g));
}

TEST_CASE("stripes and leg must fit each other, and be nothing without a chunk") {
    auto g = plain_geometry();
    g.stripes = 1;
    CHECK_FALSE(dek_geometry_valid(&g));
    g.stripes = 0;
    g.leg = 1;
    CHECK_FALSE(dek_geometry_valid(&g));
    g.chunk = 64;
    CHECK_FALSE(dek_geometry_valid(&g)); // no stripes
    g.stripes = 1;
    CHECK_FALSE(dek_geometry_valid(&g)); // leg 1 of 1
    g.leg = 0;
    CHECK(dek_geometry_valid(&g));
}
