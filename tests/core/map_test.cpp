// SPDX-License-Identifier: Apache-2.0
// The must-encrypt map, page by page.
#include <memory>

#include <catch2/catch.hpp>

#include "rig.h"

using namespace rig;

namespace {

dek_map_entry encrypt(std::uint64_t first, std::uint64_t count) {
    return {first, count, DEK_MAP_ENCRYPT, 0};
}
dek_map_entry reserved(std::uint64_t first, std::uint64_t count) {
    return {first, count, DEK_MAP_RESERVED, 0};
}
constexpr unsigned all_flags = DEK_MAP_BEGIN | DEK_MAP_ADD | DEK_MAP_COMMIT;

} // namespace

TEST_CASE("an unmapped endpoint reads raw and refuses writes, everywhere") {
    Endpoint e;
    CHECK(e.read(0) == DEK_PASS);
    CHECK(e.look(5, true, 5000) == Verdict{DEK_REFUSE, 0, 4091});
    CHECK(e.ranges().empty());
    CHECK(dek_snapshot_generation(dek_endpoint_current(e.ep)) == 0);
}

TEST_CASE("in a map, what must be encrypted is fenced, reserved is read-only, the rest is plain") {
    Endpoint e;
    REQUIRE(e.map_page(5, all_flags, {reserved(8, 8), encrypt(16, 16)}) == 0);
    CHECK(e.look(0, true, 100) == Verdict{DEK_PASS, 0, 8});
    CHECK(e.look(8, false, 100) == Verdict{DEK_PASS, 0, 8});
    CHECK(e.look(8, true, 100) == Verdict{DEK_REFUSE, 0, 8});
    CHECK(e.look(16, false, 100) == Verdict{DEK_FENCED, 0, 16});
    CHECK(e.look(16, true, 100) == Verdict{DEK_FENCED, 0, 16});
    CHECK(e.look(32, true, 100) == Verdict{DEK_PASS, 0, 100});
    CHECK(dek_snapshot_generation(dek_endpoint_current(e.ep)) == 5);
    CHECK(dek_snapshot_ranges(dek_endpoint_current(e.ep)) == 2);
    const auto ranges = e.ranges();
    REQUIRE(ranges.size() == 2);
    CHECK(ranges[0].state == DEK_RANGE_RESERVED);
    CHECK(ranges[1].state == DEK_RANGE_FENCED);
}

TEST_CASE("nothing of a map is in force before its commit, then all of it") {
    Endpoint e;
    REQUIRE(e.map_page(1, DEK_MAP_BEGIN, {}) == 0);
    REQUIRE(e.map_page(1, DEK_MAP_ADD, {encrypt(0, 8)}) == 0);
    REQUIRE(e.map_page(1, DEK_MAP_ADD, {encrypt(16, 8)}) == 0);
    CHECK(e.change.next == nullptr);
    CHECK(e.write(0) == DEK_REFUSE);
    REQUIRE(e.map_page(1, DEK_MAP_COMMIT, {}) == 0);
    CHECK(e.write(0) == DEK_FENCED);
    CHECK(e.write(8) == DEK_PASS);
    CHECK(e.write(16) == DEK_FENCED);
}

TEST_CASE("generations only grow") {
    Endpoint e;
    CHECK(e.map_page(0, all_flags, {}) == -EINVAL);
    REQUIRE(e.map_page(7, all_flags, {}) == 0);
    CHECK(e.map_page(7, DEK_MAP_BEGIN, {}) == -ESTALE);
    CHECK(e.map_page(6, DEK_MAP_BEGIN, {}) == -ESTALE);
    CHECK(e.map_page(8, DEK_MAP_BEGIN, {}) == 0);
}

TEST_CASE("pages of a map that is not open are refused") {
    Endpoint e;
    CHECK(e.map_page(1, DEK_MAP_ADD, {encrypt(0, 8)}) == -EBADF);
    CHECK(e.map_page(1, DEK_MAP_COMMIT, {}) == -EBADF);
    REQUIRE(e.map_page(1, DEK_MAP_BEGIN, {}) == 0);
    CHECK(e.map_page(2, DEK_MAP_ADD, {encrypt(0, 8)}) == -EBADF);
}

TEST_CASE("a second BEGIN drops the open map") {
    Endpoint e;
    REQUIRE(e.map_page(1, DEK_MAP_BEGIN | DEK_MAP_ADD, {encrypt(0, 8)}) == 0);
    REQUIRE(e.map_page(2, DEK_MAP_BEGIN | DEK_MAP_ADD, {encrypt(16, 8)}) == 0);
    CHECK(e.map_page(1, DEK_MAP_COMMIT, {}) == -EBADF);
    REQUIRE(e.map_page(2, all_flags & ~DEK_MAP_ADD, {}) == 0);
    CHECK(e.ranges().empty()); // begun afresh
}

