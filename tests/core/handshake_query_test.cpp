// SPDX-License-Identifier: Apache-2.0
// Handshake and Query, and what refuses any block.
#include <algorithm>

#include <catch2/catch.hpp>

#include "rig.h"

using namespace rig;

namespace {

Block handshake_block(const char* class_name, std::uint32_t version = DEK_PROTO_VERSION) {
    Block block;
    std::uint8_t noise[768];
    for (unsigned i = 0; i < sizeof noise; ++i)
        noise[i] = static_cast<std::uint8_t>(i * 7 + 1);
    dek_block_begin(block.data(), DEK_OP_HANDSHAKE, 0, 9);
    dek_block_handshake(block.data(), class_name, noise);
    dek_put_le32(block.data() + 16, version);
    dek_block_seal(block.data());
    return block;
}

Block query_block(const Endpoint& e, const Ranges& map) {
    Block block;
    dek_block_begin(block.data(), DEK_OP_QUERY, dek_endpoint_id(e.ep), 7);
    dek_block_query(block.data(), map.data(), static_cast<std::uint32_t>(map.size()));
    dek_block_seal(block.data());
    return block;
}

bool sealed(const Block& block) {
    return dek_get_le64(block.data() + 8) == dek_crc32c(block.data() + 16, DEK_BLOCK_SIZE - 16);
}

} // namespace

TEST_CASE("an endpoint of the class named answers a handshake with both regions reversed") {
    Endpoint e;
    const Block command = handshake_block(DEK_CLASS_EHBA);
    Block block = command;
    CHECK(e.send(block).status == DEK_OK);
    CHECK(dek_handshake_affirmative(command.data(), block.data()));
    CHECK(std::equal(command.begin() + 512, command.begin() + 1024,
                     std::reverse_iterator(block.begin() + 1024)));
    CHECK(std::equal(command.begin() + 1152, command.begin() + 1408,
                     std::reverse_iterator(block.begin() + 1408)));
    CHECK(dek_get_le64(block.data() + 32) == dek_endpoint_id(e.ep));
    CHECK(dek_get_le64(block.data() + 40) == 9);
}

TEST_CASE("a handshake changes nothing") {
    Endpoint e;
    const auto* before = dek_endpoint_current(e.ep);
    Block block = handshake_block(DEK_CLASS_EHBA);
    e.send(block);
    CHECK(e.change.next == nullptr);
    CHECK(dek_endpoint_current(e.ep) == before);
}

TEST_CASE("a handshake for another class is not answered as one's own") {
    Endpoint e;
    for (const char* name : {DEK_CLASS_DDM, DEK_CLASS_RRM, "EHB", "EHBAA", ""}) {
        const Block command = handshake_block(name);
        Block block = command;
        CHECK(e.send(block).status == DEK_UNKNOWN_ENDPOINT);
        CHECK_FALSE(dek_handshake_affirmative(command.data(), block.data()));
        CHECK(std::equal(command.begin() + 512, command.begin() + 1024, block.begin() + 512));
        CHECK(sealed(block));
    }
}

TEST_CASE("a newer version is negotiated down in a handshake and refused elsewhere") {
    Endpoint e;
    Block block = handshake_block(DEK_CLASS_EHBA, 7);
    CHECK(e.send(block).status == DEK_OK);
    CHECK(dek_get_le32(block.data() + 16) == DEK_PROTO_VERSION);
    block = query_block(e, {{0, 8}});
    dek_put_le32(block.data() + 16, 7);
    dek_block_seal(block.data());
    CHECK(e.send(block).status == DEK_BAD_VERSION);
}

TEST_CASE("a broken block is answered with what is wrong with it, and sealed") {
    Endpoint e;
    Block block = query_block(e, {{0, 8}});
    block[1000] ^= 1;
    CHECK(e.send(block).status == DEK_BAD_CHECKSUM);
    CHECK(sealed(block));
    block = query_block(e, {{0, 8}});
    block[0] ^= 1;
    CHECK(e.send(block).status == DEK_BAD_SIGNATURE);
    block = query_block(e, {{0, 8}});
    dek_put_le32(block.data() + 24, 6);
    dek_block_seal(block.data());
    CHECK(e.send(block).status == DEK_BAD_OPCODE);
    block = query_block(e, {{0, 8}});
    dek_put_le32(block.data() + 72, 61);
    dek_block_seal(block.data());
    CHECK(e.send(block).status == DEK_MALFORMED);
    CHECK(sealed(block));
}

