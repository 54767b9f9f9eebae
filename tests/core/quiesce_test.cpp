// SPDX-License-Identifier: Apache-2.0
// Quiesce tokens and yields.
#include <catch2/catch.hpp>

#include "rig.h"

using namespace rig;

namespace {

struct Mapped : Endpoint {
    std::uint64_t token = 0;
    Mapped() { REQUIRE(map(1, {{64, 64}, {256, 64}}, {{0, 32}}) == 0); }
};

} // namespace

TEST_CASE("under a token new I/O waits, whatever the range is, until the release") {
    Mapped e;
    const Answer a = e.associate({{64, 8}});
    REQUIRE(e.quiesce(3, 100, e.token) == 0);
    CHECK(e.token != 0);
    CHECK(e.change.hold == e.token);
    REQUIRE(e.change.drain_count == 1);
    CHECK(e.change.drain[0].first == 3);
    CHECK(e.change.drain[0].count == 100);
    for (const std::uint64_t lba : {3, 40, 64, 72, 102}) {
        CHECK(e.read(lba) == DEK_WAIT);
        CHECK(e.write(lba) == DEK_WAIT);
    }
    CHECK(e.look(0, false, 100) == Verdict{DEK_PASS, 0, 3});
    CHECK(e.look(103, false, 100) == Verdict{DEK_FENCED, 0, 25});
    REQUIRE(e.release(e.token) == 0);
    CHECK(e.look(64, true, 100) == Verdict{DEK_CRYPT, a.handle, 8});
    CHECK(e.write(3) == DEK_REFUSE);
    CHECK(e.tokens().empty());
}

TEST_CASE("tokens do not overlap, and are listed in their order") {
    Mapped e;
    std::uint64_t second = 0, third = 0;
    REQUIRE(e.quiesce(64, 64, e.token) == 0);
    CHECK(e.quiesce(127, 1, second) == -EBUSY);
    CHECK(e.quiesce(0, 4096, second) == -EBUSY);
    REQUIRE(e.quiesce(128, 8, second) == 0);
    REQUIRE(e.quiesce(0, 64, third) == 0);
    const auto tokens = e.tokens();
    REQUIRE(tokens.size() == 3);
    CHECK(tokens[0].token == e.token);
    CHECK(tokens[0].first == 64);
    CHECK(tokens[0].count == 64);
    CHECK(tokens[1].token == second);
    CHECK(tokens[2].token == third);
    CHECK(e.describe().tokens == 3);
    CHECK((second > e.token && third > second));
}

TEST_CASE("what is empty or outside is not quiesced") {
    Mapped e;
    CHECK(e.quiesce(0, 0, e.token) == -EINVAL);
    CHECK(e.quiesce(4096, 1, e.token) == -EINVAL);
    CHECK(e.quiesce(4000, 97, e.token) == -EINVAL);
    CHECK(e.quiesce(1, ~0ull, e.token) == -EINVAL);
    CHECK(e.quiesce(0, 4096, e.token) == 0);
}

TEST_CASE("a quiesce that is given up holds nothing") {
    Mapped e;
    e.drains = false;
    REQUIRE(e.quiesce(64, 64, e.token) == 0); // the caller says ETIMEDOUT
    CHECK(e.read(64) == DEK_FENCED);
    CHECK(e.tokens().empty());
    CHECK(e.release(e.token) == -ENOKEY);
}

TEST_CASE("there are more tokens than one page lists, but not without end") {
    Mapped e;
    for (std::uint64_t i = 0; i < DEK_HOLDS_MAX; ++i)
        REQUIRE(e.quiesce(i, 1, e.token) == 0);
    std::uint64_t none = 0;
    CHECK(e.quiesce(DEK_HOLDS_MAX, 1, none) == -ENOSPC);
    CHECK(e.tokens().size() == DEK_HOLDS_MAX);
    for (std::uint64_t i = 0; i < DEK_HOLDS_MAX; ++i)
        CHECK(e.look(i, true, 100) == Verdict{DEK_WAIT, 0, 1});
    REQUIRE(e.release(e.tokens()[77].token) == 0);
    CHECK(e.write(77) == DEK_FENCED);
    CHECK(e.read(76) == DEK_WAIT);
    CHECK(e.quiesce(77, 1, none) == 0);
}

TEST_CASE("a token that is not there is ENOKEY") {
    Mapped e;
    CHECK(e.release(0) == -ENOKEY);
    CHECK(e.release(4711) == -ENOKEY);
    REQUIRE(e.quiesce(0, 8, e.token) == 0);
    REQUIRE(e.release(e.token) == 0);
    CHECK(e.release(e.token) == -ENOKEY);
    // The hold of a command is no token.
    e.drains = false;
    REQUIRE(e.associate({{2048, 8}}).status == DEK_BUSY);
    CHECK(e.release(e.held) == -ENOKEY);
}