TEST_CASE("a page with a bad entry drops the open map and changes nothing") {
    Endpoint e;
    REQUIRE(e.map_page(1, all_flags, {encrypt(0, 8)}) == 0);
    REQUIRE(e.map_page(2, DEK_MAP_BEGIN | DEK_MAP_ADD, {encrypt(512, 64)}) == 0);
    dek_map_entry bad = encrypt(1024, 8);
    SECTION("unsorted") {
        bad.first = 256;
    }
    SECTION("overlapping") {
        bad.first = 568;
    }
    SECTION("empty") {
        bad.count = 0;
    }
    SECTION("unaligned start") {
        bad.first = 1028;
    }
    SECTION("unaligned length") {
        bad.count = 4;
    }
    SECTION("outside") {
        bad.first = 4096;
    }
    SECTION("reaching outside") {
        bad.count = 8192;
    }
    SECTION("overflowing") {
        bad.count = ~0ull - 7;
    }
    SECTION("of no kind") {
        bad.kind = 4;
    }
    SECTION("of kind 0") {
        bad.kind = 0;
    }
    SECTION("with reserved bytes") {
        bad.reserved = 1;
    }
    CHECK(e.map_page(2, DEK_MAP_ADD, {bad}) == -EINVAL);
    CHECK(e.map_page(2, DEK_MAP_COMMIT, {}) == -EBADF);
    REQUIRE(e.ranges().size() == 1);
    CHECK(e.ranges()[0].count == 8);
}

TEST_CASE("fields that contradict each other are refused") {
    Endpoint e;
    auto page = std::make_unique<dek_ioc_map>();
    page->generation = 1;
    page->flags = DEK_MAP_BEGIN;
    SECTION("no flags") {
        page->flags = 0;
    }
    SECTION("unknown flags") {
        page->flags |= 8;
    }
    SECTION("too many entries") {
        page->flags |= DEK_MAP_ADD;
        page->count = DEK_MAP_PAGE + 1;
    }
    SECTION("entries without ADD") {
        page->count = 1;
        page->entry[0] = encrypt(0, 8);
    }
    SECTION("unused entries that are not zero") {
        page->entry[599].first = 1;
    }
    CHECK(dek_endpoint_map(e.ep, page.get(), &e.change) == -EINVAL);
    CHECK(e.change.next == nullptr);
}

TEST_CASE("neighbours of one kind are one range") {
    Endpoint e(4096, false);
    e.config.max_ranges = 2;
    e.make();
    REQUIRE(e.map_page(1, all_flags,
                       {encrypt(0, 8), encrypt(8, 8), encrypt(16, 8), reserved(24, 8),
                        reserved(32, 8)}) == 0);
    REQUIRE(e.ranges().size() == 2);
    CHECK(e.ranges()[0].count == 24);
    CHECK(e.ranges()[1].count == 16);
}

TEST_CASE("more ranges than the endpoint holds are E2BIG") {
    Endpoint e(4096, false);
    e.config.max_ranges = 2;
    e.make();
    CHECK(e.map_page(1, all_flags, {encrypt(0, 8), encrypt(16, 8), encrypt(32, 8)}) == -E2BIG);
    CHECK(e.map_page(1, DEK_MAP_COMMIT, {}) == -EBADF);
    REQUIRE(e.associate({{8, 8}}).status == DEK_OK);
    CHECK(e.map_page(1, all_flags, {encrypt(0, 24)}) == -E2BIG); // fenced, keyed, fenced
    CHECK(e.describe().map_generation == 0);
    CHECK(e.map_page(1, all_flags, {encrypt(0, 16)}) == 0);
}

TEST_CASE("ranges held by an association must be in the new map, and stay keyed") {
    Endpoint e;
    const Answer a = e.associate({{8, 8}, {64, 16}});
    CHECK(e.map_page(1, all_flags, {encrypt(0, 64)}) == -EBUSY);
    CHECK(e.map_page(2, all_flags, {encrypt(8, 8), encrypt(64, 8)}) == -EBUSY);
    CHECK(e.map_page(3, all_flags, {encrypt(8, 8), reserved(64, 16)}) == -EBUSY);
    CHECK(e.map_page(4, all_flags, {}) == -EBUSY);
    CHECK(e.write(0) == DEK_REFUSE); // still unmapped
    REQUIRE(e.map_page(5, all_flags, {encrypt(0, 64), encrypt(64, 64)}) == 0);
    CHECK(e.look(8, true, 100) == Verdict{DEK_CRYPT, a.handle, 8});
    CHECK(e.look(64, true, 100) == Verdict{DEK_CRYPT, a.handle, 16});
    CHECK(e.look(0, true, 100) == Verdict{DEK_FENCED, 0, 8});
    CHECK(e.look(80, true, 100) == Verdict{DEK_FENCED, 0, 48});
    CHECK(e.engine.drops == 0);
}

