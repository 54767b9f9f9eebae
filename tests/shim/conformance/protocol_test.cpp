// SPDX-License-Identifier: Apache-2.0
// Command blocks through the ioctl: every command and every status a healthy endpoint can answer.
#include <catch2/catch.hpp>

#include <cerrno>
#include <cstring>

#include "caller.h"

using namespace conformance;

namespace {

struct Block {
    alignas(8) std::uint8_t bytes[DEK_BLOCK_SIZE]{};
    std::uint8_t* operator()() { return bytes; }
    void put32(std::size_t at, std::uint32_t v) { dek_put_le32(bytes + at, v); }
    void seal() { dek_block_seal(bytes); }
};

Block handshake(const char* class_name = DEK_CLASS_EHBA) {
    Block b;
    const Bytes noise = pattern(768, 5);
    dek_block_begin(b(), DEK_OP_HANDSHAKE, 0, 0x1122334455667788ull);
    dek_block_handshake(b(), class_name, noise.data());
    b.seal();
    return b;
}

Association an_association(std::vector<dek_range> ranges, unsigned seed = 1) {
    Association a;
    a.key = test_key(64, seed);
    a.ranges = std::move(ranges);
    return a;
}

// An Associate with a blob of another type, or none.
dek_status associate_with(Volume& v, const dek_blob* blob) {
    Block b;
    const dek_geometry g{4096, DEK_TWEAK_UNIT, 0, 0, 0, 0, 0};
    const dek_range range{0, 64};
    dek_block_begin(b(), DEK_OP_ASSOCIATE, v.endpoint_id(), 7);
    REQUIRE(dek_block_associate(b(), 0, blob, "key", 3, &g, &range, 1) == DEK_OK);
    b.seal();
    return v.command(b());
}

} // namespace

TEST_CASE("the version call says what is here") {
    Caller caller;
    dek_ioc_version v{};
    REQUIRE(caller.call(DEK_IOC_VERSION, v) == 0);
    CHECK(v.abi == DEK_ABI_VERSION);
    CHECK((v.kind == DEK_SHIM_KERNEL || v.kind == DEK_SHIM_FUSE));
    CHECK((v.engines & (DEK_ENGINE_INLINE | DEK_ENGINE_ACCEL | DEK_ENGINE_CPU)) != 0);
    CHECK((v.blob_types & (1u << DEK_BLOB_UNWRAPPED)) != 0);
    CHECK(v.max_associations >= 1024);
    CHECK(v.max_ranges >= 2048);
    CHECK(v.reserved0 == 0);
    CHECK(v.life != 0);
    CHECK(std::strlen(v.build) > 0);
    CHECK(std::strlen(v.engine_name) > 0);
}

TEST_CASE("an unknown call is ENOTTY, an unknown endpoint ENOENT") {
    Caller caller;
    std::uint8_t room[64]{};
    CHECK(caller.raw(_IOWR(DEK_IOC_TYPE, 0x7f, room), room) == ENOTTY);
    CHECK(caller.raw(_IOWR('Z', 0x00, room), room) == ENOTTY);
    CHECK(caller.raw(_IOWR(DEK_IOC_TYPE, 0x0b, room), room) ==
          ENOTTY); // the size is part of the call
    dek_ioc_stats stats{};
    stats.uuid[0] = 0xee;
    CHECK(caller.call(DEK_IOC_STATS, stats) == ENOENT);
    dek_ioc_command command{};
    command.uuid[0] = 0xee;
    CHECK(caller.call(DEK_IOC_COMMAND, command) == ENOENT);
}

TEST_CASE("a handshake comes back reversed, with the endpoint's ID, and changes nothing") {
    Volume v;
    Block sent = handshake(), got = sent;
    REQUIRE(v.command(got()) == DEK_OK);
    CHECK(dek_handshake_affirmative(sent(), got()));
    for (std::size_t i = 0; i < DEK_RANDOM1_SIZE; i++)
        REQUIRE(got.bytes[512 + i] == sent.bytes[512 + DEK_RANDOM1_SIZE - 1 - i]);
    for (std::size_t i = 0; i < DEK_RANDOM2_SIZE; i++)
        REQUIRE(got.bytes[1152 + i] == sent.bytes[1152 + DEK_RANDOM2_SIZE - 1 - i]);
    CHECK(dek_get_le64(got.bytes + 40) == 0x1122334455667788ull);
    const std::uint64_t id = dek_get_le64(got.bytes + 32);
    CHECK(id != 0);
    CHECK(v.endpoint_id() == id);
    CHECK(v.associations().empty());
    CHECK(v.ranges().empty());
}

