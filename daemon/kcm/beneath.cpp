// SPDX-License-Identifier: Apache-2.0
#include "kcm/beneath.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "kcm/cover.h"
#include "kcm/device_lbas.h"
#include "kcm/layers/initiator.h"
#include "kcm/shim_port.h"

namespace dek::kcm {
namespace {

bool is_of(const volume::Header& header, const dek_association_entry& a) {
    const auto id = key_id_of(a);
    return std::any_of(header.keys.begin(), header.keys.end(),
                       [&](const auto& key) { return key.id == id; });
}

bool is_path(const layers::Stack& stack, std::size_t device) {
    for (const auto& d : stack.devices)
        for (const auto& leg : d.legs)
            if (d.kind == layers::Kind::multipath && leg.device == device)
                return true;
    return false;
}

LunMap one(const dek_range_entry& r) {
    return LunMap::from({{r.first, r.count}}).value();
}

} // namespace

std::vector<Beneath::Leg> Beneath::legs() const {
    std::vector<Leg> all;
    if (!survey_)
        return all;
    for (const auto& m : survey_->decision.maps) {
        const auto& device = survey_->stack[m.device];
        if (auto uuid = volume::uuid_of(device.uuid))
            all.push_back({*uuid, m.map, device.name, is_path(survey_->stack, m.device)});
    }
    return all;
}

// What has gone holds nothing any more.
Result<std::vector<Beneath::Leg>> Beneath::legs_there() {
    auto all = legs();
    std::vector<Leg> there;
    for (auto& leg : all) {
        const auto found = shim_->find(leg.uuid);
        if (!found)
            return tl::unexpected(found.error());
        if (*found)
            there.push_back(std::move(leg));
    }
    return there;
}

Result<layers::Tree> Beneath::tree() {
    return layers::Tree::make(survey_->stack,
                              [this](const layers::Device& leaf) -> std::shared_ptr<layers::Port> {
                                  auto uuid = volume::uuid_of(leaf.uuid);
                                  return uuid ? std::make_shared<ShimPort>(*shim_, *uuid) : nullptr;
                              });
}

Result<void> Beneath::query() {
    auto top = tree();
    if (!top)
        return tl::unexpected(top.error());
    layers::Initiator talk(*top);
    if (auto r = talk.handshake(); !r)
        return r;
    return talk.query(encrypted_device_map(*header_));
}

// What a mirror copies where a leg lets ciphertext pass would be encrypted once more on its way.
Result<void> Beneath::check_no_ciphertext_moves() {
    for (const auto& device : survey_->stack.devices) {
        if (!device.copying)
            continue;
        for (const auto& leg : legs()) {
            const auto ranges = shim_->ranges(leg.uuid);
            if (!ranges)
                return tl::unexpected(ranges.error());
            for (const auto& r : *ranges)
                if (r.state == DEK_RANGE_YIELDED && !leg.map.intersect(one(r)).empty())
                    return fail(Errc::busy, title(device) + " is copying ciphertext");
        }
    }
    return {};
}

Result<void> Beneath::encrypt(const KeyFinder& find_key) {
    if (auto r = check_no_ciphertext_moves(); !r)
        return r;
    for (const auto& leg : legs())
        if (auto r = cover(*shim_, leg.uuid, leg.map); !r)
            return fail(r.error().code, leg.name + ": " + r.error().reason);
    auto top = tree();
    if (!top)
        return tl::unexpected(top.error());
    layers::Initiator talk(*top);
    if (auto r = talk.handshake(); !r)
        return r;
    for (std::size_t i = 0; i < header_->keys.size(); i++) {
        const LunMap map = device_map_of_key(*header_, i);
        if (map.empty())
            continue;
        if (auto r = talk.query(map); !r)
            return r;
        auto key = find_key(header_->keys[i]);
        if (!key)
            return tl::unexpected(key.error());
        Secret padded(DEK_KEY_DATA_SIZE);
        const dek_blob blob = blob_of(*key, padded);
        if (auto r = talk.associate(map, {header_->keys[i].id, &blob, tweak_geometry(*header_)});
            !r)
            return tl::unexpected(r.error());
    }
    return {};
}

// Whatever is keyed on the leg for this volume, whoever it was that asked for it.
Result<bool> Beneath::let_go(const Leg& leg) {
    auto associations = shim_->associations(leg.uuid);
    auto ranges = shim_->ranges(leg.uuid);
    if (!associations || !ranges)
        return tl::unexpected(associations ? ranges.error() : associations.error());
    std::set<std::uint64_t> handles;
    for (const auto& r : *ranges)
        if (r.state == DEK_RANGE_KEYED && !leg.map.intersect(one(r)).empty())
            handles.insert(r.association);
    std::optional<Negotiation> talk;
    for (const auto& a : *associations) {
        if (!handles.contains(a.handle) || !is_of(*header_, a))
            continue;
        if (!talk) {
            auto begun = Negotiation::begin(*shim_, leg.uuid);
            if (!begun)
                return tl::unexpected(begun.error());
            talk = std::move(*begun);
        }
        if (auto r = talk->disassociate(a.handle); !r)
            return tl::unexpected(r.error());
    }
    return talk.has_value();
}

Result<bool> Beneath::lets_pass(const Leg& leg) {
    auto ranges = shim_->ranges(leg.uuid);
    if (!ranges)
        return tl::unexpected(ranges.error());
    return std::none_of(ranges->begin(), ranges->end(), [&](const auto& r) {
        return (r.state == DEK_RANGE_KEYED || r.state == DEK_RANGE_FENCED) &&
               !leg.map.intersect(one(r)).empty();
    });
}

Result<void> Beneath::check_nothing_waits(const Leg& leg) {
    const auto stats = shim_->stats(leg.uuid);
    if (!stats)
        return tl::unexpected(stats.error());
    return stats->waiting == 0 ? Result<void>()
                               : fail(Errc::busy, "holds requests that were to be encrypted there");
}

// What waits at a leg that is to let pass from now on may be plaintext. It waits there, too, while
// only a hold is in the way of ciphertext: then all of the leg lets pass already.
Result<void> Beneath::fence_all(const std::vector<Leg>& legs) {
    for (const auto& leg : legs) {
        const auto passes = lets_pass(leg);
        const auto keyed = passes ? let_go(leg) : tl::unexpected(passes.error());
        const auto done = !keyed    ? Result<void>(tl::unexpected(keyed.error()))
                          : *passes ? Result<void>()
                                    : check_nothing_waits(leg);
        if (!done)
            return fail(done.error().code, leg.name + ": " + done.error().reason);
    }
    return {};
}

// All are fenced before the first one lets anything pass.
Result<void> Beneath::yield() {
    const auto all = legs();
    if (auto r = fence_all(all); !r)
        return r;
    for (const auto& leg : all)
        if (auto r = cover_yielded(*shim_, leg.uuid, leg.map); !r)
            return fail(r.error().code, leg.name + ": " + r.error().reason);
    return {};
}

Result<void> Beneath::leave(const std::function<bool(const Uuid& leg)>& stays_fenced) {
    auto known = legs_there();
    if (!known)
        return tl::unexpected(known.error());
    const auto& all = *known;
    for (const auto& device : survey_ ? survey_->stack.devices : std::vector<layers::Device>())
        for (const auto& leg : all)
            if (device.copying && !lets_pass(leg).value_or(false))
                return fail(Errc::busy, title(device) + " is copying: legs keep their keys");
    if (auto r = fence_all(all); !r)
        return r;
    for (const auto& leg : all) {
        if (stays_fenced && stays_fenced(leg.uuid))
            continue;
        if (auto r = uncover(*shim_, leg.uuid, leg.map); !r)
            return fail(r.error().code, leg.name + ": " + r.error().reason);
    }
    return {};
}

Result<LunMap> Beneath::uncovered(const Leg& leg) {
    auto ranges = shim_->ranges(leg.uuid);
    if (!ranges)
        return tl::unexpected(ranges.error());
    LunMap left = leg.map;
    for (const auto& r : *ranges)
        if (r.state != DEK_RANGE_PLAIN && r.state != DEK_RANGE_RESERVED)
            left = left.subtract(one(r));
    return left;
}

Result<LunMap> Beneath::strays() {
    LunMap all;
    for (const auto& leg : legs()) {
        const auto left = leg.path ? Result<LunMap>(LunMap()) : uncovered(leg);
        if (!left)
            return left;
        all = all.unite(*left);
    }
    return all;
}

Result<void> Beneath::fence_strays() {
    for (const auto& leg : legs()) {
        const auto left = uncovered(leg);
        const auto done = left ? cover(*shim_, leg.uuid, *left) : tl::unexpected(left.error());
        if (!done)
            return done;
    }
    return {};
}

} // namespace dek::kcm
