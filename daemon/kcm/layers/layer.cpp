// SPDX-License-Identifier: Apache-2.0
// What every command has in common, and those that change nothing: Handshake and Query.
#include "kcm/layers/layer.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/secret.h"
#include "kcm/layers/merge.h"

namespace dek::kcm::layers {
namespace {

std::uint64_t random_id() {
    std::uint64_t id = 0;
    while (id == 0)
        std::memcpy(&id, Secret::random(sizeof id).bytes().data(), sizeof id);
    return id;
}

dek_wire_header* header_of(std::uint8_t* block) {
    return reinterpret_cast<dek_wire_header*>(block);
}

dek_status named(std::uint32_t status) {
    return status < DEK_STATUS_COUNT ? static_cast<dek_status>(status) : DEK_INVALID_HW_STATE;
}

} // namespace

Layer::Layer(Shared& shared, std::size_t self) : shared_(&shared), self_(self) {}

dek_status Layer::remark(dek_status status, const std::string& what) {
    shared_->remark(self_, status, what);
    return status;
}

void Layer::renumber(std::size_t self, const std::vector<std::size_t>& index) {
    self_ = self;
    const auto move = [&](std::vector<Part>& parts) {
        std::erase_if(parts, [&](const Part& p) { return index[p.device] == SIZE_MAX; });
        for (auto& part : parts)
            part.device = index[part.device];
    };
    for (auto& [name, view] : views_) {
        std::map<std::size_t, std::uint64_t> below;
        for (const auto& [child, id] : view.below)
            if (index[child] != SIZE_MAX)
                below[index[child]] = id;
        view.below = std::move(below);
    }
    for (auto& [handle, association] : associations_)
        move(association.parts);
    move(orphans_);
}

// Each device beneath once, in the order of the legs; failed paths left out.
std::vector<std::size_t> Layer::children() const {
    std::vector<std::size_t> all;
    for (const auto& leg : device().legs)
        if (leg.may_carry_io() && std::find(all.begin(), all.end(), leg.device) == all.end())
            all.push_back(leg.device);
    return all;
}

// Sends scratch_ and reads the answer in it; `handle`: that of a successful Associate.
dek_status Layer::exchange(std::size_t child, std::uint64_t* handle) {
    const auto opcode = dek_get_le32(&header_of(scratch_.data())->opcode);
    const auto controller_handle = dek_get_le64(&header_of(scratch_.data())->controller_handle);
    shared_->nodes[child]->answer(scratch_.bytes());
    dek_command answer;
    dek_status status = dek_block_decode(scratch_.data(), &answer);
    if (status != DEK_BAD_SIGNATURE && status != DEK_BAD_CHECKSUM) {
        if (answer.opcode != opcode || answer.controller_handle != controller_handle)
            status = DEK_MALFORMED;
        else if (answer.status != DEK_OK)
            status = named(answer.status);
    }
    if (status == DEK_OK && handle)
        *handle = answer.association;
    if (status != DEK_OK && status != DEK_UNKNOWN_ENDPOINT && shared_->stack[child].leaf())
        shared_->remark(child, status,
                        std::string("answers ") + dek_status_text(status) + " to " +
                            dek_opcode_text(opcode));
    return status;
}

// A handshake of the layer's own, with a device that it does not know yet.
bool Layer::greet(View& view, std::size_t child) {
    const auto random = Secret::random(DEK_RANDOM1_SIZE + DEK_RANDOM2_SIZE);
    dek_block_begin(saved_.data(), DEK_OP_HANDSHAKE, 0, next_controller_handle());
    dek_block_handshake(saved_.data(), view.class_name.c_str(), random.bytes().data());
    dek_block_seal(saved_.data());
    std::copy_n(saved_.data(), DEK_BLOCK_SIZE, scratch_.data());
    shared_->nodes[child]->answer(scratch_.bytes());
    if (!dek_handshake_affirmative(saved_.data(), scratch_.data()))
        return false;
    if (dek_get_le32(&header_of(scratch_.data())->version) < shared_->options.needs_version)
        return false;
    view.below[child] = dek_get_le64(&header_of(scratch_.data())->endpoint_id);
    return true;
}

// 0: nobody there.
std::uint64_t Layer::id_of(View& view, std::size_t child) {
    if (!view.below.contains(child) && !greet(view, child))
        return 0;
    return view.below[child];
}

dek_status Layer::no_endpoint(const View& view, std::size_t child) {
    const Device& d = shared_->stack[child];
    if (d.leaf())
        shared_->remark(child, DEK_NOT_CAPABLE,
                        d.obstacle.empty() ? "has no endpoint of class " + view.class_name
                                           : d.obstacle);
    return DEK_NOT_CAPABLE;
}

// send(id), once more if the device began a new life since the layer last met it.
dek_status Layer::with_id(View& view, std::size_t child, const Send& send) {
    for (int lives = 0; lives < 2; lives++) {
        const auto id = id_of(view, child);
        if (id == 0)
            break;
        const dek_status status = send(id);
        if (status != DEK_UNKNOWN_ENDPOINT)
            return status;
        view.below.erase(child);
    }
    return no_endpoint(view, child);
}

dek_status Layer::send_query(View& view, std::size_t child, const LunMap& map) {
    for (const auto& ranges : map.blocks()) {
        const auto status = with_id(view, child, [&](std::uint64_t id) {
            dek_block_begin(scratch_.data(), DEK_OP_QUERY, id, next_controller_handle());
            dek_block_query(scratch_.data(), ranges.data(), static_cast<__u32>(ranges.size()));
            dek_block_seal(scratch_.data());
            return exchange(child);
        });
        if (status != DEK_OK)
            return status;
    }
    return DEK_OK;
}

dek_status Layer::send_association(std::uint32_t opcode, const dek_command& like, std::uint64_t id,
                                   const Part& part, std::uint64_t* handle) {
    dek_block_begin(scratch_.data(), opcode, id, next_controller_handle());
    dek_status status =
        dek_block_associate(scratch_.data(), part.handle, like.blob.present ? &like.blob : nullptr,
                            like.key_id, like.key_id_length, &part.geometry,
                            part.map.ranges().data(), static_cast<__u32>(part.map.size()));
    if (status == DEK_OK) {
        dek_block_seal(scratch_.data());
        status = exchange(part.device, handle);
    }
    scratch_.wipe();
    return status;
}

dek_status Layer::send_disassociate(const Part& part) {
    dek_block_begin(scratch_.data(), DEK_OP_DISASSOCIATE, part.life, next_controller_handle());
    dek_block_disassociate(scratch_.data(), part.handle);
    dek_block_seal(scratch_.data());
    const dek_status status = exchange(part.device);
    // A new life holds nothing of the old one.
    return status == DEK_UNKNOWN_ENDPOINT || status == DEK_UNKNOWN_HANDLE ? DEK_OK : status;
}

// Sends saved_ to every device beneath. The block of the first that affirms stays in scratch_.
dek_status Layer::hear_all(std::uint32_t& version, bool& heard) {
    dek_command command;
    dek_block_decode(saved_.data(), &command);
    View& view = views_[command.class_name];
    view.class_name = command.class_name;
    std::array<std::uint8_t, DEK_BLOCK_SIZE> chosen{};
    dek_status refused = DEK_OK;
    version = command.version;
    for (const auto child : children()) {
        std::copy_n(saved_.data(), DEK_BLOCK_SIZE, scratch_.data());
        shared_->nodes[child]->answer(scratch_.bytes());
        if (!dek_handshake_affirmative(saved_.data(), scratch_.data())) {
            dek_command answer;
            const auto status = dek_block_decode(scratch_.data(), &answer);
            refused = worse(refused, status != DEK_OK ? status : named(answer.status));
            continue;
        }
        const auto* h = header_of(scratch_.data());
        version = std::min(version, dek_get_le32(&h->version));
        view.below[child] = dek_get_le64(&h->endpoint_id);
        if (!heard)
            std::copy_n(scratch_.data(), DEK_BLOCK_SIZE, chosen.data());
        heard = true;
    }
    std::copy(chosen.begin(), chosen.end(), scratch_.data());
    return refused;
}

void Layer::handshake(Block block, const dek_command& command) {
    std::copy_n(block.data(), DEK_BLOCK_SIZE, saved_.data());
    const std::string class_name = command.class_name;
    std::uint32_t version = 0;
    bool heard = false;
    const dek_status refused = hear_all(version, heard);
    View& view = views_[class_name];
    if (!heard) {
        if (view.id == 0) // nobody of this class was ever met
            views_.erase(class_name);
        return dek_block_answer(block.data(), refused == DEK_OK ? DEK_UNKNOWN_ENDPOINT : refused);
    }
    if (version < shared_->options.needs_version)
        return dek_block_answer(
            block.data(),
            remark(DEK_BAD_VERSION,
                   "needs version " + std::to_string(shared_->options.needs_version) +
                       " of the protocol, and beneath it there is " + std::to_string(version)));
    if (shared_->options.strict_handshake && refused != DEK_OK)
        return dek_block_answer(block.data(),
                                remark(refused, "has a device beneath it without an endpoint"));
    if (view.id == 0)
        view.id = random_id();
    std::copy_n(scratch_.data(), DEK_BLOCK_SIZE, block.data());
    dek_put_le32(&header_of(block.data())->version, version);
    dek_put_le64(&header_of(block.data())->endpoint_id, view.id);
    dek_block_seal(block.data());
}

// For somebody beneath: as it is, to each in turn, until one knows the endpoint ID.
void Layer::forward(Block block) {
    for (const auto child : children()) {
        std::copy_n(block.data(), DEK_BLOCK_SIZE, scratch_.data());
        shared_->nodes[child]->answer(scratch_.bytes());
        const auto status = dek_get_le32(&header_of(scratch_.data())->status);
        if (status == DEK_UNKNOWN_ENDPOINT)
            continue;
        std::copy_n(scratch_.data(), DEK_BLOCK_SIZE, block.data());
        return scratch_.wipe();
    }
    scratch_.wipe();
    dek_block_answer(block.data(), DEK_UNKNOWN_ENDPOINT);
}

dek_status Layer::check_map(const dek_command& command, LunMap& map) {
    std::vector<dek_range> ranges;
    for (std::uint32_t i = 0; i < command.map_count; i++)
        ranges.push_back(dek_command_range(&command, i));
    auto valid = LunMap::from(std::move(ranges));
    if (!valid || valid->fits(device().size, 0) != DEK_OK)
        return remark(DEK_INVALID_RANGE,
                      "has " + std::to_string(device().size) + " LBAs, and more are asked for");
    map = valid->merged();
    if (!device().obstacle.empty())
        return remark(DEK_NOT_CAPABLE, device().obstacle);
    return DEK_OK;
}

dek_status Layer::ask_legs(View& view, const LunMap& map) {
    const auto maps = spread(device(), map);
    std::map<std::size_t, LunMap> asked;
    for (std::size_t i = 0; i < maps.size(); i++)
        if (device().legs[i].may_carry_io() && !maps[i].empty())
            asked[device().legs[i].device] = asked[device().legs[i].device].unite(maps[i]);
    dek_status refused = DEK_OK;
    std::size_t affirmed = 0;
    for (const auto& [child, ranges] : asked) {
        const dek_status status = send_query(view, child, ranges);
        refused = worse(refused, status);
        affirmed += status == DEK_OK;
    }
    if (asked.empty())
        return remark(DEK_INVALID_HW_STATE, "has no path left");
    return device().any_leg_serves() && affirmed ? DEK_OK : refused;
}

dek_status Layer::query(View& view, const dek_command& command) {
    LunMap map;
    if (const auto status = check_map(command, map); status != DEK_OK)
        return status;
    return ask_legs(view, map);
}

void Layer::answer(Block block) {
    dek_command command;
    dek_status status = dek_block_decode(block.data(), &command);
    if (status != DEK_OK)
        return dek_block_answer(block.data(), status);
    if (command.opcode == DEK_OP_HANDSHAKE)
        return handshake(block, command);
    const auto view = std::find_if(views_.begin(), views_.end(), [&](const auto& v) {
        return v.second.id != 0 && v.second.id == command.endpoint_id;
    });
    if (view == views_.end())
        return forward(block);
    std::uint64_t handle = command.association;
    if (command.opcode == DEK_OP_QUERY)
        status = query(view->second, command);
    else if (command.opcode == DEK_OP_DISASSOCIATE)
        status = disassociate(view->second, handle);
    else if (command.opcode == DEK_OP_UPDATE)
        status = update(view->second, command);
    else if (command.association)
        status = refresh(view->second, command);
    else
        status = associate(view->second, command, handle);
    if (status == DEK_OK && command.opcode == DEK_OP_ASSOCIATE)
        dek_put_le64(&reinterpret_cast<dek_wire_associate*>(block.data())->association, handle);
    dek_block_answer(block.data(), status);
}

} // namespace dek::kcm::layers
