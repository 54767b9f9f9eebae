// SPDX-License-Identifier: Apache-2.0
// Blocks at random: valid ones come back as they were built, mutated ones never decode to anything
// that breaks a rule.
#include <catch2/catch.hpp>

#include "invariants.h"
#include "sample.h"

using sample::Block;
using sample::Parts;

namespace {

using Random = std::mt19937_64;

std::uint64_t below(Random& random, std::uint64_t n) {
    return random() % n;
}

std::string random_text(Random& random, std::size_t most) {
    std::string text(1 + below(random, most), '.');
    for (char& c : text)
        c = static_cast<char>(' ' + below(random, 95));
    return text;
}

template <class Bytes>
void fill(Random& random, Bytes& bytes) {
    for (auto& byte : bytes)
        byte = static_cast<std::uint8_t>(random());
}

std::vector<dek_range> random_map(Random& random, std::uint64_t from, std::uint64_t step) {
    std::vector<dek_range> map(1 + below(random, DEK_MAX_RANGES));
    for (dek_range& r : map) {
        r.first = from + below(random, 3) * step;
        r.count = (1 + below(random, 1000)) * step;
        from = r.first + r.count;
    }
    return map;
}

dek_geometry random_geometry(Random& random) {
    dek_geometry g{};
    g.data_unit = 512u << below(random, 4);
    g.tweak_rule = static_cast<std::uint8_t>(below(random, 2));
    g.device_origin = below(random, 1u << 20) * 8;
    g.logical_origin = below(random, std::uint64_t{1} << 50) * 8;
    if (below(random, 2)) {
        g.chunk = 8 * static_cast<std::uint32_t>(1 + below(random, 4096));
        g.stripes = static_cast<std::uint16_t>(1 + below(random, 65535));
        g.leg = static_cast<std::uint16_t>(below(random, g.stripes));
    }
    return g;
}

Parts random_parts(Random& random) {
    Parts p;
    p.type = static_cast<std::uint8_t>(below(random, 4));
    fill(random, p.key_data), fill(random, p.nonce), fill(random, p.tag);
    p.key_length = below(random, 2) ? 64 : 32;
    if (p.key_length == 32 && p.type == DEK_BLOB_UNWRAPPED)
        std::fill(p.key_data.begin() + 32, p.key_data.end(), 0);
    p.kek_name = random_text(random, 255);
    if (p.type == DEK_BLOB_KEYRING) {
        std::string name = random_text(random, 64);
        p.key_data.fill(0);
        std::copy(name.begin(), name.end(), p.key_data.begin());
        p.key_length = static_cast<std::uint8_t>(name.size());
    }
    p.key_id = random_text(random, DEK_KEY_ID_MAX);
    p.association = random();
    p.geometry = random_geometry(random);
    p.map = random_map(random, p.geometry.device_origin, p.geometry.data_unit / 512);
    return p;
}

bool same_map(const dek_command& c, const std::vector<dek_range>& map) {
    bool same = c.map_count == map.size();
    for (std::uint32_t i = 0; same && i < c.map_count; i++) {
        dek_range r = dek_command_range(&c, i);
        same = r.first == map[i].first && r.count == map[i].count;
    }
    return same;
}

bool same_geometry(const dek_geometry& a, const dek_geometry& b) {
    return a.data_unit == b.data_unit && a.tweak_rule == b.tweak_rule &&
           a.device_origin == b.device_origin && a.logical_origin == b.logical_origin &&
           a.chunk == b.chunk && a.stripes == b.stripes && a.leg == b.leg;
}

void check_blob(const dek_blob& got, const Parts& sent) {
    CHECK(got.present == (sent.type != 0));
    if (!sent.type)
        return;
    CHECK(got.type == sent.type);
    CHECK(got.key_length == sent.key_length);
    CHECK(std::equal(sent.key_data.begin(), sent.key_data.end(), got.key_data));
    if (sent.type != DEK_BLOB_WRAPPED)
        return;
    CHECK(std::equal(sent.nonce.begin(), sent.nonce.end(), got.nonce));
    CHECK(std::equal(sent.tag.begin(), sent.tag.end(), got.tag));
    CHECK(std::string(got.kek_name, got.kek_name_length) == sent.kek_name);
}

// A few bytes replaced, where things are decided more often than elsewhere.
void mutate(Random& random, Block& block) {
    for (std::uint64_t n = 1 + below(random, 4); n; n--) {
        std::size_t at = 16 + below(random, below(random, 3) ? 300 : DEK_BLOCK_SIZE - 16);
        switch (below(random, 4)) {
        case 0:
            block[at] ^= static_cast<std::uint8_t>(1u << below(random, 8));
            break;
        case 1:
            block[at] = static_cast<std::uint8_t>(random());
            break;
        case 2:
            block[at] = static_cast<std::uint8_t>(block[at] + 1);
            break;
        default:
            block[at] = 0;
            break;
        }
    }
}

} // namespace

