// SPDX-License-Identifier: Apache-2.0
// Commands that wait for old I/O: what they hold meanwhile, how they are gone on with, and what
// must wait for them.
#include <catch2/catch.hpp>

#include "rig.h"

using namespace rig;

namespace {

// What a command made the shim wait for, whether it then waited or gave up.
Ranges drained_by(const Endpoint& e) {
    if (!e.change.hold)
        return {};
    REQUIRE(e.change.drain_count <= DEK_DRAIN_MAX);
    return {e.change.drain, e.change.drain + e.change.drain_count};
}

bool same(const Ranges& a, const Ranges& b) {
    return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](auto& x, auto& y) {
               return x.first == y.first && x.count == y.count;
           });
}

struct Fenced : Endpoint {
    Fenced() {
        REQUIRE(map(1, {{0, 1024}}) == 0);
        events.clear();
    }
};

} // namespace

TEST_CASE("an association over fenced ranges waits for nothing") {
    Fenced e;
    REQUIRE(e.associate({{8, 8}}).status == DEK_OK);
    CHECK(e.change.hold == 0);
}

TEST_CASE("an association over plain ranges waits for the plain I/O under way in them") {
    Fenced e;
    REQUIRE(e.associate({{8, 8}, {1016, 16}, {2048, 8}}).status == DEK_OK);
    CHECK(same(drained_by(e), {{1016, 16}, {2048, 8}}));
}

TEST_CASE("an association on an unmapped endpoint waits for the raw reads under way") {
    Endpoint e;
    REQUIRE(e.associate({{8, 8}}).status == DEK_OK);
    CHECK(same(drained_by(e), {{8, 8}}));
}

TEST_CASE("an association over yielded ranges waits for the ciphertext that passes") {
    Fenced e;
    std::uint64_t token = 0;
    REQUIRE(e.quiesce(8, 64, token) == 0);
    REQUIRE(e.yield(token, 8, 64) == 0);
    REQUIRE(e.release(token) == 0);
    REQUIRE(e.associate({{8, 64}}).status == DEK_OK);
    CHECK(same(drained_by(e), {{8, 64}}));
    CHECK(e.write(8) == DEK_CRYPT); // and has ended the yield
}

TEST_CASE("while a command waits, I/O to the LBAs it changes waits, and no other does") {
    Fenced e;
    Block block = e.associate_block({.map = {{2048, 16}, {8, 8}}});
    block = e.associate_block({.map = {{8, 8}, {2048, 16}}});
    dek_endpoint_command(e.ep, block.data(), &e.change);
    REQUIRE(e.change.hold);
    REQUIRE(e.change.next);
    dek_endpoint_published(e.ep, &e.change);
    dek_change_reclaim(&e.change);
    CHECK(e.look(2048, true, 100) == Verdict{DEK_WAIT, 0, 16});
    CHECK(e.look(2048, false, 100) == Verdict{DEK_WAIT, 0, 16});
    CHECK(e.look(2040, true, 100) == Verdict{DEK_PASS, 0, 8}); // up to the hold
    CHECK(e.look(2064, true, 10) == Verdict{DEK_PASS, 0, 10});
    CHECK(e.write(8) == DEK_CRYPT); // was fenced: nothing was under way
    CHECK(e.ranges().back().held == 1);
    CHECK(e.ranges()[1].held == 0);
    CHECK(e.associations()[0].draining == 1);
    dek_change after;
    dek_endpoint_drained(e.ep, e.change.hold, block.data(), &after);
    CHECK(after.event == DEK_EVENT_ASSOCIATION_MADE);
    CHECK(after.handle == e.change.handle);
    REQUIRE(after.next);
    dek_endpoint_published(e.ep, &after);
    dek_change_reclaim(&after);
    dek_command answer;
    REQUIRE(dek_block_decode(block.data(), &answer) == DEK_OK);
    CHECK(answer.status == DEK_OK);
    CHECK(answer.association == e.change.handle);
    CHECK(e.look(2048, true, 100) == Verdict{DEK_CRYPT, e.change.handle, 16});
    CHECK(e.associations()[0].draining == 0);
}

