// SPDX-License-Identifier: Apache-2.0
// Associate, refresh, Update and Disassociate, as far as they are the layer's own.
#include "kcm/layers/layer.h"

#include <algorithm>

#include "kcm/layers/merge.h"

namespace dek::kcm::layers {
namespace {

constexpr std::size_t max_associations = 1u << 16; // of one layer

std::string key_id_of(const dek_command& command) {
    return {reinterpret_cast<const char*>(command.key_id), command.key_id_length};
}

// Legs that share a geometry on one device are one part.
void add_part(std::vector<Part>& parts, std::size_t child, const Piece& piece) {
    for (auto& part : parts)
        if (part.device == child && same_geometry(part.geometry, piece.geometry)) {
            part.map = part.map.unite(piece.map);
            return;
        }
    parts.push_back({child, piece.geometry, piece.map.merged(), 0, 0});
}

} // namespace

Layer::Association* Layer::find(const View& view, std::uint64_t handle) {
    const auto found = associations_.find(handle);
    return found != associations_.end() && found->second.view == &view ? &found->second : nullptr;
}

bool Layer::may_carry_io(std::size_t child) const {
    const auto& legs = device().legs;
    return std::any_of(legs.begin(), legs.end(),
                       [&](const Leg& leg) { return leg.device == child && leg.may_carry_io(); });
}

bool Layer::overlaps_another(const View& view, const LunMap& map, const Association* self) const {
    return std::any_of(associations_.begin(), associations_.end(), [&](const auto& entry) {
        const Association& a = entry.second;
        return &a != self && a.view == &view && !a.map.intersect(map).empty();
    });
}

dek_status Layer::remark_unfenced(std::size_t leaf) {
    return remark(DEK_NOT_CAPABLE,
                  "has a way to its data that no fence is on: " + title(shared_->stack[leaf]) +
                      " would let it pass unencrypted");
}

// The legs that matter: all, or, where one that can is enough, those that hold the association
// already and those that affirm a Query now. None, whether it matters or not, may let I/O pass that
// is not encrypted.
dek_status Layer::choose(View& view, const LunMap& map, const Association* old,
                         std::vector<bool>& chosen) {
    const auto& legs = device().legs;
    chosen.assign(legs.size(), !device().any_leg_serves());
    if (!device().any_leg_serves())
        return DEK_OK;
    const auto maps = spread(device(), map);
    dek_status refused = DEK_OK;
    for (std::size_t i = 0; i < legs.size(); i++) {
        if (!legs[i].may_carry_io())
            continue;
        if (const auto leaf = find_unfenced(shared_->stack, legs[i].device, maps[i]);
            leaf != SIZE_MAX)
            return remark_unfenced(leaf);
        const auto holds = [&](const Part& p) { return p.held() && p.device == legs[i].device; };
        const bool held = old && std::any_of(old->parts.begin(), old->parts.end(), holds);
        const auto status = held ? DEK_OK : send_query(view, legs[i].device, maps[i]);
        chosen[i] = status == DEK_OK;
        refused = worse(refused, status);
    }
    if (std::find(chosen.begin(), chosen.end(), true) != chosen.end())
        return DEK_OK;
    return refused != DEK_OK ? refused : remark(DEK_INVALID_HW_STATE, "has no path left");
}

dek_status Layer::prepare(View& view, const dek_command& command, const Association* old,
                          Request& request) {
    request.command = &command;
    request.view = &view;
    if (const auto status = check_map(command, request.map); status != DEK_OK)
        return status;
    if (command.blob.present && command.blob.type == DEK_BLOB_WRAPPED)
        return remark(DEK_NOT_CAPABLE, "cannot pass on a key that is wrapped for one endpoint");
    if (overlaps_another(view, request.map, old))
        return remark(DEK_INVALID_RANGE, "has another association that overlaps");
    const auto pieces = place(device(), request.map, command.geometry);
    if (!pieces)
        return remark(DEK_NOT_CAPABLE, pieces.error().why);
    std::vector<bool> chosen;
    if (const auto status = choose(view, request.map, old, chosen); status != DEK_OK)
        return status;
    for (const auto& piece : *pieces)
        if (chosen[piece.leg])
            add_part(request.wanted, device().legs[piece.leg].device, piece);
    request.capacity = dek_associate_capacity(command.blob.present ? &command.blob : nullptr,
                                              command.key_id_length);
    return DEK_OK;
}

dek_status Layer::associate(View& view, const dek_command& command, std::uint64_t& handle) {
    if (const auto status = clear_orphans(); status != DEK_OK)
        return status;
    if (associations_.size() >= max_associations)
        return DEK_ASSOCIATION_OVERFLOW;
    Request request{};
    if (const auto status = prepare(view, command, nullptr, request); status != DEK_OK)
        return status;
    Association a{&view, key_id_of(command), command.geometry, request.map, {}};
    if (const auto status = reconcile(request, a, false); status != DEK_OK)
        return status;
    handle = ++last_handle_;
    associations_.emplace(handle, std::move(a));
    return DEK_OK;
}

// Every leg that holds it says whether it is still so. One that lost it in a new life is to be
// associated anew. Where one leg is enough, others that cannot say keep what they have: it is what
// is asked for, or fenced. `silent`: what those answered, if none has confirmed.
dek_status Layer::confirm(const dek_command& command, Association& a, dek_status& silent) {
    dek_status refused = DEK_OK;
    bool confirmed = false;
    silent = DEK_OK;
    for (auto& part : a.parts) {
        if (!part.held() || !may_carry_io(part.device))
            continue;
        const auto status = send_association(DEK_OP_ASSOCIATE, command, part.life, part, nullptr);
        confirmed = confirmed || status == DEK_OK;
        if (status == DEK_UNKNOWN_ENDPOINT || status == DEK_UNKNOWN_HANDLE)
            part.handle = 0;
        else if (device().any_leg_serves() && is_of_the_leg(status))
            silent = worse(silent, status);
        else
            refused = worse(refused, status);
    }
    if (confirmed)
        silent = DEK_OK;
    return refused;
}

dek_status Layer::refresh(View& view, const dek_command& command) {
    Association* a = find(view, command.association);
    if (!a)
        return DEK_UNKNOWN_HANDLE;
    if (const auto status = clear_orphans(); status != DEK_OK)
        return status;
    LunMap map;
    if (const auto status = check_map(command, map); status != DEK_OK)
        return status;
    if (!(map == a->map) || a->key_id != key_id_of(command) ||
        !same_geometry(a->geometry, command.geometry))
        return DEK_ASSOCIATION_EXISTS;
    dek_status silent = DEK_OK;
    if (const auto status = confirm(command, *a, silent); status != DEK_OK)
        return status;
    const auto held = [&] {
        return std::count_if(a->parts.begin(), a->parts.end(), [&](const Part& part) {
            return part.held() && may_carry_io(part.device);
        });
    };
    const auto before = held();
    Request request{};
    if (const auto status = prepare(view, command, a, request); status != DEK_OK)
        return status;
    if (const auto status = reconcile(request, *a, false); status != DEK_OK)
        return status;
    return held() > before ? DEK_OK : silent;
}

dek_status Layer::update(View& view, const dek_command& command) {
    Association* a = find(view, command.association);
    if (!a)
        return DEK_UNKNOWN_HANDLE;
    if (const auto status = clear_orphans(); status != DEK_OK)
        return status;
    Request request{};
    if (const auto status = prepare(view, command, a, request); status != DEK_OK)
        return status;
    // A path that has failed must not come back with what was before.
    for (auto& part : a->parts)
        if (!may_carry_io(part.device))
            let_go(part);
    if (const auto status = reconcile(request, *a, true); status != DEK_OK)
        return status;
    a->key_id = key_id_of(command);
    a->geometry = command.geometry;
    a->map = request.map;
    return DEK_OK;
}

dek_status Layer::disassociate(View& view, std::uint64_t handle) {
    Association* a = find(view, handle);
    if (!a)
        return DEK_UNKNOWN_HANDLE;
    dek_status refused = clear_orphans();
    for (auto& part : a->parts) {
        if (!part.held())
            continue;
        if (!may_carry_io(part.device)) {
            let_go(part);
            continue;
        }
        const auto status = send_disassociate(part);
        if (status == DEK_OK)
            part.handle = 0;
        refused = worse(refused, status);
    }
    if (refused == DEK_OK)
        associations_.erase(handle);
    return refused;
}

} // namespace dek::kcm::layers
