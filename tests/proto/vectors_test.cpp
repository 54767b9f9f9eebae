// SPDX-License-Identifier: Apache-2.0
// Literal blocks: each is decoded, compared with what its comments say, built again and compared
// byte for byte. vectors.py checks the same files against the tables without any of this code.
#include <catch2/catch.hpp>

#include <filesystem>
#include <numeric>

#include <dek/block.hpp>
#include <openssl/evp.h>

#include "vector_file.h"

using sample::Block;

namespace {

constexpr std::uint64_t endpoint = 0x1122334455667788;
constexpr std::uint64_t controller = 0x0102030405060708;
const std::vector<dek_range> example{{1536, 8704}, {11264, 9216}};

dek_command decoded(const Block& block) {
    dek_command command;
    REQUIRE(dek_block_decode(block.data(), &command) == DEK_OK);
    CHECK(command.version == 1);
    CHECK(command.controller_handle == controller);
    return command;
}

std::vector<dek_range> map_of(const dek_command& command) {
    std::vector<dek_range> map;
    for (std::uint32_t i = 0; i < command.map_count; i++)
        map.push_back(dek_command_range(&command, i));
    return map;
}

std::string key_id(const dek_command& c) {
    return {reinterpret_cast<const char*>(c.key_id), c.key_id_length};
}

// The block that the decoded fields build, with the status that the vector has.
Block rebuilt(const dek_command& c) {
    Block block;
    std::vector<dek_range> map = map_of(c);
    auto n = static_cast<std::uint32_t>(map.size());
    dek_block_begin(block.data(), c.opcode, c.endpoint_id, c.controller_handle);
    if (c.opcode == DEK_OP_QUERY) {
        REQUIRE(dek_block_query(block.data(), map.data(), n) == DEK_OK);
        memcpy(&block[48], "anything goes here, even", 24);
    } else if (c.opcode == DEK_OP_DISASSOCIATE) {
        dek_block_disassociate(block.data(), c.association);
    } else {
        REQUIRE(dek_block_associate(block.data(), c.association, &c.blob, c.key_id, c.key_id_length,
                                    &c.geometry, map.data(), n) == DEK_OK);
    }
    dek_block_answer(block.data(), static_cast<dek_status>(c.status));
    return block;
}

std::vector<std::uint8_t> counting(std::uint8_t from, std::size_t n) {
    std::vector<std::uint8_t> bytes(n);
    std::iota(bytes.begin(), bytes.end(), from);
    return bytes;
}

// The 64 bytes of key data, given the key and its padding.
bool has_key(const dek_blob& blob, std::vector<std::uint8_t> key) {
    CHECK(blob.key_length == key.size());
    key.resize(64);
    return std::equal(key.begin(), key.end(), blob.key_data);
}

// An Associate with the example map, as three vectors have it; returns it decoded.
dek_command check_associate(const Block& block, std::uint64_t handle, std::uint32_t status) {
    dek_command c = decoded(block);
    CHECK(c.opcode == DEK_OP_ASSOCIATE);
    CHECK(c.status == status);
    CHECK(c.endpoint_id == endpoint);
    CHECK(c.association == handle);
    CHECK(key_id(c) == "vol-7f3a");
    CHECK(c.geometry.data_unit == 512);
    CHECK(c.geometry.tweak_rule == DEK_TWEAK_UNIT);
    CHECK(c.geometry.device_origin == 0);
    CHECK(map_of(c) == example);
    CHECK(rebuilt(c) == block);
    return c;
}

std::vector<std::uint8_t> unwrapped(const dek_command& c, const std::vector<std::uint8_t>& kek) {
    std::array<std::uint8_t, DEK_WRAP_AAD_MAX> aad;
    std::size_t aad_size = dek_wrap_aad(aad.data(), c.key_id, c.key_id_length, c.blob.algorithm,
                                        c.blob.mode, c.endpoint_id);
    std::vector<std::uint8_t> plain(64), tag(c.blob.tag, c.blob.tag + DEK_WRAP_TAG_SIZE);
    std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> context(EVP_CIPHER_CTX_new(),
                                                                            EVP_CIPHER_CTX_free);
    int n = 0;
    EVP_DecryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, kek.data(), c.blob.nonce);
    EVP_DecryptUpdate(context.get(), nullptr, &n, aad.data(), static_cast<int>(aad_size));
    EVP_DecryptUpdate(context.get(), plain.data(), &n, c.blob.key_data, 64);
    EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_SET_TAG, static_cast<int>(tag.size()),
                        tag.data());
    if (EVP_DecryptFinal_ex(context.get(), plain.data() + n, &n) != 1)
        plain.clear();
    return plain;
}

} // namespace

TEST_CASE("vector: a Handshake and its answer", "[vectors]") {
    Block command = sample::vector_file("handshake-command"),
          answer = sample::vector_file("handshake-answer");
    dek_command sent = decoded(command), got = decoded(answer);
    CHECK(sent.opcode == DEK_OP_HANDSHAKE);
    CHECK(sent.endpoint_id == 0);
    CHECK(std::string(sent.class_name) == "EHBA");
    CHECK(got.endpoint_id == endpoint);
    CHECK(got.status == DEK_OK);
    CHECK(dek_handshake_affirmative(command.data(), answer.data()));

    std::array<std::uint8_t, 768> random;
    memcpy(random.data(), &command[512], 512);
    memcpy(random.data() + 512, &command[1152], 256);
    dek::CommandBlock built = dek::CommandBlock::handshake("EHBA", random, controller).value();
    CHECK(std::equal(command.begin(), command.end(), built.data()));
    dek_block_answer_handshake(command.data(), endpoint, DEK_PROTO_VERSION);
    CHECK(command == answer);
}