TEST_CASE("an update with the same key waits only for the LBAs that come or go") {
    Fenced e;
    Body body;
    body.map = {{0, 64}};
    body.handle = e.associate(body).handle;
    SECTION("shrunk") {
        body.map = {{16, 16}};
        REQUIRE(e.update(body).status == DEK_OK);
        CHECK(same(drained_by(e), {{0, 16}, {32, 32}}));
    }
    SECTION("grown over fenced ranges: for nothing") {
        body.map = {{0, 128}};
        REQUIRE(e.update(body).status == DEK_OK);
        CHECK(e.change.hold == 0);
        CHECK(e.events.back() == DEK_EVENT_ASSOCIATION_CHANGED);
    }
    SECTION("grown over plain ranges") {
        body.map = {{0, 64}, {1000, 48}};
        REQUIRE(e.update(body).status == DEK_OK);
        CHECK(same(drained_by(e), {{1000, 48}}));
    }
    SECTION("moved") {
        body.map = {{32, 64}, {2048, 8}};
        REQUIRE(e.update(body).status == DEK_OK);
        CHECK(same(drained_by(e), {{0, 32}, {2048, 8}}));
    }
}

TEST_CASE("an update with another key or geometry waits for all I/O under the old one") {
    Fenced e;
    Body body;
    body.map = {{0, 64}};
    body.handle = e.associate(body).handle;
    SECTION("key") {
        body.key = 2;
    }
    SECTION("key ID") {
        body.key_id = "key-2";
    }
    SECTION("tweak rule") {
        body.geometry.tweak_rule = DEK_TWEAK_LBA512;
    }
    SECTION("logical origin") {
        body.geometry.logical_origin = 4096;
    }
    body.map = {{32, 64}};
    REQUIRE(e.update(body).status == DEK_OK);
    CHECK(same(drained_by(e), {{0, 64}}));
}

TEST_CASE("a disassociate waits for all I/O of the association") {
    Fenced e;
    const Answer a = e.associate({{0, 8}, {16, 8}});
    REQUIRE(e.disassociate(a.handle).status == DEK_OK);
    CHECK(same(drained_by(e), {{0, 8}, {16, 8}}));
}

TEST_CASE("the largest update there is still fits its drain") {
    Endpoint e(1 << 20);
    REQUIRE(e.map(1, {}) == 0);
    Body body;
    body.key_id = "k";
    for (std::uint64_t i = 0; i < 60; ++i)
        body.map.push_back({i * 64, 8});
    body.handle = e.associate(body).handle;
    REQUIRE(body.handle);
    for (auto& r : body.map)
        r.first += 32;
    body.key = 2;
    REQUIRE(e.update(body).status == DEK_OK);
    CHECK(drained_by(e).size() == DEK_DRAIN_MAX);
    CHECK(e.ranges().size() == 120);
}

TEST_CASE("a command whose wait is given up is Busy, keeps its hold, and goes on when sent again") {
    Fenced e;
    Body body;
    body.map = {{2048, 16}};
    e.drains = false;
    const Answer busy = e.associate(body);
    CHECK(busy.status == DEK_BUSY);
    CHECK(e.events.empty());
    CHECK(e.write(2048) == DEK_WAIT);
    const auto hold = e.held;
    const Answer again = e.associate(body); // given up once more
    CHECK(again.status == DEK_BUSY);
    CHECK(e.change.hold == hold);
    CHECK(e.change.next == nullptr);
    CHECK(same(drained_by(e), {{2048, 16}}));
    e.drains = true;
    const Answer done = e.associate(body);
    REQUIRE(done.status == DEK_OK);
    CHECK(e.change.hold == hold);
    CHECK(e.look(2048, true, 100) == Verdict{DEK_CRYPT, done.handle, 16});
    CHECK(e.associations().size() == 1);
    CHECK(e.engine.sets == 1);
    CHECK(e.events == std::vector{DEK_EVENT_ASSOCIATION_MADE});
}

TEST_CASE("an associate that drained by itself is answered when sent again, once") {
    Fenced e;
    Body body;
    body.map = {{2048, 16}};
    e.drains = false;
    REQUIRE(e.associate(body).status == DEK_BUSY);
    e.drained(e.held);
    CHECK(e.events == std::vector{DEK_EVENT_ASSOCIATION_MADE});
    CHECK(e.write(2048) == DEK_CRYPT); // an abandoned controller blocks nobody
    const Answer done = e.associate(body);
    CHECK(done.status == DEK_OK);
    CHECK(done.handle == e.look(2048).handle);
    CHECK(e.change.hold == 0);
    CHECK(e.associate(body).status == DEK_INVALID_RANGE); // now it is told
}

