// SPDX-License-Identifier: Apache-2.0
// The must-encrypt map: pages, generations, and what it refuses.
#include <catch2/catch.hpp>

#include <cerrno>
#include <cstring>
#include <memory>

#include "caller.h"

using namespace conformance;

namespace {

dek_ioc_map page(const Volume& v, std::uint64_t generation, std::uint32_t flags,
                 const std::vector<dek_map_entry>& entries = {}) {
    auto m = v.argument<dek_ioc_map>();
    m.generation = generation;
    m.flags = flags;
    for (const auto& e : entries)
        m.entry[m.count++] = e;
    return m;
}

constexpr std::uint32_t kAll = DEK_MAP_BEGIN | DEK_MAP_ADD | DEK_MAP_COMMIT;

dek_map_entry encrypt(std::uint64_t first, std::uint64_t count) {
    return {first, count, DEK_MAP_ENCRYPT, 0};
}

int put(Volume& v, dek_ioc_map m) {
    return v.caller().call(DEK_IOC_MAP, m);
}

} // namespace

TEST_CASE("a map may come in pages and is in force only after the commit") {
    Volume v({.sectors = 1 << 16});
    CHECK(put(v, page(v, 5, DEK_MAP_BEGIN)) == 0);
    std::uint64_t at = 0;
    for (int p = 0; p < 3; p++) {
        std::vector<dek_map_entry> entries;
        for (unsigned i = 0; i < DEK_MAP_PAGE; i++, at += 16)
            entries.push_back(encrypt(at, 8));
        CHECK(put(v, page(v, 5, DEK_MAP_ADD, entries)) == 0);
    }
    CHECK(v.ranges().empty());
    CHECK(put(v, page(v, 5, DEK_MAP_COMMIT)) == 0);
    const auto ranges = v.ranges(); // several pages of the listing, too
    REQUIRE(ranges.size() == 3 * DEK_MAP_PAGE);
    for (std::size_t i = 0; i < ranges.size(); i++) {
        REQUIRE(ranges[i].first == i * 16);
        REQUIRE(ranges[i].count == 8);
        REQUIRE(ranges[i].state == DEK_RANGE_FENCED);
    }
}

TEST_CASE("generations only rise, and pages belong to the one that is open") {
    Volume v;
    CHECK(put(v, page(v, 3, kAll, {encrypt(0, 8)})) == 0);
    CHECK(put(v, page(v, 3, kAll, {encrypt(0, 8)})) == ESTALE);
    CHECK(put(v, page(v, 2, DEK_MAP_BEGIN)) == ESTALE);
    CHECK(put(v, page(v, 4, DEK_MAP_ADD, {encrypt(0, 8)})) == EBADF);
    CHECK(put(v, page(v, 4, DEK_MAP_COMMIT)) == EBADF);
    CHECK(put(v, page(v, 4, DEK_MAP_BEGIN)) == 0);
    CHECK(put(v, page(v, 5, DEK_MAP_ADD, {encrypt(0, 8)})) == EBADF);
    CHECK(put(v, page(v, 6, DEK_MAP_BEGIN | DEK_MAP_COMMIT)) == 0); // the open one is dropped
    CHECK(v.ranges().empty());
    CHECK(put(v, page(v, 0, kAll)) == EINVAL);
}

TEST_CASE("a map with a wrong range is refused, and the open one dropped") {
    const std::vector<std::vector<dek_map_entry>> wrong{
        {encrypt(16, 8), encrypt(0, 8)}, // unsorted
        {encrypt(0, 16), encrypt(8, 8)}, // overlapping
        {encrypt(4088, 16)},             // outside
        {encrypt(~0ull - 7, 16)},        // overflowing
        {encrypt(4, 8)},                 // unaligned
        {encrypt(0, 4)},
        {encrypt(0, 0)}, // empty
        {{0, 8, 0, 0}},  // of no kind
        {{0, 8, 4, 0}},
        {{0, 8, DEK_MAP_ENCRYPT, 1}}, // reserved must be zero
    };
    Volume v;
    for (const auto& entries : wrong) {
        CHECK(put(v, page(v, 1, DEK_MAP_BEGIN)) == 0);
        CHECK(put(v, page(v, 1, DEK_MAP_ADD, entries)) == EINVAL);
        CHECK(put(v, page(v, 1, DEK_MAP_COMMIT)) == EBADF);
    }
    CHECK(put(v, page(v, 1, 0x80)) == EINVAL);
    auto too_many = page(v, 1, kAll);
    too_many.count = DEK_MAP_PAGE + 1;
    CHECK(put(v, too_many) == EINVAL);
    auto beyond_count = page(v, 1, kAll, {encrypt(0, 8)});
    beyond_count.entry[1].first = 8;
    CHECK(put(v, beyond_count) == EINVAL);
    // A page that breaks the order of the one before.
    CHECK(put(v, page(v, 1, DEK_MAP_BEGIN | DEK_MAP_ADD, {encrypt(64, 8)})) == 0);
    CHECK(put(v, page(v, 1, DEK_MAP_ADD, {encrypt(0, 8)})) == EINVAL);
    CHECK(v.write(0, pattern(4096, 1)) == EIO); // unmapped still
}