TEST_CASE("a yielded range passes in both directions once it is released") {
    Mapped e;
    REQUIRE(e.quiesce(64, 64, e.token) == 0);
    REQUIRE(e.yield(e.token, 72, 16) == 0);
    CHECK(e.change.hold == 0); // fenced I/O is never under way
    CHECK(e.write(72) == DEK_WAIT);
    REQUIRE(e.release(e.token) == 0);
    CHECK(e.look(72, true, 100) == Verdict{DEK_PASS, 0, 16});
    CHECK(e.look(72, false, 100) == Verdict{DEK_PASS, 0, 16});
    CHECK(e.write(64) == DEK_FENCED);
    CHECK(e.write(88) == DEK_FENCED);
    REQUIRE(e.ranges().size() == 5);
    CHECK(e.ranges()[2].state == DEK_RANGE_YIELDED);
    CHECK(dek_snapshot_has_fenced(dek_endpoint_current(e.ep)));
}

TEST_CASE("a yield needs a token over all of the range") {
    Mapped e;
    CHECK(e.yield(0, 64, 8) == -ENOKEY);
    REQUIRE(e.quiesce(64, 32, e.token) == 0);
    CHECK(e.yield(e.token + 1, 64, 8) == -ENOKEY);
    CHECK(e.yield(e.token, 88, 16) == -ENOKEY);
    CHECK(e.yield(e.token, 256, 8) == -ENOKEY);
    CHECK(e.write(256) == DEK_FENCED);
    REQUIRE(e.release(e.token) == 0);
    CHECK(e.yield(e.token, 64, 8) == -ENOKEY);
    CHECK(e.ranges().size() == 3);
}

TEST_CASE("a yield under a token that still drains is EBUSY") {
    Mapped e;
    __u64 token = 0;
    REQUIRE(dek_endpoint_quiesce(e.ep, 64, 64, &token, &e.change) == 0);
    dek_endpoint_published(e.ep, &e.change);
    dek_change_reclaim(&e.change);
    dek_change change;
    CHECK(dek_endpoint_yield(e.ep, token, 64, 8, &change) == -EBUSY);
    CHECK(change.next == nullptr);
    e.drained(token);
    CHECK(e.yield(token, 64, 8) == 0);
}

TEST_CASE("a token that still drains can be released") {
    Mapped e;
    __u64 token = 0;
    REQUIRE(dek_endpoint_quiesce(e.ep, 64, 64, &token, &e.change) == 0);
    dek_endpoint_published(e.ep, &e.change);
    dek_change_reclaim(&e.change);
    CHECK(e.release(token) == 0);
    CHECK(e.read(64) == DEK_FENCED);
    e.drained(token); // the shim's wait ends later
    CHECK(e.change.next != nullptr);
    CHECK(e.read(64) == DEK_FENCED);
}

TEST_CASE("only fenced ranges are yielded: keyed is EBUSY, plain, reserved or unmapped EINVAL") {
    Mapped e;
    REQUIRE(e.associate({{64, 8}}).status == DEK_OK);
    REQUIRE(e.quiesce(0, 4096, e.token) == 0);
    CHECK(e.yield(e.token, 64, 16) == -EBUSY);
    CHECK(e.yield(e.token, 120, 16) == -EINVAL);
    CHECK(e.yield(e.token, 1024, 8) == -EINVAL);
    CHECK(e.yield(e.token, 0, 8) == -EINVAL);
    CHECK(e.yield(e.token, 76, 8) == -EINVAL); // not aligned
    CHECK(e.yield(e.token, 72, 4) == -EINVAL);
    CHECK(e.yield(e.token, 72, 0) == -EINVAL);
    CHECK(e.yield(e.token, 4096, 8) == -EINVAL);
    CHECK(e.yield(e.token, 72, 56) == 0);
    Endpoint unmapped;
    REQUIRE(unmapped.quiesce(0, 4096, e.token) == 0);
    CHECK(unmapped.yield(e.token, 0, 8) == -EINVAL);
}

TEST_CASE("a yield of what is yielded changes nothing, one that makes too many ranges is E2BIG") {
    Endpoint e(4096, false);
    e.config.max_ranges = 2;
    e.make();
    std::uint64_t token = 0;
    REQUIRE(e.map(1, {{0, 64}}) == 0);
    REQUIRE(e.quiesce(0, 64, token) == 0);
    CHECK(e.yield(token, 8, 8) == -E2BIG);
    CHECK(e.ranges().size() == 1);
    REQUIRE(e.yield(token, 0, 8) == 0);
    REQUIRE(e.yield(token, 0, 8) == 0);
    CHECK(e.change.next == nullptr);
    CHECK(e.ranges().size() == 2);
}