TEST_CASE("every Associate and Update decodes to what it was built from", "[property]") {
    Random random(1);
    for (int round = 0; round < 3000; round++) {
        Parts sent = random_parts(random);
        std::uint32_t opcode = round % 2 ? DEK_OP_UPDATE : DEK_OP_ASSOCIATE;
        Block block = sample::association(sent, opcode);
        dek_command got;
        REQUIRE(dek_block_decode(block.data(), &got) == DEK_OK);
        CHECK(got.opcode == opcode);
        CHECK(got.association == sent.association);
        CHECK(got.endpoint_id == sample::endpoint_id);
        CHECK(got.controller_handle == sample::controller_handle);
        CHECK(std::string(reinterpret_cast<const char*>(got.key_id), got.key_id_length) ==
              sent.key_id);
        CHECK(same_geometry(got.geometry, sent.geometry));
        CHECK(same_map(got, sent.map));
        check_blob(got.blob, sent);
        REQUIRE(sample::holds(block.data(), got));
    }
}

TEST_CASE("every Query decodes to the map it was built from", "[property]") {
    Random random(2);
    for (int round = 0; round < 1000; round++) {
        std::vector<dek_range> map = random_map(random, below(random, 1000), 1);
        Block block = sample::query(map);
        dek_command got;
        REQUIRE(dek_block_decode(block.data(), &got) == DEK_OK);
        CHECK(same_map(got, map));
    }
}

TEST_CASE("a mutated block is rejected, or breaks no rule", "[property]") {
    Random random(3);
    int decoded = 0, rejected[DEK_STATUS_COUNT] = {};
    std::vector<Block> seeds = sample::all();
    for (int round = 0; round < 200000; round++) {
        Block block = round % 4 ? seeds[below(random, seeds.size())]
                                : sample::association(random_parts(random));
        mutate(random, block);
        dek_block_seal(block.data());
        dek_command got;
        dek_status status = dek_block_decode(block.data(), &got);
        REQUIRE(status < DEK_STATUS_COUNT);
        rejected[status]++;
        if (status != DEK_OK)
            continue;
        decoded++;
        REQUIRE(sample::holds(block.data(), got));
    }
    // It met both outcomes, and every rejection that a body has.
    CHECK(decoded > 10000);
    for (dek_status status :
         {DEK_BAD_VERSION, DEK_BAD_OPCODE, DEK_MALFORMED, DEK_INVALID_KEY, DEK_INVALID_RANGE})
        CHECK(rejected[status] > 100);
}

TEST_CASE("noise is rejected", "[property]") {
    Random random(4);
    for (int round = 0; round < 2000; round++) {
        Block block;
        dek_command got;
        fill(random, block);
        REQUIRE(dek_block_decode(block.data(), &got) == DEK_BAD_SIGNATURE);
        dek_put_le64(block.data(), DEK_SIGNATURE);
        REQUIRE(dek_block_decode(block.data(), &got) == DEK_BAD_CHECKSUM);
    }
}
