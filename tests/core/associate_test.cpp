// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>

#include "allocator.h"
#include "rig.h"

using namespace rig;

TEST_CASE("a new association gets a handle and its LBAs are encrypted under it") {
    Endpoint e;
    REQUIRE(e.map(1, {{0, 1024}}) == 0);
    const Answer a = e.associate({{8, 16}, {64, 8}});
    REQUIRE(a.status == DEK_OK);
    CHECK(a.handle != 0);
    CHECK(e.look(8, true, 100) == Verdict{DEK_CRYPT, a.handle, 16});
    CHECK(e.look(23, false, 100) == Verdict{DEK_CRYPT, a.handle, 1});
    CHECK(e.look(24, false, 100) == Verdict{DEK_FENCED, 0, 40});
    CHECK(e.look(64, false, 100) == Verdict{DEK_CRYPT, a.handle, 8});
    CHECK(e.events == std::vector{DEK_EVENT_ASSOCIATION_MADE});
}

TEST_CASE("adjacent ranges of one association come as one piece, of two associations as two") {
    Endpoint e;
    REQUIRE(e.map(1, {{0, 1024}}) == 0);
    const Answer a = e.associate({{0, 8}, {8, 8}, {16, 8}});
    const Answer b = e.associate({{24, 8}}, 2);
    REQUIRE(b.status == DEK_OK);
    CHECK(e.look(0, false, 100) == Verdict{DEK_CRYPT, a.handle, 24});
    CHECK(e.look(24, false, 100) == Verdict{DEK_CRYPT, b.handle, 8});
    REQUIRE(e.ranges().size() == 3);
    CHECK(e.ranges()[0].count == 24);
    CHECK(e.associations()[0].ranges == 1);
}

TEST_CASE("sixty ranges fit in one association") {
    Endpoint e;
    Ranges map;
    for (std::uint64_t i = 0; i < 60; ++i)
        map.push_back({i * 16, 8});
    Body body;
    body.key_id = "k";
    body.map = map;
    const Answer a = e.associate(body);
    REQUIRE(a.status == DEK_OK);
    CHECK(e.ranges().size() == 60);
}

TEST_CASE("an overlapping association is refused and the first one still works") {
    Endpoint e;
    const Answer a = e.associate({{8, 16}});
    REQUIRE(a.status == DEK_OK);
    CHECK(e.associate({{16, 16}}, 2).status == DEK_INVALID_RANGE);
    CHECK(e.associate({{0, 8}, {8, 8}}, 2).status == DEK_INVALID_RANGE);
    CHECK(e.associate({{8, 16}}).status == DEK_INVALID_RANGE); // its very likeness, too
    CHECK(e.look(8, true, 100) == Verdict{DEK_CRYPT, a.handle, 16});
    CHECK(e.write(24) == DEK_REFUSE);
    CHECK(e.associations().size() == 1);
}

TEST_CASE("what lies outside the device or in a reserved range is not associated") {
    Endpoint e(4096);
    CHECK(e.associate({{4088, 16}}).status == DEK_INVALID_RANGE);
    CHECK(e.associate({{4096, 8}}).status == DEK_INVALID_RANGE);
    REQUIRE(e.map(1, {}, {{512, 512}}) == 0);
    CHECK(e.associate({{504, 16}}).status == DEK_INVALID_RANGE);
    CHECK(e.associate({{504, 8}}).status == DEK_OK);
    Body body;
    body.map = {{8, 4}};
    CHECK(e.associate(body).status == DEK_INVALID_RANGE);
}

TEST_CASE("a data unit or geometry that the endpoint does not serve is Not Capable") {
    Endpoint e;
    Body body;
    body.map = {{8, 8}};
    body.geometry.data_unit = 512;
    CHECK(e.associate(body).status == DEK_NOT_CAPABLE);
    body.geometry.data_unit = 4096;
    body.geometry.logical_origin = 4; // would cut data units
    CHECK(e.associate(body).status == DEK_NOT_CAPABLE);
    body.geometry.logical_origin = 8;
    CHECK(e.associate(body).status == DEK_OK);
}

