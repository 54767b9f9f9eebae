// SPDX-License-Identifier: Apache-2.0
// Valid blocks to start from, and what any decoded block must satisfy. Shared by tests and fuzzing.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include <dek/codec.h>
#include <dek/lunmap.h>

namespace sample {

using Block = std::array<std::uint8_t, DEK_BLOCK_SIZE>;

// What an Associate or Update is made of; owns what dek_blob only points at.
struct Parts {
    std::uint8_t type = DEK_BLOB_UNWRAPPED; // 0: no blob
    std::uint8_t key_length = 64;
    std::array<std::uint8_t, DEK_KEY_DATA_SIZE> key_data{};
    std::array<std::uint8_t, DEK_WRAP_NONCE_SIZE> nonce{};
    std::array<std::uint8_t, DEK_WRAP_TAG_SIZE> tag{};
    std::string kek_name = "kek";
    std::string key_id = "sample-key";
    std::uint64_t association = 0;
    dek_geometry geometry{.data_unit = 4096,
                          .tweak_rule = DEK_TWEAK_UNIT,
                          .device_origin = 2048,
                          .logical_origin = 0,
                          .chunk = 0,
                          .stripes = 0,
                          .leg = 0};
    std::vector<dek_range> map{{2048, 8}, {2056, 16}, {4096, 1024}};

    dek_blob blob() const {
        dek_blob b{};
        b.present = type != 0;
        b.type = type;
        b.key_length = key_length;
        b.algorithm = DEK_ALG_AES;
        b.mode = DEK_MODE_XTS;
        b.key_data = key_data.data();
        b.nonce = nonce.data();
        b.tag = tag.data();
        b.kek_name = kek_name.data();
        b.kek_name_length = static_cast<std::uint8_t>(kek_name.size());
        return b;
    }
};

constexpr std::uint64_t endpoint_id = 0xe1e2e3e4e5e6e7e8;
constexpr std::uint64_t controller_handle = 0xc1c2c3c4c5c6c7c8;

inline Parts parts(std::uint8_t type) {
    Parts p;
    p.type = type;
    for (std::size_t i = 0; i < p.key_data.size(); i++)
        p.key_data[i] = static_cast<std::uint8_t>(0x80 + i);
    if (type == DEK_BLOB_KEYRING) {
        p.key_data = {'d', 'e', 'k', ':', 'v', 'o', 'l'};
        p.key_length = 7;
    }
    return p;
}

inline Block association(const Parts& p, std::uint32_t opcode = DEK_OP_ASSOCIATE) {
    Block block;
    dek_blob blob = p.blob();
    dek_block_begin(block.data(), opcode, endpoint_id, controller_handle);
    dek_block_associate(block.data(), p.association, &blob, p.key_id.data(),
                        static_cast<std::uint32_t>(p.key_id.size()), &p.geometry, p.map.data(),
                        static_cast<std::uint32_t>(p.map.size()));
    dek_block_seal(block.data());
    return block;
}

inline Block query(const std::vector<dek_range>& map = {{0, 1}, {1, 1}, {100, 50}}) {
    Block block;
    dek_block_begin(block.data(), DEK_OP_QUERY, endpoint_id, controller_handle);
    dek_block_query(block.data(), map.data(), static_cast<std::uint32_t>(map.size()));
    dek_block_seal(block.data());
    return block;
}

inline Block handshake(const char* class_name = DEK_CLASS_EHBA) {
    Block block;
    std::array<std::uint8_t, 768> random;
    for (std::size_t i = 0; i < random.size(); i++)
        random[i] = static_cast<std::uint8_t>(i * 7 + i / 256);
    dek_block_begin(block.data(), DEK_OP_HANDSHAKE, 0, controller_handle);
    dek_block_handshake(block.data(), class_name, random.data());
    dek_block_seal(block.data());
    return block;
}

inline Block disassociate(std::uint64_t association = 42) {
    Block block;
    dek_block_begin(block.data(), DEK_OP_DISASSOCIATE, endpoint_id, controller_handle);
    dek_block_disassociate(block.data(), association);
    dek_block_seal(block.data());
    return block;
}

// One valid block of each kind.
inline std::vector<Block> all() {
    std::vector<Block> blocks{handshake(), query(), disassociate()};
    for (std::uint8_t type : {0, 1, 2, 3}) {
        blocks.push_back(association(parts(type)));
        blocks.push_back(association(parts(type), DEK_OP_UPDATE));
    }
    return blocks;
}

} // namespace sample