TEST_CASE("a map refused because a range is keyed can be committed once it is not") {
    Endpoint e;
    const Answer a = e.associate({{8, 8}});
    REQUIRE(e.map_page(1, all_flags, {encrypt(64, 8)}) == -EBUSY);
    REQUIRE(e.disassociate(a.handle).status == DEK_OK);
    CHECK(e.map_page(1, DEK_MAP_COMMIT, {}) == 0);
    CHECK(e.write(8) == DEK_PASS);
    CHECK(e.write(64) == DEK_FENCED);
}

TEST_CASE("a new map ends every yield") {
    Endpoint e;
    REQUIRE(e.map(1, {{0, 64}}) == 0);
    std::uint64_t token = 0;
    REQUIRE(e.quiesce(0, 64, token) == 0);
    REQUIRE(e.yield(token, 0, 64) == 0);
    REQUIRE(e.release(token) == 0);
    REQUIRE(e.map(2, {{0, 32}}) == 0);
    CHECK(e.write(0) == DEK_FENCED);
    CHECK(e.write(32) == DEK_PASS);
    CHECK(e.change.drain_count == DEK_DRAIN_ALL);
}

TEST_CASE("what passes goes on to where a new map keeps it, what does not is fenced") {
    Endpoint e;
    REQUIRE(e.map(1, {{0, 64}, {128, 64}}) == 0);
    std::uint64_t token = 0;
    REQUIRE(e.quiesce(0, 64, token) == 0);
    REQUIRE(e.yield(token, 0, 64) == 0);
    REQUIRE(e.release(token) == 0);
    const Answer keyed = e.associate({{128, 8}});
    const auto keep = [](std::uint64_t first, std::uint64_t count) {
        return dek_map_entry{first, count, DEK_MAP_KEEP, 0};
    };
    REQUIRE(e.map_page(2, all_flags,
                       {keep(8, 32), encrypt(40, 8), keep(96, 96), reserved(200, 8)}) == 0);
    CHECK(e.write(0) == DEK_PASS); // plain
    CHECK(e.ranges().front().first == 8);
    CHECK(e.ranges().front().count == 32);
    CHECK(e.ranges().front().state == DEK_RANGE_YIELDED);
    CHECK(e.write(8) == DEK_PASS);
    CHECK(e.write(40) == DEK_FENCED);
    CHECK(e.write(48) == DEK_PASS);
    CHECK(e.write(96) == DEK_PASS); // plain until now
    CHECK(e.ranges()[2].first == 96);
    CHECK(e.ranges()[2].count == 32);
    CHECK(e.ranges()[2].state == DEK_RANGE_YIELDED);
    CHECK(e.write(128) == DEK_CRYPT);
    CHECK(e.write(136) == DEK_FENCED);
    REQUIRE(e.map_page(3, all_flags, {keep(0, 128)}) == -EBUSY); // a key stands beyond
    REQUIRE(e.disassociate(keyed.handle).status == DEK_OK);
    CHECK(e.map_page(4, all_flags, {{8, 8, 4, 0}}) == -EINVAL);
    REQUIRE(e.map_page(4, all_flags, {keep(200, 8)}) == 0); // reserved until now
    CHECK(e.write(200) == DEK_FENCED);
}

TEST_CASE("without a map nothing passes that one could keep") {
    Endpoint e;
    REQUIRE(e.map_page(1, all_flags, {{0, 8, DEK_MAP_KEEP, 0}}) == 0);
    CHECK(e.write(0) == DEK_FENCED);
    CHECK(e.write(8) == DEK_PASS);
}

TEST_CASE("a map of many pages is in force as it was sent") {
    Endpoint e(1 << 20, false);
    e.config.max_ranges = 20'000;
    e.make();
    Ranges ranges;
    for (std::uint64_t i = 0; i < 10'000; ++i)
        ranges.push_back({i * 96 + 8 * (i % 3), 8 + 8 * (i % 4)});
    REQUIRE(e.map(1, ranges) == 0);
    const auto got = e.ranges();
    REQUIRE(got.size() == ranges.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
        REQUIRE(got[i].first == ranges[i].first);
        REQUIRE(got[i].count == ranges[i].count);
    }
}