TEST_CASE("vector: a Query of the document's example map", "[vectors]") {
    for (const char* name : {"query-example", "query-answer-busy"}) {
        Block block = sample::vector_file(name);
        dek_command c = decoded(block);
        CHECK(c.opcode == DEK_OP_QUERY);
        CHECK(c.endpoint_id == endpoint);
        CHECK(c.status == (std::string(name) == "query-example" ? DEK_OK : DEK_BUSY));
        CHECK(map_of(c) == example);
        CHECK(rebuilt(c) == block);
    }
}

TEST_CASE("vector: a Query of sixty ranges", "[vectors]") {
    Block block = sample::vector_file("query-60");
    dek_command c = decoded(block);
    REQUIRE(c.map_count == 60);
    for (std::uint32_t i = 0; i < 60; i++)
        CHECK(dek_command_range(&c, i) == dek_range{1000 * i, 8 * (i + 1)});
    CHECK(rebuilt(c) == block);
}

TEST_CASE("vector: an Associate with a bare key, and its answers", "[vectors]") {
    for (auto [name, handle, status] : {std::tuple{"associate-unwrapped", 0, DEK_OK},
                                        {"associate-answer", 42, DEK_OK},
                                        {"associate-answer-exists", 42, DEK_ASSOCIATION_EXISTS}}) {
        INFO(name);
        Block block = sample::vector_file(name);
        dek_command c = check_associate(block, static_cast<std::uint64_t>(handle), status);
        CHECK(c.blob.type == DEK_BLOB_UNWRAPPED);
        CHECK(has_key(c.blob, counting(0, 64)));
    }
}

TEST_CASE("vector: an Associate with a wrapped key, which opens with its KEK and context",
          "[vectors]") {
    Block block = sample::vector_file("associate-wrapped");
    dek_command c = check_associate(block, 0, DEK_OK);
    CHECK(c.blob.type == DEK_BLOB_WRAPPED);
    CHECK(std::string(c.blob.kek_name, c.blob.kek_name_length) == "test-kek");
    CHECK(std::equal(c.blob.nonce, c.blob.nonce + 12, counting(0xc0, 12).begin()));
    CHECK(unwrapped(c, counting(0xa0, 32)) == counting(0, 64));
    c.endpoint_id++; // bound to the endpoint: another one cannot open it
    CHECK(unwrapped(c, counting(0xa0, 32)).empty());
}

TEST_CASE("vector: an Associate with a key ID only", "[vectors]") {
    Block block = sample::vector_file("associate-key-id");
    dek_command c = decoded(block);
    CHECK_FALSE(c.blob.present);
    CHECK(key_id(c) == "k");
    CHECK(c.geometry.data_unit == 4096);
    CHECK(map_of(c) == std::vector<dek_range>{{0, 20480}});
    CHECK(rebuilt(c) == block);
}

TEST_CASE("vector: an Associate with its parts in another order", "[vectors]") {
    Block block = sample::vector_file("associate-any-order");
    dek_command c = decoded(block);
    CHECK(has_key(c.blob, counting(0x40, 32)));
    CHECK(key_id(c) == std::string(64, 'x'));
    CHECK(c.geometry.data_unit == 4096);
    CHECK(c.geometry.tweak_rule == DEK_TWEAK_LBA512);
    CHECK(c.geometry.device_origin == 2048);
    CHECK(c.geometry.logical_origin == std::uint64_t{1} << 40);
    CHECK(c.geometry.chunk == 128);
    CHECK(c.geometry.stripes == 3);
    CHECK(c.geometry.leg == 1);
    CHECK(map_of(c) == std::vector<dek_range>{{2048, 128}, {4096, 1024}});
    // The builder has an order of its own; the meaning is the same.
    Block again = rebuilt(c);
    dek_command d = decoded(again);
    CHECK(has_key(d.blob, counting(0x40, 32)));
    CHECK(key_id(d) == key_id(c));
    CHECK(map_of(d) == map_of(c));
    CHECK(d.geometry.leg == 1);
    CHECK(d.geometry.logical_origin == c.geometry.logical_origin);
}

TEST_CASE("vector: an Update with a keyring reference", "[vectors]") {
    for (const char* name : {"update", "update-answer-busy"}) {
        Block block = sample::vector_file(name);
        dek_command c = decoded(block);
        CHECK(c.opcode == DEK_OP_UPDATE);
        CHECK(c.association == 42);
        CHECK(c.status == (std::string(name) == "update" ? DEK_OK : DEK_BUSY));
        CHECK(c.blob.type == DEK_BLOB_KEYRING);
        CHECK(std::string(reinterpret_cast<const char*>(c.blob.key_data)) == "dekstack:vol-7f3a");
        CHECK(c.geometry.device_origin == 1536);
        CHECK(map_of(c) == std::vector<dek_range>{{1536, 8704}});
        CHECK(rebuilt(c) == block);
    }
}

TEST_CASE("vector: a Disassociate and its refusal", "[vectors]") {
    Block block = sample::vector_file("disassociate"),
          refusal = sample::vector_file("disassociate-answer-unknown");
    CHECK(decoded(block).association == 42);
    CHECK(rebuilt(decoded(block)) == block);
    CHECK(decoded(refusal).status == DEK_UNKNOWN_HANDLE);
    CHECK(decoded(refusal).association == 43);
    CHECK(rebuilt(decoded(refusal)) == refusal);
}

TEST_CASE("no vector is forgotten here", "[vectors]") {
    auto files = std::filesystem::directory_iterator(DEK_VECTORS);
    CHECK(std::distance(begin(files), end(files)) == 15);
}