TEST_CASE("a map must keep what an association holds") {
    Volume v;
    Association a;
    a.key = test_key(64, 1);
    a.ranges = {{0, 64}};
    REQUIRE(v.map(1, {{0, 1024}}) == 0);
    REQUIRE(v.associate(a) == DEK_OK);
    CHECK(v.map(2, {{32, 512}}) == EBUSY);
    const Bytes data = pattern(4096, 1);
    CHECK(v.write(0, data) == 0); // nothing changed
    CHECK(v.map(2, {{0, 64}, {2048, 64}}) == 0);
    CHECK(v.write(0, data) == 0);
    CHECK(v.on_device(0, 8) == expected(a, 0, data));
    CHECK(v.write(512, data) == 0); // plain now
    CHECK(v.write(2048, data) == EIO);
}

TEST_CASE("reserved fields must be zero in every call that has them") {
    Volume v;
    REQUIRE(v.map(1, {}) == 0);
    auto q = v.argument<dek_ioc_quiesce>();
    q.count = 8;
    q.reserved = 1;
    CHECK(v.caller().call(DEK_IOC_QUIESCE, q) == EINVAL);
    CHECK(v.tokens().empty());
    auto f = v.argument<dek_ioc_fence>();
    f.fence = DEK_FENCE_HOLD;
    f.reserved = 1;
    CHECK(v.caller().call(DEK_IOC_FENCE, f) == EINVAL);
    auto e = v.argument<dek_ioc_engine>();
    e.reserved = 1;
    CHECK(v.caller().call(DEK_IOC_ENGINE, e) == EINVAL);
    CHECK(v.listed().engine != 0);
    auto s = v.argument<dek_ioc_stats>();
    s.waiting = 1;
    CHECK(v.caller().call(DEK_IOC_STATS, s) == EINVAL);
}

TEST_CASE("the list shows endpoints in order, page by page") {
    std::vector<std::unique_ptr<Volume>> volumes;
    for (unsigned i = 0; i < DEK_LIST_PAGE + 3; i++)
        volumes.push_back(std::make_unique<Volume>(Spec{.sectors = 64, .offset = 8}));
    Association a;
    a.key = test_key(64, 1);
    a.ranges = {{8, 8}};
    a.geometry.device_origin = 8;
    REQUIRE(volumes[3]->map(9, {{8, 16}}) == 0);
    REQUIRE(volumes[3]->associate(a) == DEK_OK);
    std::vector<dek_list_entry> all;
    Caller caller;
    dek_ioc_list list{};
    do {
        if (!all.empty())
            std::copy_n(all.back().uuid, DEK_UUID_SIZE, list.cursor);
        REQUIRE(caller.call(DEK_IOC_LIST, list) == 0);
        all.insert(all.end(), list.entry, list.entry + list.count);
    } while (list.more);
    unsigned found = 0;
    for (std::size_t i = 0; i < all.size(); i++) {
        if (i)
            REQUIRE(std::memcmp(all[i - 1].uuid, all[i].uuid, DEK_UUID_SIZE) < 0);
        for (const auto& v : volumes)
            if (std::memcmp(all[i].uuid, v->place().uuid.data(), DEK_UUID_SIZE) == 0) {
                found++;
                CHECK(all[i].first == 8);
                CHECK(all[i].count == 64);
                CHECK(all[i].data_unit == 4096);
                CHECK(all[i].logical_block == 4096);
                CHECK(all[i].flags == 0);
                CHECK((all[i].engines & all[i].engine) == all[i].engine);
                CHECK(all[i].name == v->place().name);
                const bool keyed = v.get() == volumes[3].get();
                CHECK(all[i].associations == (keyed ? 1 : 0));
                CHECK(all[i].map_generation == (keyed ? 9 : 0));
            }
    }
    CHECK(found == volumes.size());
}