TEST_CASE("a disassociate that drained by itself is answered when sent again, once") {
    Fenced e;
    const Answer a = e.associate({{8, 8}});
    e.drains = false;
    REQUIRE(e.disassociate(a.handle).status == DEK_BUSY);
    CHECK(e.associations().size() == 1);
    CHECK(e.associations()[0].draining == 1);
    CHECK(e.engine.drops == 0);
    e.drained(e.held);
    CHECK(e.associations().empty());
    CHECK(e.engine.drops == 1);
    CHECK(e.disassociate(a.handle).status == DEK_OK);
    CHECK(e.disassociate(a.handle).status == DEK_UNKNOWN_HANDLE);
}

TEST_CASE("an update that drained by itself is answered when sent again") {
    Fenced e;
    Body body;
    body.map = {{8, 8}};
    body.handle = e.associate(body).handle;
    body.key = 2;
    e.drains = false;
    REQUIRE(e.update(body).status == DEK_BUSY);
    REQUIRE(e.update(body).status == DEK_BUSY);
    e.drained(e.held);
    CHECK(e.write(8) == DEK_CRYPT);
    CHECK(e.update(body).status == DEK_OK);
    CHECK(e.engine.sets == 2);
}

TEST_CASE("a different command on a draining association is Busy") {
    Fenced e;
    Body body;
    body.map = {{8, 8}};
    body.handle = e.associate(body).handle;
    Body other = body;
    other.map = {{8, 16}};
    e.drains = false;
    SECTION("that is being updated") {
        body.key = 2;
        REQUIRE(e.update(body).status == DEK_BUSY);
        const auto hold = e.held;
        e.held = 0;
        CHECK(e.update(other).status == DEK_BUSY);
        CHECK(e.associate(body).status == DEK_BUSY);
        CHECK(e.disassociate(body.handle).status == DEK_BUSY);
        CHECK(e.held == 0); // none of them waited for anything
        e.drains = true;
        e.drained(hold);
        CHECK(e.disassociate(body.handle).status == DEK_OK);
    }
    SECTION("that is being disassociated") {
        REQUIRE(e.disassociate(body.handle).status == DEK_BUSY);
        const auto hold = e.held;
        e.held = 0;
        CHECK(e.update(body).status == DEK_BUSY);
        CHECK(e.associate(body).status == DEK_BUSY);
        CHECK(e.held == 0);
        e.drained(hold);
        CHECK(e.update(body).status == DEK_UNKNOWN_HANDLE);
    }
}

TEST_CASE("LBAs that an unfinished command holds are Busy for every other association") {
    Fenced e;
    const Answer a = e.associate({{8, 16}});
    Body other;
    other.map = {{64, 8}};
    other.key = 2;
    other.handle = e.associate(other).handle;
    e.drains = false;
    REQUIRE(e.disassociate(a.handle).status == DEK_BUSY);
    const auto hold = e.held;
    CHECK(e.associate({{16, 8}}, 3).status == DEK_BUSY);
    CHECK(e.query({{16, 8}}).status == DEK_BUSY);
    other.map = {{16, 16}, {64, 8}};
    CHECK(e.update(other).status == DEK_BUSY);
    CHECK(e.associate({{128, 8}}, 3).status == DEK_OK); // elsewhere all goes on
    e.drained(hold);
    CHECK(e.query({{16, 8}}).status == DEK_OK);
    CHECK(e.update(other).status == DEK_OK);
    CHECK(e.look(16, true).handle == other.handle);
}

TEST_CASE("a yield is refused where a command is unfinished") {
    Fenced e;
    const Answer a = e.associate({{8, 16}});
    std::uint64_t token = 0;
    REQUIRE(e.quiesce(0, 64, token) == 0);
    e.drains = false;
    REQUIRE(e.disassociate(a.handle).status == DEK_BUSY);
    CHECK(e.yield(token, 8, 8) == -EBUSY);
    CHECK(e.yield(token, 32, 8) == 0);
    e.drained(e.held);
    CHECK(e.yield(token, 8, 8) == 0);
}

TEST_CASE("commands work under a quiesce token, and both holds must go") {
    Fenced e;
    const Answer a = e.associate({{8, 16}});
    std::uint64_t token = 0;
    REQUIRE(e.quiesce(0, 64, token) == 0);
    e.drains = false;
    REQUIRE(e.disassociate(a.handle).status == DEK_BUSY);
    const auto hold = e.held;
    REQUIRE(e.release(token) == 0);
    CHECK(e.read(0) == DEK_FENCED);
    CHECK(e.read(8) == DEK_WAIT);
    e.drains = true;
    REQUIRE(e.quiesce(0, 64, token) == 0); // tokens and commands may overlap
    e.drained(hold);
    CHECK(e.read(8) == DEK_WAIT);
    REQUIRE(e.release(token) == 0);
    CHECK(e.read(8) == DEK_FENCED);
}