TEST_CASE("keys are refused that XTS forbids, or that the blob's resolver does not give") {
    Endpoint e;
    Body body;
    body.map = {{8, 8}};
    Block block = e.associate_block(body);
    auto* key = block.data() + DEK_BODY_FIRST + offsetof(dek_wire_blob, key_data);
    std::copy(key, key + 32, key + 32);
    dek_block_seal(block.data());
    CHECK(e.send(block).status == DEK_INVALID_KEY);
    body.type = DEK_BLOB_WRAPPED;
    for (const auto status :
         {DEK_INVALID_KEY, DEK_NOT_CAPABLE, DEK_NO_MEMORY, DEK_INVALID_HW_STATE}) {
        e.engine.on_resolve = status;
        CHECK(e.associate(body).status == status);
    }
    e.engine.on_resolve = DEK_OK;
    e.engine.resolved = {};
    CHECK(e.associate(body).status == DEK_INVALID_KEY); // halves equal
    e.engine.resolved = key_bytes(5);
    CHECK(e.associate(body).status == DEK_OK);
    body.map = {{16, 8}};
    body.type = DEK_BLOB_KEYRING;
    CHECK(e.associate(body).status == DEK_OK);
    e.engine.ops.key_resolve = nullptr;
    body.map = {{24, 8}};
    CHECK(e.associate(body).status == DEK_NOT_CAPABLE);
    CHECK(e.associations().size() == 2);
}

TEST_CASE("both key sizes reach the engine as they were sent") {
    Endpoint e;
    const unsigned length = GENERATE(32u, 64u);
    Body body;
    body.map = {{8, 8}};
    body.key_length = length;
    body.key = 3;
    REQUIRE(e.associate(body).status == DEK_OK);
    dek_piece piece;
    dek_snapshot_lookup(dek_endpoint_current(e.ep), 8, 8, false, &piece);
    REQUIRE(piece.association);
    CHECK(piece.association->key_length == length);
    const auto expected = key_bytes(3, length);
    CHECK(std::equal(expected.begin(), expected.end(), piece.association->key));
    CHECK(e.associations()[0].key_length == length);
}

TEST_CASE("without a blob the key comes from its ID alone, if the endpoint can find it") {
    Endpoint e;
    Body body;
    body.map = {{8, 8}};
    body.blob = false;
    CHECK(e.associate(body).status == DEK_OK);
    e.engine.ops.key_resolve = nullptr;
    body.map = {{16, 8}};
    CHECK(e.associate(body).status == DEK_NOT_CAPABLE);
}

TEST_CASE("off the host a bare key is Not Capable, a wrapped one is not") {
    Endpoint e(4096, false);
    e.config.class_name = DEK_CLASS_RRM;
    e.make();
    Body body;
    body.map = {{8, 8}};
    CHECK(e.associate(body).status == DEK_NOT_CAPABLE);
    body.type = DEK_BLOB_WRAPPED;
    CHECK(e.associate(body).status == DEK_OK);
}

TEST_CASE("an engine that cannot take the key says why, and nothing is left of the association") {
    Endpoint e;
    for (const auto status : {DEK_BUSY, DEK_INVALID_HW_STATE, DEK_NO_MEMORY}) {
        e.engine.on_ready = status;
        CHECK(e.associate({{8, 8}}).status == status);
    }
    e.engine.on_ready = DEK_OK;
    for (const auto status : {DEK_INVALID_KEY, DEK_INVALID_HW_STATE, DEK_NO_MEMORY}) {
        e.engine.on_set = status;
        CHECK(e.associate({{8, 8}}).status == status);
    }
    CHECK(e.engine.sets == 0);
    CHECK(e.engine.drops == 0);
    CHECK(e.associations().empty());
    CHECK(e.ranges().empty());
}

TEST_CASE("more associations or ranges than the endpoint holds overflow it") {
    Endpoint e(4096, false);
    e.config.max_associations = 2;
    e.config.max_ranges = 3;
    e.make();
    REQUIRE(e.associate({{0, 8}}).status == DEK_OK);
    CHECK(e.associate({{16, 8}, {32, 8}, {48, 8}}, 2).status == DEK_ASSOCIATION_OVERFLOW);
    CHECK(e.ranges().size() == 1);
    REQUIRE(e.associate({{16, 8}}, 2).status == DEK_OK);
    CHECK(e.associate({{32, 8}}, 3).status == DEK_ASSOCIATION_OVERFLOW);
    CHECK(e.engine.sets - e.engine.drops == 2);
}

