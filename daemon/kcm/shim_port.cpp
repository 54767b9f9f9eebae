// SPDX-License-Identifier: Apache-2.0
#include "kcm/shim_port.h"

#include <cstring>
#include <map>

#include <dek/block.hpp>

#include "kcm/hold.h"

namespace dek::kcm {

// An Associate of something new, as it was sent. The block may hold a key.
struct ShimPort::Wanted {
    CommandBlock block;
    std::uint64_t endpoint_id = 0;
    std::string key_id;
    __u8 app_info[DEK_APP_INFO_SIZE] = {};
    LunMap map;

    // False: it is something else.
    bool read() {
        const auto command = std::as_const(block).decode();
        if (!command || command->opcode != DEK_OP_ASSOCIATE || command->association != 0)
            return false;
        endpoint_id = command->endpoint_id;
        key_id.assign(reinterpret_cast<const char*>(command->key_id), command->key_id_length);
        dek_app_info_put(app_info, &command->geometry);
        std::vector<dek_range> ranges;
        for (__u32 i = 0; i < command->map_count; i++)
            ranges.push_back(dek_command_range(&*command, i));
        map = LunMap::from(std::move(ranges)).value();
        return true;
    }
    bool has_key_of(const dek_association_entry& a) const { return key_id_of(a) == key_id; }
};

namespace {

dek_status status_of(layers::Block block) {
    return static_cast<dek_status>(dek_get_le32(block.data() + offsetof(dek_wire_header, status)));
}

// By handle; neighbours joined.
Result<std::map<std::uint64_t, LunMap>> keyed_maps(Shim& shim, const Uuid& uuid) {
    auto ranges = shim.ranges(uuid);
    if (!ranges)
        return tl::unexpected(ranges.error());
    std::map<std::uint64_t, LunMap> maps;
    for (const auto& r : *ranges)
        if (r.state == DEK_RANGE_KEYED)
            maps[r.association] =
                maps[r.association].unite(LunMap::from({{r.first, r.count}}).value());
    return maps;
}

} // namespace

Result<void> ShimPort::send(layers::Block block) {
    Wanted wanted{CommandBlock(block), 0, {}, {}, {}};
    const bool fresh = wanted.read();
    if (auto r = shim_->command(uuid_, block); !r)
        return r;
    if (!fresh || status_of(block) != DEK_INVALID_RANGE)
        return {};
    return take_over(wanted, block);
}

Result<void> ShimPort::take_over(const Wanted& wanted, layers::Block block) {
    auto associations = shim_->associations(uuid_);
    auto maps = keyed_maps(*shim_, uuid_);
    if (!associations || !maps)
        return tl::unexpected(associations ? maps.error() : associations.error());
    std::vector<std::uint64_t> stale;
    for (const auto& a : *associations) {
        const auto& held = (*maps)[a.handle];
        if (a.draining || held.intersect(wanted.map).empty())
            continue;
        if (!wanted.has_key_of(a))
            return {}; // somebody else's: the answer stands
        if (std::memcmp(a.app_info, wanted.app_info, DEK_APP_INFO_SIZE) == 0 &&
            held == wanted.map.merged()) {
            return send_for(wanted, DEK_OP_ASSOCIATE, a.handle, block);
        }
        stale.push_back(a.handle);
    }
    return stale.empty() ? Result<void>() : replace(wanted, stale, block);
}

// An Associate's refresh or an Update, which have one layout, of what is there.
Result<void> ShimPort::send_for(const Wanted& wanted, dek_opcode opcode, std::uint64_t handle,
                                layers::Block block) {
    std::copy(wanted.block.bytes().begin(), wanted.block.bytes().end(), block.begin());
    dek_put_le32(block.data() + offsetof(dek_wire_header, opcode), opcode);
    dek_put_le64(block.data() + offsetof(dek_wire_associate, association), handle);
    dek_block_seal(block.data());
    return shim_->command(uuid_, block);
}

Result<void> ShimPort::replace(const Wanted& wanted, const std::vector<std::uint64_t>& stale,
                               layers::Block block) {
    if (stale.size() == 1) {
        if (auto r = send_for(wanted, DEK_OP_UPDATE, stale[0], block); !r)
            return r;
        const auto status = status_of(block);
        if (status == DEK_OK)
            return send_for(wanted, DEK_OP_ASSOCIATE, stale[0], block);
        if (status != DEK_NO_MEMORY && status != DEK_ASSOCIATION_OVERFLOW)
            return {}; // the old one is as it was: better than none
    }
    auto hold = Hold::whole(*shim_, uuid_);
    if (!hold)
        return tl::unexpected(hold.error());
    for (const auto handle : stale) {
        auto command = CommandBlock::disassociate({wanted.endpoint_id, 1}, handle);
        if (auto r = shim_->command(uuid_, command->bytes()); !r)
            return r;
    }
    std::copy(wanted.block.bytes().begin(), wanted.block.bytes().end(), block.begin());
    return shim_->command(uuid_, block);
}

} // namespace dek::kcm