TEST_CASE("a block for another endpoint, or an earlier life of this one, is refused") {
    Endpoint e, other(4096, false);
    other.engine.seed = 77;
    other.make();
    REQUIRE(dek_endpoint_id(e.ep) != dek_endpoint_id(other.ep));
    Block block = query_block(other, {{0, 8}});
    CHECK(e.send(block).status == DEK_UNKNOWN_ENDPOINT);
    block = other.associate_block({.map = {{0, 8}}});
    CHECK(e.send(block).status == DEK_UNKNOWN_ENDPOINT);
    CHECK(e.associations().empty());
}

TEST_CASE("a query is affirmative if every range is in the device and aligned") {
    Endpoint e(4096);
    CHECK(e.query({{0, 8}}).status == DEK_OK);
    CHECK(e.query({{0, 4096}}).status == DEK_OK);
    CHECK(e.query({{0, 8}, {16, 8}, {4088, 8}}).status == DEK_OK);
    CHECK(e.query({{0, 8}, {4096, 8}}).status == DEK_INVALID_RANGE);
    CHECK(e.query({{4088, 16}}).status == DEK_INVALID_RANGE);
    CHECK(e.query({{0, 4}}).status == DEK_INVALID_RANGE);
    CHECK(e.query({{4, 8}}).status == DEK_INVALID_RANGE);
    CHECK(e.query({{16, 8}, {0, 8}}).status == DEK_INVALID_RANGE);
    CHECK(e.query({{0, 16}, {8, 16}}).status == DEK_INVALID_RANGE);
    CHECK(e.query({{0, 0}}).status == DEK_INVALID_RANGE);
    CHECK(e.query({{~0ull - 7, 16}}).status == DEK_INVALID_RANGE);
}

TEST_CASE("an endpoint that does not begin at LBA 0 refuses what lies before it") {
    Endpoint e(4096, false);
    e.config.first = 2048;
    e.make();
    CHECK(e.query({{2048, 4096}}).status == DEK_OK);
    CHECK(e.query({{2040, 16}}).status == DEK_INVALID_RANGE);
    CHECK(e.query({{6136, 16}}).status == DEK_INVALID_RANGE);
    CHECK(e.read(2047) == DEK_REFUSE);
    CHECK(e.look(2040, false, 100) == Verdict{DEK_REFUSE, 0, 8});
    CHECK(e.read(2048) == DEK_PASS);
    CHECK(e.read(6144) == DEK_REFUSE);
}

TEST_CASE("a query says no where a reserved range is asked for, or the engine cannot now") {
    Endpoint e;
    REQUIRE(e.map(1, {{1024, 1024}}, {{0, 512}}) == 0);
    CHECK(e.query({{504, 16}}).status == DEK_INVALID_RANGE);
    CHECK(e.query({{1024, 1024}}).status == DEK_OK);
    for (const auto status : {DEK_BUSY, DEK_INVALID_HW_STATE, DEK_NO_MEMORY, DEK_NOT_CAPABLE}) {
        e.engine.on_ready = status;
        CHECK(e.query({{1024, 8}}).status == status);
    }
    e.engine.on_ready = DEK_OK;
    e.engine.ops.ready = nullptr;
    CHECK(e.query({{1024, 8}}).status == DEK_OK);
}

TEST_CASE("a query counts what an association would take of the endpoint's capacity") {
    Endpoint e(4096, false);
    e.config.max_associations = 2;
    e.config.max_ranges = 4;
    e.make();
    CHECK(e.query({{0, 8}, {16, 8}, {32, 8}, {48, 8}}).status == DEK_OK);
    CHECK(e.query({{0, 8}, {16, 8}, {32, 8}, {48, 8}, {64, 8}}).status == DEK_ASSOCIATION_OVERFLOW);
    REQUIRE(e.map(1, {{0, 80}}) == 0);
    CHECK(e.query({{8, 8}, {24, 8}}).status == DEK_ASSOCIATION_OVERFLOW); // five pieces
    CHECK(e.query({{0, 8}, {16, 8}}).status == DEK_OK);                   // four
    REQUIRE(e.associate({{0, 8}}).status == DEK_OK);
    REQUIRE(e.associate({{16, 8}}, 2).status == DEK_OK);
    CHECK(e.query({{32, 48}}).status == DEK_ASSOCIATION_OVERFLOW); // a third association
    CHECK(e.query({{0, 8}, {16, 8}}).status == DEK_OK);            // for a refresh
}
