// SPDX-License-Identifier: Apache-2.0
// Update and Disassociate.
#include <catch2/catch.hpp>

#include "rig.h"

using namespace rig;

namespace {

struct Made : Endpoint {
    Body body;
    Made() {
        REQUIRE(map(1, {{0, 1024}}) == 0);
        body.map = {{64, 64}};
        body.handle = associate(body).handle;
        REQUIRE(body.handle);
        events.clear();
    }
};

} // namespace

TEST_CASE("an update replaces the map, the handle stays, and what is dropped is fenced") {
    Made e;
    e.body.map = {{0, 8}, {96, 64}};
    const Answer a = e.update(e.body);
    CHECK(a.status == DEK_OK);
    CHECK(a.handle == e.body.handle);
    CHECK(e.look(0, true, 100) == Verdict{DEK_CRYPT, a.handle, 8});
    CHECK(e.look(64, true, 100) == Verdict{DEK_FENCED, 0, 32});
    CHECK(e.look(96, true, 100) == Verdict{DEK_CRYPT, a.handle, 64});
    CHECK(e.associations().size() == 1);
    CHECK(e.associations()[0].blocks == 72);
    CHECK(e.events == std::vector{DEK_EVENT_ASSOCIATION_CHANGED});
}

TEST_CASE("an update replaces the key and the old one is taken from the engine") {
    Made e;
    e.body.key = 2;
    e.body.key_id = "key-2";
    REQUIRE(e.update(e.body).status == DEK_OK);
    dek_piece piece;
    dek_snapshot_lookup(dek_endpoint_current(e.ep), 64, 8, false, &piece);
    REQUIRE(piece.association);
    const auto expected = key_bytes(2);
    CHECK(std::equal(expected.begin(), expected.end(), piece.association->key));
    CHECK(e.engine.sets == 2);
    CHECK(e.engine.drops == 1);
    CHECK(std::string(reinterpret_cast<const char*>(e.associations()[0].key_id)) == "key-2");
}

TEST_CASE("an update without a blob keeps the key if its ID is the same") {
    Made e;
    e.body.blob = false;
    e.body.map = {{64, 8}};
    e.engine.on_resolve = DEK_INVALID_KEY; // must not be asked
    REQUIRE(e.update(e.body).status == DEK_OK);
    dek_piece piece;
    dek_snapshot_lookup(dek_endpoint_current(e.ep), 64, 8, false, &piece);
    REQUIRE(piece.association);
    const auto expected = key_bytes(1);
    CHECK(std::equal(expected.begin(), expected.end(), piece.association->key));
    e.body.key_id = "another";
    CHECK(e.update(e.body).status == DEK_INVALID_KEY);
}

TEST_CASE("an update to what is there already succeeds and changes nothing") {
    Made e;
    const auto* before = dek_endpoint_current(e.ep);
    CHECK(e.update(e.body).status == DEK_OK);
    CHECK(dek_endpoint_current(e.ep) == before);
    CHECK(e.engine.sets == 1);
    CHECK(e.events.empty());
}

TEST_CASE("an update of another association's LBAs is refused whole") {
    Made e;
    const Answer other = e.associate({{0, 16}}, 2);
    REQUIRE(other.status == DEK_OK);
    e.body.map = {{8, 64}};
    CHECK(e.update(e.body).status == DEK_INVALID_RANGE);
    CHECK(e.look(0, true, 100) == Verdict{DEK_CRYPT, other.handle, 16});
    CHECK(e.look(16, true, 100) == Verdict{DEK_FENCED, 0, 48});
    CHECK(e.look(64, true, 100) == Verdict{DEK_CRYPT, e.body.handle, 64});
}

TEST_CASE("an update that cannot be carried out says why and changes nothing") {
    Made e;
    Body wanted = e.body;
    dek_status expected = DEK_OK;
    SECTION("outside the device") {
        wanted.map = {{4090 / 8 * 8, 16}};
        expected = DEK_INVALID_RANGE;
    }
    SECTION("unknown handle") {
        wanted.handle += 1;
        expected = DEK_UNKNOWN_HANDLE;
    }
    SECTION("null handle") {
        wanted.handle = 0;
        expected = DEK_UNKNOWN_HANDLE;
    }
    SECTION("another data unit") {
        wanted.geometry.data_unit = 512;
        expected = DEK_NOT_CAPABLE;
    }
    SECTION("the engine refuses") {
        wanted.key = 9;
        e.engine.on_set = expected = DEK_INVALID_HW_STATE;
    }
    SECTION("a key that cannot be unwrapped") {
        wanted.type = DEK_BLOB_WRAPPED;
        e.engine.on_resolve = expected = DEK_INVALID_KEY;
    }
    const auto* before = dek_endpoint_current(e.ep);
    CHECK(e.update(wanted).status == expected);
    CHECK(dek_endpoint_current(e.ep) == before);
    CHECK(e.engine.sets - e.engine.drops == 1);
}

TEST_CASE("an update that would make too many ranges overflows") {
    Endpoint e(4096, false);
    e.config.max_ranges = 3;
    e.make();
    REQUIRE(e.map(1, {{0, 1024}}) == 0);
    Body body;
    body.map = {{0, 64}};
    body.handle = e.associate(body).handle;
    body.map = {{8, 8}, {24, 8}};
    CHECK(e.update(body).status == DEK_ASSOCIATION_OVERFLOW);
    CHECK(e.look(0, true, 100).handle == body.handle);
    body.map = {{8, 8}};
    CHECK(e.update(body).status == DEK_OK);
}

TEST_CASE("ranges stay fenced after a disassociate, never plain, mapped or not") {
    Endpoint e;
    const bool mapped = GENERATE(true, false);
    if (mapped)
        REQUIRE(e.map(1, {}) == 0);
    const Answer a = e.associate({{8, 8}});
    REQUIRE(e.disassociate(a.handle).status == DEK_OK);
    CHECK(e.read(8) == DEK_FENCED);
    CHECK(e.write(15) == DEK_FENCED);
    CHECK(e.read(16) == DEK_PASS);
    CHECK(dek_snapshot_has_fenced(dek_endpoint_current(e.ep)));
    CHECK(e.associations().empty());
    CHECK(e.engine.drops == 1);
    CHECK(e.events.back() == DEK_EVENT_ASSOCIATION_LOST);
    REQUIRE(e.associate({{8, 8}}).status == DEK_OK);
    CHECK(e.read(8) == DEK_CRYPT);
}

TEST_CASE("a handle that is not there, or no longer, cannot be disassociated") {
    Made e;
    CHECK(e.disassociate(0).status == DEK_UNKNOWN_HANDLE);
    CHECK(e.disassociate(e.body.handle + 1).status == DEK_UNKNOWN_HANDLE);
    CHECK(e.disassociate(e.body.handle).status == DEK_OK);
    CHECK(e.disassociate(e.body.handle).status == DEK_UNKNOWN_HANDLE);
    CHECK(e.update(e.body).status == DEK_UNKNOWN_HANDLE);
    CHECK(e.associate(e.body).status == DEK_UNKNOWN_HANDLE);
}

TEST_CASE("a disassociate needs no room: fencing makes no new ranges") {
    Endpoint e(4096, false);
    e.config.max_ranges = 2;
    e.make();
    const Answer a = e.associate({{8, 8}, {24, 8}});
    REQUIRE(a.status == DEK_OK);
    CHECK(e.disassociate(a.handle).status == DEK_OK);
    CHECK(e.ranges().size() == 2);
}
