// SPDX-License-Identifier: Apache-2.0
// What holds of every block that decodes, written afresh from docs/protocol.md with wide
// arithmetic.
#pragma once

#include <algorithm>
#include <cstdint>

#include <dek/codec.h>

namespace sample {

using Wide = unsigned __int128;
constexpr Wide limit = ~std::uint64_t{0}; // ends of ranges and logical LBAs

// [p, p + n) lies in the block's body.
inline bool inside(const std::uint8_t* block, const void* p, std::size_t n) {
    auto at = static_cast<const std::uint8_t*>(p) - block;
    return at >= static_cast<std::ptrdiff_t>(DEK_BODY_FIRST) &&
           static_cast<std::size_t>(at) + n <= DEK_BLOCK_SIZE;
}

inline Wide logical(const dek_geometry& g, std::uint64_t lba) {
    Wide p = lba - g.device_origin;
    if (g.chunk == 0)
        return g.logical_origin + p;
    return g.logical_origin + (p / g.chunk * g.stripes + g.leg) * g.chunk + p % g.chunk;
}

inline bool map_holds(const std::uint8_t* block, const dek_command& c, std::uint64_t unit) {
    Wide end = 0;
    if (c.map_count < 1 || c.map_count > 60 || !inside(block, c.map, c.map_count * 16))
        return false;
    for (std::uint32_t i = 0; i < c.map_count; i++) {
        dek_range r = dek_command_range(&c, i);
        if (r.count == 0 || r.first < end || r.first % unit || r.count % unit)
            return false;
        end = Wide{r.first} + r.count;
        if (end > limit)
            return false;
    }
    return true;
}

inline bool text_holds(const void* text, std::size_t n) {
    auto p = static_cast<const std::uint8_t*>(text);
    return n && std::all_of(p, p + n, [](int b) { return b >= 0x20 && b < 0x7f; });
}

inline bool blob_holds(const std::uint8_t* block, const dek_blob& b) {
    if (!inside(block, b.key_data, 64) || b.algorithm != 1 || b.mode != 1)
        return false;
    auto empty_from = [&](int i) {
        return std::all_of(b.key_data + i, b.key_data + 64, [](int x) { return !x; });
    };
    if (b.type == DEK_BLOB_KEYRING)
        return b.key_length <= 64 && text_holds(b.key_data, b.key_length) &&
               empty_from(b.key_length);
    if (b.key_length != 32 && b.key_length != 64)
        return false;
    if (b.type == DEK_BLOB_WRAPPED)
        return inside(block, b.nonce, 12) && inside(block, b.tag, 16) &&
               inside(block, b.kek_name, b.kek_name_length) &&
               text_holds(b.kek_name, b.kek_name_length);
    int half = b.key_length / 2;
    return b.type == DEK_BLOB_UNWRAPPED &&
           !std::equal(b.key_data, b.key_data + half, b.key_data + half) &&
           empty_from(b.key_length) && !(b.key_length == 64 && empty_from(32));
}

inline bool geometry_holds(const dek_command& c) {
    const dek_geometry& g = c.geometry;
    bool unit =
        g.data_unit == 512 || g.data_unit == 1024 || g.data_unit == 2048 || g.data_unit == 4096;
    bool shape = g.chunk ? g.leg < g.stripes : !g.stripes && !g.leg;
    dek_range last = dek_command_range(&c, c.map_count - 1);
    return unit && g.tweak_rule <= 1 && shape &&
           dek_command_range(&c, 0).first >= g.device_origin &&
           logical(g, last.first + last.count - 1) < limit;
}

inline bool holds(const std::uint8_t* block, const dek_command& c) {
    if (c.version == 0 || (c.opcode != DEK_OP_HANDSHAKE && c.version != 1))
        return false;
    switch (c.opcode) {
    case DEK_OP_HANDSHAKE:
        return std::find(block + 48, block + 304, 0) != block + 304;
    case DEK_OP_QUERY:
        return map_holds(block, c, 1);
    case DEK_OP_DISASSOCIATE:
        return true;
    case DEK_OP_ASSOCIATE:
    case DEK_OP_UPDATE:
        return c.key_id_length >= 1 && c.key_id_length <= 64 &&
               inside(block, c.key_id, c.key_id_length) &&
               map_holds(block, c, std::max(c.geometry.data_unit, 512u) / 512) &&
               geometry_holds(c) && (!c.blob.present || blob_holds(block, c.blob));
    }
    return false;
}

} // namespace sample