TEST_CASE("a newer version is negotiated down in a handshake and refused elsewhere") {
    Volume v;
    Block b = handshake();
    b.put32(16, 7);
    b.seal();
    REQUIRE(v.command(b()) == DEK_OK);
    CHECK(dek_get_le32(b.bytes + 16) == DEK_PROTO_VERSION);

    dek_block_begin(b(), DEK_OP_QUERY, v.endpoint_id(), 7);
    const dek_range range{0, 8};
    dek_block_query(b(), &range, 1);
    b.put32(16, 7);
    b.seal();
    CHECK(v.command(b()) == DEK_BAD_VERSION);
    b = handshake();
    b.put32(16, 0);
    b.seal();
    CHECK(v.command(b()) == DEK_BAD_VERSION);
}

TEST_CASE("blocks that are none are refused by the rule they break") {
    Volume v;
    Block b = handshake();
    b.bytes[700] ^= 1;
    CHECK(v.command(b()) == DEK_BAD_CHECKSUM);
    b = handshake();
    b.bytes[3] ^= 1;
    CHECK(v.command(b()) == DEK_BAD_SIGNATURE);
    b = handshake();
    b.put32(24, 9);
    b.seal();
    CHECK(v.command(b()) == DEK_BAD_OPCODE);
    b = handshake(DEK_CLASS_DDM);
    CHECK(v.command(b()) == DEK_UNKNOWN_ENDPOINT);
    b = handshake();
    std::memset(b.bytes + 48, 'x', DEK_CLASS_NAME_SIZE); // not terminated
    b.seal();
    CHECK(v.command(b()) == DEK_MALFORMED);
    dek_block_begin(b(), DEK_OP_DISASSOCIATE, v.endpoint_id() + 1, 7);
    dek_block_disassociate(b(), 1);
    b.seal();
    CHECK(v.command(b()) == DEK_UNKNOWN_ENDPOINT);
}

TEST_CASE("a query says yes to what can be encrypted and no to the rest") {
    Volume v;
    CHECK(v.query({{0, 8}}) == DEK_OK);
    CHECK(v.query({{0, 8}, {8, 8}, {4088, 8}}) == DEK_OK);
    CHECK(v.query({{4088, 16}}) == DEK_INVALID_RANGE); // beyond the end
    CHECK(v.query({{4, 8}}) == DEK_INVALID_RANGE);     // not aligned to the data unit
    CHECK(v.query({{0, 4}}) == DEK_INVALID_RANGE);
    CHECK(v.query({{8, 8}, {0, 8}}) == DEK_INVALID_RANGE);
    CHECK(v.query({{0, 16}, {8, 8}}) == DEK_INVALID_RANGE);
    CHECK(v.query({{0, 0}}) == DEK_INVALID_RANGE);
    CHECK(v.query({{~0ull - 7, 16}}) == DEK_INVALID_RANGE);
    CHECK(v.associations().empty());
}

TEST_CASE("a new association is made, refreshed, and differs from another") {
    Volume v;
    REQUIRE(v.map(1, {{0, 1024}}) == 0);
    Association a = an_association({{0, 64}, {128, 64}});
    REQUIRE(v.associate(a) == DEK_OK);
    CHECK(a.handle != 0);
    const std::uint64_t handle = a.handle;
    CHECK(v.associate(a) == DEK_OK); // the same again: a refresh
    CHECK(a.handle == handle);
    Association other_key = a, other_map = a, other_info = a;
    other_key.key = test_key(64, 2);
    other_map.ranges = {{0, 64}};
    other_info.geometry.logical_origin = 8;
    CHECK(v.associate(other_key) == DEK_ASSOCIATION_EXISTS);
    CHECK(v.associate(other_map) == DEK_ASSOCIATION_EXISTS);
    CHECK(v.associate(other_info) == DEK_ASSOCIATION_EXISTS);
    Association overlapping = an_association({{56, 16}}, 3);
    CHECK(v.associate(overlapping) == DEK_INVALID_RANGE);
    Association unknown = an_association({{512, 64}}, 4);
    unknown.handle = handle + 1000;
    CHECK(v.associate(unknown) == DEK_UNKNOWN_HANDLE);
    CHECK(v.associations().size() == 1);
}

TEST_CASE("keys that are none are refused") {
    Volume v;
    Association a = an_association({{0, 64}});
    a.key.assign(64, 0x5a); // equal halves
    CHECK(v.associate(a) == DEK_INVALID_KEY);
    a.key = test_key(48, 1);
    CHECK(v.associate(a) == DEK_INVALID_KEY);
    CHECK(v.associations().empty());
}