TEST_CASE("a new map is Busy for associations until I/O under the old one has gone") {
    Fenced e;
    const Answer a = e.associate({{8, 8}});
    Body body;
    body.map = {{8, 16}};
    body.handle = a.handle;
    e.drains = false;
    REQUIRE(e.map(2, {{0, 2048}}) == 0); // the caller says EAGAIN
    CHECK(e.change.drain_count == DEK_DRAIN_ALL);
    const auto first = e.held;
    CHECK(e.write(1024) == DEK_FENCED); // in force
    CHECK(e.associate({{1024, 8}}, 2).status == DEK_BUSY);
    CHECK(e.update(body).status == DEK_BUSY);
    CHECK(e.query({{1024, 8}}).status == DEK_BUSY);
    CHECK(e.disassociate(a.handle).status == DEK_BUSY); // this one waits for its own
    e.drained(e.held);
    CHECK(e.map_page(2, DEK_MAP_COMMIT, {}) == 0); // sent again
    CHECK(e.change.hold == first);
    CHECK(e.change.next == nullptr);
    REQUIRE(e.map(3, {{0, 2048}}) == 0); // takes over
    e.drained(first);
    CHECK(e.associate({{1024, 8}}, 2).status == DEK_BUSY);
    e.drained(e.held);
    CHECK(e.associate({{1024, 8}}, 2).status == DEK_OK);
    CHECK(e.map_page(3, DEK_MAP_COMMIT, {}) == 0);
    CHECK(e.change.hold == 0);
}

TEST_CASE("no more commands than holds can be unfinished at once") {
    Endpoint e(1 << 16);
    REQUIRE(e.map(1, {}) == 0);
    e.drains = false;
    std::vector<std::uint64_t> holds;
    for (std::uint64_t i = 0; i < DEK_HOLDS_MAX; ++i) {
        REQUIRE(e.associate({{i * 16, 8}}).status == DEK_BUSY);
        REQUIRE(e.change.hold);
        holds.push_back(e.held);
    }
    const auto live = e.engine.sets - e.engine.drops;
    CHECK(e.associate({{32000, 8}}).status == DEK_BUSY);
    CHECK(e.change.hold == 0);
    CHECK(e.engine.sets - e.engine.drops == live);
    std::uint64_t token = 0;
    CHECK(e.quiesce(40000, 8, token) == -ENOSPC);
    for (const auto hold : holds)
        e.drained(hold);
    CHECK(e.quiesce(40000, 8, token) == 0);
    // Of these, the newest are remembered: 64 of 128.
    CHECK(e.associate({{0, 8}}).status == DEK_INVALID_RANGE);
    CHECK(e.associate({{127 * 16, 8}}).status == DEK_OK);
    CHECK(e.associate({{64 * 16, 8}}).status == DEK_OK);
    CHECK(e.associate({{63 * 16, 8}}).status == DEK_INVALID_RANGE);
}

TEST_CASE("a hold that is not known any more is no harm") {
    Fenced e;
    dek_change after;
    dek_endpoint_drained(e.ep, 12345, nullptr, &after);
    CHECK(after.next == nullptr);
    CHECK(after.event == 0);
    Block block = e.associate_block({.map = {{8, 8}}});
    dek_endpoint_drained(e.ep, 12345, block.data(), &after);
    CHECK(dek_get_le32(block.data() + 28) == DEK_OK);
    dek_endpoint_gave_up(e.ep, 12345, block.data(), &after);
    CHECK(dek_get_le32(block.data() + 28) == DEK_BUSY);
    CHECK(after.next == nullptr);
}

TEST_CASE("an endpoint with unfinished commands can be destroyed and leaves nothing") {
    Fenced* e = new Fenced;
    const Answer a = e->associate({{8, 8}});
    const Answer b = e->associate({{16, 8}});
    e->drains = false;
    REQUIRE(e->disassociate(a.handle).status == DEK_BUSY);
    Body body;
    body.handle = b.handle;
    body.map = {{16, 8}};
    body.key = 4;
    REQUIRE(e->update(body).status == DEK_BUSY);
    REQUIRE(e->associate({{2048, 8}}).status == DEK_BUSY);
    std::uint64_t token = 0;
    e->drains = true;
    REQUIRE(e->quiesce(0, 4096, token) == 0);
    dek_endpoint_destroy(e->ep);
    e->ep = nullptr;
    CHECK(e->engine.sets == 4);
    CHECK(e->engine.drops == 4);
    delete e;
}
