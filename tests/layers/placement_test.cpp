// SPDX-License-Identifier: Apache-2.0
// Tweak geometry through the layers: the number of an LBA is the same wherever it lies.
#include <catch2/catch.hpp>

#include <snapshot.h>

#include "bench.h"

using namespace bench;

namespace {

std::uint64_t tweak_at(const dek_geometry& g, std::uint64_t lba) {
    struct dek_tweak_run run;
    dek_tweak_run(&g, lba, g.data_unit / 512, &run);
    return run.tweak;
}

// The one piece of the leg that holds the LBA.
const Piece& piece_of(const std::vector<Piece>& pieces, std::size_t leg, std::uint64_t lba) {
    for (const auto& piece : pieces)
        if (piece.leg == leg && piece.map.contains({lba, 1}))
            return piece;
    throw std::logic_error("no piece");
}

Leg on(std::size_t device, std::uint64_t offset) {
    return {device, offset, 0, 0, PathState::active};
}

constexpr dek_geometry volume{4096, DEK_TWEAK_UNIT, 2048, 0, 0, 0, 0}; // behind a default header

} // namespace

TEST_CASE("the default header's shift does not come out even in rows of stripes", "[layers]") {
    // Rows of 3 * 128 LBAs, and a volume that begins 2048 LBAs in: in the middle of the sixth row.
    const Device s = striped("s", 128, 384 * 100, {on(0, 0), on(1, 800), on(2, 16)});
    const LunMap map = map_of({{2048, 384 * 100 - 2048}});
    const auto pieces = place(s, map, volume);
    REQUIRE(pieces);
    CHECK(pieces->size() == 5); // legs 1 and 2 have a rest of the sixth row each
    for (std::uint64_t lba = 2048; lba < s.size; lba += 8) {
        const auto chunk = lba / 128, leg = chunk % 3;
        const auto there = s.legs[leg].offset + chunk / 3 * 128 + lba % 128;
        CHECK(tweak_at(piece_of(*pieces, leg, there).geometry, there) == (lba - 2048) / 8);
    }
    for (const auto& piece : *pieces)
        CHECK(dek_geometry_valid(&piece.geometry));
}

TEST_CASE("stripes over a concatenation keep their numbers across its segments", "[layers]") {
    // Segments that begin before the stripe's own origin, mid-chunk.
    const Device leg = linear("v", {{0, 0, 1064}, {1, 8, 984}});
    dek_geometry g{4096, DEK_TWEAK_LBA512, 16, 640, 64, 4, 2};
    const LunMap map = map_of({{16, 2032}});
    const auto pieces = place(leg, map, g);
    REQUIRE(pieces);
    for (std::uint64_t lba = 16; lba < 2048; lba += 8) {
        const std::size_t segment = lba >= 1064;
        const auto there = segment ? lba - 1064 + 8 : lba;
        const auto& piece = piece_of(*pieces, segment, there);
        CHECK(tweak_at(piece.geometry, there) == tweak_at(g, lba));
        CHECK(dek_geometry_valid(&piece.geometry));
        CHECK(piece.geometry.device_origin <= there);
    }
}

TEST_CASE("numbers beyond 64 bits are refused, not wrapped", "[layers]") {
    dek_geometry far = volume;
    far.logical_origin = ~0ull - 15;
    far.device_origin = 0;
    const Device s = striped("s", 128, 1024, {on(0, 0), on(1, 0)});
    CHECK(place(linear("l", {{0, 0, 1024}}), map_of({{0, 8}}), far));
    CHECK(place(s, LunMap(), far)->empty());
    const dek_geometry striped_far{4096, DEK_TWEAK_UNIT, 0, ~0ull - 7, 8, 9, 0};
    const auto pieces =
        place(linear("l", {{0, 100, 2048}, {0, 0, 64}}), map_of({{2048, 8}}), striped_far);
    REQUIRE_FALSE(pieces);
    CHECK(pieces.error().why == "is numbered beyond what 64 bits hold");
}

TEST_CASE("a path without fence is found wherever it lies", "[layers]") {
    Stack stack =
        stack_of({leaf("a", Kind::fence, 100), leaf("b", Kind::opaque, 100),
                  linear("v", {{0, 0, 50}, {1, 0, 50}}), multipath("m", 100, {on(2, 0)})});
    CHECK(find_unfenced(stack, 3, map_of({{0, 50}})) == SIZE_MAX);
    CHECK(find_unfenced(stack, 3, map_of({{0, 51}})) == 1);
    stack.devices[3].legs[0].state = PathState::failed;
    CHECK(find_unfenced(stack, 3, map_of({{0, 51}})) == SIZE_MAX);
    CHECK(find_unfenced(stack, 3, map_of({{0, 51}}), Paths::failed_too) == 1);
}