TEST_CASE("blob types are taken as the capabilities say") {
    Volume v;
    dek_ioc_version version{};
    REQUIRE(v.caller().call(DEK_IOC_VERSION, version) == 0);
    const std::uint8_t key_data[DEK_KEY_DATA_SIZE] = "dekstack:no-such-key";
    const std::uint8_t nonce[DEK_WRAP_NONCE_SIZE]{}, tag[DEK_WRAP_TAG_SIZE]{};
    dek_blob blob{};
    blob.present = true;
    blob.algorithm = DEK_ALG_AES;
    blob.mode = DEK_MODE_XTS;
    blob.key_data = key_data;
    blob.key_length = 20;
    blob.type = DEK_BLOB_KEYRING;
    const bool keyring = version.blob_types & (1u << DEK_BLOB_KEYRING);
    CHECK(associate_with(v, &blob) == (keyring ? DEK_INVALID_KEY : DEK_NOT_CAPABLE));
    blob.type = DEK_BLOB_WRAPPED;
    blob.key_length = 64;
    blob.nonce = nonce;
    blob.tag = tag;
    blob.kek_name = "no-such-kek";
    blob.kek_name_length = 11;
    const bool wrapped = version.blob_types & (1u << DEK_BLOB_WRAPPED);
    CHECK(associate_with(v, &blob) == (wrapped ? DEK_INVALID_KEY : DEK_NOT_CAPABLE));
    CHECK(associate_with(v, nullptr) == DEK_NOT_CAPABLE); // on the host a key comes with its key
    CHECK(v.associations().empty());
}

TEST_CASE("a data unit other than the endpoint's cannot be served") {
    Volume v;
    Association a = an_association({{0, 64}});
    a.geometry.data_unit = 512;
    CHECK(v.associate(a) == DEK_NOT_CAPABLE);
}

TEST_CASE("an update replaces map and key") {
    Volume v;
    REQUIRE(v.map(1, {{0, 1024}}) == 0);
    Association a = an_association({{0, 64}}), b = an_association({{512, 64}}, 2);
    REQUIRE(v.associate(a) == DEK_OK);
    REQUIRE(v.associate(b) == DEK_OK);
    Association moved = a;
    moved.ranges = {{64, 64}};
    moved.key = test_key(32, 9);
    REQUIRE(v.associate(moved, DEK_OP_UPDATE) == DEK_OK);
    CHECK(moved.handle == a.handle);
    const auto list = v.associations();
    REQUIRE(list.size() == 2);
    CHECK(list[0].key_length == 32);
    CHECK(list[0].blocks == 64);
    moved.ranges = {{520, 8}};
    CHECK(v.associate(moved, DEK_OP_UPDATE) == DEK_INVALID_RANGE);
    moved.handle = 0;
    moved.ranges = {{64, 64}};
    CHECK(v.associate(moved, DEK_OP_UPDATE) == DEK_UNKNOWN_HANDLE);
    moved.handle = b.handle + 1000;
    CHECK(v.associate(moved, DEK_OP_UPDATE) == DEK_UNKNOWN_HANDLE);
}

TEST_CASE("handles are never used again") {
    Volume v;
    Association a = an_association({{0, 64}});
    REQUIRE(v.associate(a) == DEK_OK);
    const std::uint64_t first = a.handle;
    REQUIRE(v.disassociate(first) == DEK_OK);
    CHECK(v.disassociate(first) == DEK_UNKNOWN_HANDLE);
    a.handle = 0;
    REQUIRE(v.associate(a) == DEK_OK);
    CHECK(a.handle != first);
    CHECK(v.disassociate(0) == DEK_UNKNOWN_HANDLE);
}

TEST_CASE("associations beyond the endpoint's room are an overflow") {
    Volume v({.sectors = 1 << 20, .data_unit = 512, .logical_block = 512});
    dek_ioc_version version{};
    REQUIRE(v.caller().call(DEK_IOC_VERSION, version) == 0);
    const std::uint64_t id = v.endpoint_id();
    Block b;
    std::uint8_t key[DEK_KEY_DATA_SIZE];
    const Bytes k = test_key(64, 1);
    std::memcpy(key, k.data(), sizeof(key));
    dek_blob blob{};
    blob.present = true;
    blob.type = DEK_BLOB_UNWRAPPED;
    blob.key_length = 64;
    blob.algorithm = DEK_ALG_AES;
    blob.mode = DEK_MODE_XTS;
    blob.key_data = key;
    const dek_geometry g{512, DEK_TWEAK_UNIT, 0, 0, 0, 0, 0};
    dek_status status = DEK_OK;
    std::uint32_t made = 0;
    for (; status == DEK_OK && made <= version.max_associations; made++) {
        const dek_range range{made, 1};
        dek_block_begin(b(), DEK_OP_ASSOCIATE, id, 7);
        dek_block_associate(b(), 0, &blob, "key", 3, &g, &range, 1);
        b.seal();
        status = v.command(b());
    }
    CHECK(status == DEK_ASSOCIATION_OVERFLOW);
    CHECK(made == version.max_associations + 1);
    CHECK(v.associations().size() == version.max_associations);
}
