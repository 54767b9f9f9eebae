// SPDX-License-Identifier: Apache-2.0
// What people are shown of a block, and that it is never a key.
#include <catch2/catch.hpp>

#include <dek/describe.hpp>

#include "sample.h"

using sample::Block;

namespace {

// Any four bytes of the key, as text or as hexadecimal in either case.
bool shows_key(const std::string& text, const std::array<std::uint8_t, 64>& key,
               std::size_t length) {
    for (std::size_t i = 0; i + 4 <= length; i++) {
        char hex[9], upper[9];
        std::snprintf(hex, sizeof(hex), "%02x%02x%02x%02x", key[i], key[i + 1], key[i + 2],
                      key[i + 3]);
        std::snprintf(upper, sizeof(upper), "%02X%02X%02X%02X", key[i], key[i + 1], key[i + 2],
                      key[i + 3]);
        std::string raw(reinterpret_cast<const char*>(&key[i]), 4);
        for (const std::string& needle : {std::string(hex), std::string(upper), raw})
            if (text.find(needle) != std::string::npos)
                return true;
    }
    return false;
}

std::string both(const Block& block) {
    return dek::describe_text(block) + dek::describe_json(block).dump();
}

} // namespace

TEST_CASE("an Associate is described field by field", "[describe]") {
    sample::Parts p = sample::parts(DEK_BLOB_WRAPPED);
    p.association = 42;
    p.map = {{2048, 8}};
    Block block = sample::association(p);
    dek_put_le64(&block[8], 0); // its place in the text, not its value, matters here
    std::string text = dek::describe_text(sample::association(p));
    text = text.substr(text.find('\n') + 1);
    CHECK(text == "    16  version             1\n"
                  "    24  opcode              3 (Associate)\n"
                  "    28  status              0 (Success)\n"
                  "    32  endpoint_id         0xe1e2e3e4e5e6e7e8\n"
                  "    40  controller_handle   0xc1c2c3c4c5c6c7c8\n"
                  "    48  association         0x000000000000002a\n"
                  "    56  blob_offset         72\n"
                  "    60  key_id_offset       181\n"
                  "    64  app_info_offset     195\n"
                  "    68  map_offset          227\n"
                  "    72  blob_length         105\n"
                  "    76  blob_type           2 (wrapped)\n"
                  "    81  key_length          64 (bytes)\n"
                  "    82  algorithm           1 (AES)\n"
                  "    83  mode                1 (XTS)\n"
                  "    84  key_data            not shown\n"
                  "   149  nonce               000000000000000000000000\n"
                  "   161  tag                 00000000000000000000000000000000\n"
                  "   178  kek_name            kek\n"
                  "   185  key_id              sample-key\n"
                  "   195  data_unit           4096 (bytes)\n"
                  "   199  tweak_rule          0 (unit)\n"
                  "   203  device_origin       2048\n"
                  "   211  logical_origin      0\n"
                  "   219  chunk               0 (not striped)\n"
                  "   223  stripes             0\n"
                  "   225  leg                 0\n"
                  "   227  map_count           1\n"
                  "   231  range               2048-2055 (8 LBAs)\n");
}

TEST_CASE("programs get the same as members of an object", "[describe]") {
    auto json = dek::describe_json(sample::query({{1536, 8704}, {11264, 9216}}));
    CHECK(json["verdict"] == "Success");
    CHECK(json["opcode"] == 2);
    CHECK(json["opcode_text"] == "Query");
    CHECK(json["endpoint_id"] == "0xe1e2e3e4e5e6e7e8");
    CHECK(
        json["map"].dump() ==
        R"([{"first":1536,"last":10239,"count":8704},{"first":11264,"last":20479,"count":9216}])");
    CHECK(dek::describe_json(sample::handshake())["class_name"] == "EHBA");
    CHECK(dek::describe_json(sample::disassociate(7))["association"] == "0x0000000000000007");
}

TEST_CASE("no description shows a byte of a key", "[describe]") {
    for (std::uint8_t type : {DEK_BLOB_UNWRAPPED, DEK_BLOB_WRAPPED, DEK_BLOB_KEYRING}) {
        for (std::uint32_t opcode : {DEK_OP_ASSOCIATE, DEK_OP_UPDATE}) {
            sample::Parts p = sample::parts(type);
            CHECK_FALSE(shows_key(both(sample::association(p, opcode)), p.key_data, p.key_length));
        }
    }
    // The search finds what is there.
    sample::Parts p = sample::parts(DEK_BLOB_UNWRAPPED);
    CHECK(shows_key("..90919293..", p.key_data, 64));
}

TEST_CASE("a broken block that carries a key shows none of it either", "[describe]") {
    sample::Parts p = sample::parts(DEK_BLOB_UNWRAPPED);
    std::mt19937_64 random(11);
    for (int round = 0; round < 5000; round++) {
        Block block = sample::association(p);
        // Offsets, types and lengths go wrong; the key itself stays where it is.
        std::size_t at = round % 2 ? 16 + random() % 68 : 148 + random() % 160;
        block[at] = static_cast<std::uint8_t>(random());
        if (round % 5)
            dek_block_seal(block.data());
        REQUIRE_FALSE(shows_key(both(block), p.key_data, 64));
    }
}

TEST_CASE("a rejected block says why, and nothing of a body that cannot be trusted", "[describe]") {
    Block block = sample::query();
    dek_put_le32(&block[72], 0);
    dek_block_seal(block.data());
    std::string text = dek::describe_text(block);
    CHECK(text.find("opcode              2 (Query)\n") != std::string::npos);
    CHECK(text.find("map") == std::string::npos);
    CHECK(text.find("rejected: Malformed\n") != std::string::npos);
    block[100] ^= 1;
    CHECK(dek::describe_text(block) == "rejected: Bad Checksum\n");
    CHECK(dek::describe_json(block).dump() == R"({"verdict":"Bad Checksum"})");
}

TEST_CASE("names from outside cannot upset a terminal", "[describe]") {
    sample::Parts p = sample::parts(0);
    p.key_id = "\x1b[2J\xff";
    CHECK(both(sample::association(p)).find("hex:1b5b324aff") != std::string::npos);
    Block block = sample::handshake("\x1b[31m");
    CHECK(both(block).find("hex:1b5b33316d") != std::string::npos);
    std::string text = dek::describe_text(block);
    CHECK(std::all_of(text.begin(), text.end(),
                      [](char c) { return c == '\n' || (c >= ' ' && c <= '~'); }));
}