TEST_CASE("a refresh with the same map, key and geometry succeeds and changes nothing") {
    Endpoint e;
    Body body;
    body.map = {{8, 8}, {16, 8}};
    body.handle = e.associate(body).handle;
    const auto* before = dek_endpoint_current(e.ep);
    const Answer again = e.associate(body);
    CHECK(again.status == DEK_OK);
    CHECK(again.handle == body.handle);
    body.map = {{8, 16}}; // the same LBAs
    CHECK(e.associate(body).status == DEK_OK);
    body.blob = false; // its key is not asked for
    CHECK(e.associate(body).status == DEK_OK);
    CHECK(dek_endpoint_current(e.ep) == before);
    CHECK(e.engine.sets == 1);
}

TEST_CASE("a refresh that differs from what it refreshes is Association Exists") {
    Endpoint e;
    Body body;
    body.map = {{8, 16}};
    body.handle = e.associate(body).handle;
    SECTION("in the map") {
        body.map = {{8, 8}};
    }
    SECTION("in the key") {
        body.key = 2;
    }
    SECTION("in the key's length") {
        body.key_length = 32;
    }
    SECTION("in the key's ID") {
        body.key_id = "another";
    }
    SECTION("in the key's ID alone") {
        body.key_id = "key-2";
        body.blob = false;
    }
    SECTION("in the tweak rule") {
        body.geometry.tweak_rule = DEK_TWEAK_LBA512;
    }
    SECTION("in the logical origin") {
        body.geometry.logical_origin = 8;
    }
    SECTION("in the stripes") {
        body.geometry.chunk = 64;
        body.geometry.stripes = 2;
    }
    CHECK(e.associate(body).status == DEK_ASSOCIATION_EXISTS);
    CHECK(e.look(8, false, 100) == Verdict{DEK_CRYPT, body.handle, 16});
    CHECK(e.associations().size() == 1);
}

TEST_CASE("a refresh of a handle that is not there is Unknown Handle") {
    Endpoint e;
    Body body;
    body.map = {{8, 16}};
    body.handle = 4711;
    CHECK(e.associate(body).status == DEK_UNKNOWN_HANDLE);
}

TEST_CASE("handles are never used twice, nor begin where another life's did") {
    Endpoint e;
    std::uint64_t last = 0;
    for (int i = 0; i < 100; ++i) {
        const Answer a = e.associate({{8, 16}});
        REQUIRE(a.status == DEK_OK);
        CHECK(a.handle > last);
        last = a.handle;
        REQUIRE(e.disassociate(a.handle).status == DEK_OK);
    }
    Endpoint other(4096, false);
    other.engine.seed = 2;
    other.make();
    const Answer b = other.associate({{8, 16}});
    CHECK((b.handle > last || b.handle < last - 100));
}

TEST_CASE("an association on an unmapped endpoint keys its ranges and leaves all else unmapped") {
    Endpoint e;
    const Answer a = e.associate({{8, 8}});
    REQUIRE(a.status == DEK_OK);
    CHECK(e.write(8) == DEK_CRYPT);
    CHECK(e.read(0) == DEK_PASS);
    CHECK(e.write(0) == DEK_REFUSE);
    CHECK(e.describe().map_generation == 0);
}

TEST_CASE("a key is wiped when the last holder of its association lets go, not before") {
    Endpoint e;
    const long wiped = allocator::freed_wiped(), unwiped = allocator::freed_unwiped();
    const Answer a = e.associate({{8, 8}});
    REQUIRE(a.status == DEK_OK);
    dek_piece piece;
    dek_snapshot_lookup(dek_endpoint_current(e.ep), 8, 8, false, &piece);
    dek_association_get(piece.association); // an I/O under way
    REQUIRE(e.disassociate(a.handle).status == DEK_OK);
    CHECK(e.engine.drops == 0);
    const auto expected = key_bytes(1);
    CHECK(std::equal(expected.begin(), expected.end(), piece.association->key));
    dek_association_put(piece.association);
    CHECK(e.engine.drops == 1);
    CHECK(allocator::freed_wiped() == wiped + 1);
    CHECK(allocator::freed_unwiped() == unwiped);
}
