// SPDX-License-Identifier: Apache-2.0
// Every operation, short of memory at its first allocation, its second, and so on: it says so,
// frees what it made and leaves everything as it was; tried again, it succeeds.
#include <cstring>
#include <functional>

#include <catch2/catch.hpp>

#include "allocator.h"
#include "rig.h"

using namespace rig;

namespace {

struct Picture {
    const dek_snapshot* snapshot;
    std::size_t associations;
    std::size_t tokens;
    long blocks;
    long keys;
    bool operator==(const Picture&) const = default;
};

Picture picture(const Endpoint& e) {
    return {dek_endpoint_current(e.ep), e.associations().size(), e.tokens().size(),
            allocator::live(), e.engine.sets - e.engine.drops};
}

// `operation` returns a status or -errno; 0 is success. Returns how many allocations it made.
long starve(Endpoint& e, const std::function<long()>& operation, long no_memory) {
    for (long k = 1;; ++k) {
        const Picture before = picture(e);
        allocator::fail_at(k);
        const long outcome = operation();
        const bool failed = allocator::failed();
        allocator::fail_at(0);
        if (!failed) {
            REQUIRE(outcome == 0);
            return k - 1;
        }
        INFO("allocation " << k);
        REQUIRE(outcome == no_memory);
        REQUIRE(e.change.next == nullptr);
        // A pack once made is kept for the next tree: the only memory that may be left.
        Picture after = picture(e);
        after.blocks = std::min(after.blocks, before.blocks);
        REQUIRE(after == before);
    }
}

} // namespace

TEST_CASE("every operation survives the failure of any of its allocations") {
    Endpoint e(1 << 20, false);
    e.config.recovering = true;
    e.config.max_ranges = 8000;
    e.make();
    Ranges map;
    for (std::uint64_t i = 0; i < 6000; ++i)
        map.push_back({i * 64, 32});
    std::vector<dek_map_entry> page;
    for (std::size_t i = 0; i < DEK_MAP_PAGE; ++i)
        page.push_back({map[i].first, map[i].count, DEK_MAP_ENCRYPT, 0});
    // A page that could not be taken in drops the map, so all of it is sent again.
    CHECK(starve(
              e, [&] { return e.map(1, map); }, -ENOMEM) > 20);
    CHECK(starve(
              e, [&] { return e.map_page(2, DEK_MAP_BEGIN | DEK_MAP_ADD | DEK_MAP_COMMIT, page); },
              -ENOMEM) > 3);
    REQUIRE(e.map(3, map) == 0);

    Body body;
    for (std::uint64_t i = 0; i < 50; ++i)
        body.map.push_back({i * 7680, 32});
    body.map.push_back({1 << 19, 8}); // plain: the command waits
    CHECK(starve(
              e,
              [&] {
                  const Answer a = e.associate(body);
                  body.handle = a.status == DEK_OK ? a.handle : 0;
                  return a.status;
              },
              DEK_NO_MEMORY) > 10);
    REQUIRE(e.engine.sets - e.engine.drops == 1);
    CHECK(starve(
              e, [&] { return e.associate(body).status; }, DEK_NO_MEMORY) == 1); // refresh
    body.key = 2;
    for (auto& r : body.map)
        r.count = 16;
    CHECK(starve(
              e, [&] { return e.update(body).status; }, DEK_NO_MEMORY) > 10);
    CHECK(starve(
              e, [&] { return e.disassociate(body.handle).status; }, DEK_NO_MEMORY) > 10);

    std::uint64_t token = 0;
    CHECK(starve(
              e, [&] { return e.quiesce(0, 4096, token); }, -ENOMEM) == 4);
    CHECK(starve(
              e, [&] { return e.yield(token, 64, 16); }, -ENOMEM) >= 3);
    CHECK(starve(
              e, [&] { return e.release(token); }, -ENOMEM) == 0);
    CHECK(starve(
              e, [&] { return e.settle(dek_endpoint_set_fence(e.ep, DEK_FENCE_HOLD, &e.change)); },
              -ENOMEM) == 1);
    CHECK(starve(
              e, [&] { return e.settle(dek_endpoint_resize(e.ep, 1 << 21, &e.change)); }, -ENOMEM) >
          1);
    CHECK(starve(
              e, [&] { return e.settle(dek_endpoint_resize(e.ep, 1 << 20, &e.change)); }, -ENOMEM) >
          1);
    CHECK(starve(
              e, [&] { return e.settle(dek_endpoint_recovered(e.ep, &e.change)); }, -ENOMEM) == 1);
}

TEST_CASE("lifting a hold needs no memory") {
    Endpoint e;
    REQUIRE(e.map(1, {}) == 0);
    std::uint64_t token = 0;
    REQUIRE(e.quiesce(0, 64, token) == 0);
    e.drains = false;
    REQUIRE(e.associate({{128, 8}}).status == DEK_BUSY);
    const auto hold = e.held;
    allocator::fail_at(1);
    CHECK(e.release(token) == 0);
    e.drained(hold);
    CHECK_FALSE(allocator::failed());
    allocator::fail_at(0);
    CHECK(e.write(0) == DEK_PASS);
    CHECK(e.write(128) == DEK_CRYPT);
}

TEST_CASE("an endpoint that cannot be made for want of memory leaves nothing") {
    const long before = allocator::live();
    for (long k = 1;; ++k) {
        Endpoint e(4096, false);
        allocator::fail_at(k);
        e.make();
        const bool failed = allocator::failed();
        allocator::fail_at(0);
        if (!failed) {
            REQUIRE(e.ep);
            CHECK(k > 3);
            break;
        }
        REQUIRE(e.ep == nullptr);
        REQUIRE(allocator::live() == before);
    }
    CHECK(allocator::live() == before);
}
