// SPDX-License-Identifier: Apache-2.0
#include "kcm/legs.h"

#include <algorithm>
#include <fstream>

#include "base/log.h"

namespace dek::kcm {
namespace {

constexpr std::chrono::milliseconds at_once{0};
constexpr std::chrono::milliseconds udev_patience{2000}; // it may be having a look

void keep_first(Result<void>& first, Result<void> r) {
    if (first && !r)
        first = std::move(r);
}

} // namespace

Legs::Legs(LegParts parts) : parts_(std::move(parts)), files_(parts_.state_dir) {}
Legs::~Legs() = default;

// No endpoint twice, whoever copied a file.
std::vector<Leg> Legs::configured() const {
    auto legs = files_.legs();
    std::set<Uuid> seen;
    std::erase_if(legs, [&](const Leg& leg) { return !seen.insert(leg.uuid).second; });
    return legs;
}

void Legs::tell_once(const std::string& about, const std::string& sentence) {
    auto& told = told_[about];
    if (told == sentence)
        return;
    told = sentence;
    log(Level::warning, "endpoint-not-made", {{"name", about}, {"why", sentence}});
}

// Beneath legs, whether they are configured or not.
std::set<dev_t> Legs::taken() const {
    std::set<dev_t> numbers;
    const auto devices = dm_list();
    if (!devices)
        return numbers;
    for (const auto& device : *devices) {
        if (!is_leg_uuid(device.uuid))
            continue;
        if (const auto beneath = dm_beneath(device.name))
            numbers.insert(beneath->begin(), beneath->end());
    }
    return numbers;
}

Result<void> Legs::give_name(const Leg& leg, const std::string& current) {
    auto other = dm_find_name(dm_name(leg));
    if (!other)
        return tl::unexpected(other.error());
    if (*other && is_leg_uuid((*other)->uuid)) // the leg's own earlier life
        if (auto r = dm_rename(dm_name(leg), hidden_name_old((*other)->uuid)); !r)
            return r;
    return dm_rename(current, dm_name(leg));
}

// Nobody sees it before it has a map: until then it would refuse writes, and after that it must not
// let pass what others of its multipath map do not.
Result<void> Legs::finish_leg(const Leg& leg, const DmInfo& info) {
    auto endpoint = parts_.shim->find(leg.uuid);
    if (!endpoint)
        return tl::unexpected(endpoint.error());
    if (!*endpoint)
        return fail(Errc::internal, "device " + info.name + " has no endpoint");
    if ((*endpoint)->map_generation == 0) {
        auto ranges = inherited_map(leg);
        if (!ranges)
            return tl::unexpected(ranges.error());
        if (auto r = parts_.shim->map(leg.uuid, 1, *ranges); !r)
            return r;
    }
    return info.name == dm_name(leg) ? dm_make_node(info.name) : give_name(leg, info.name);
}

Result<void> Legs::make_leg(const Leg& leg, dev_t device) {
    if (auto r =
            dm_create({hidden_name_new(leg), dm_uuid(leg), {leg_line(leg, device)}, false, true});
        !r)
        return r;
    auto info = dm_find(dm_uuid(leg));
    if (!info)
        return tl::unexpected(info.error());
    if (!*info)
        return fail(Errc::internal, "endpoint " + leg.name + " did not appear");
    auto done = finish_leg(leg, **info);
    if (done) {
        forget(leg.name);
        log(Level::notice, "endpoint-made", {{"name", leg.name}, {"device", number_text(device)}});
    }
    return done;
}

// The device beneath has gone, and may have come back as another one of the kernel's.
Result<void> Legs::replace_leg(Leg& leg, const DmInfo& info) {
    const auto where = locate(leg, taken(), parts_.kernel.sys);
    if (!where.device)
        return finish_leg(leg, info);
    if (leg.multipath.empty()) {
        if (info.open_count > 0)
            return fail(Errc::busy, "its device has gone and come back as " +
                                        where.device->kernel_name + ", but what lies on " +
                                        info.name + " still has the old one open");
        if (auto r = dm_remove(info.name, udev_patience); !r)
            return r;
        return make_leg(leg, where.device->number);
    }
    // The map has it open: a new one takes its place there.
    leg.uuid = volume::random_uuid();
    if (auto r = files_.replace(leg); !r)
        return r;
    if (auto r = dm_rename(info.name, hidden_name_old(info.uuid)); !r)
        return r;
    return make_leg(leg, where.device->number);
}

Result<void> Legs::restore_leg(Leg leg) {
    auto info = dm_find(dm_uuid(leg));
    if (!info)
        return tl::unexpected(info.error());
    if (*info && !(*info)->live) { // killed between its making and its table
        if (auto r = dm_remove((*info)->name, udev_patience); !r)
            return r;
        info = std::optional<DmInfo>();
    }
    if (*info) {
        auto beneath = dm_beneath((*info)->name);
        if (!beneath || beneath->size() != 1)
            return fail(Errc::internal, "device " + (*info)->name + " has no table of ours");
        return block_facts(beneath->front(), parts_.kernel.sys) ? finish_leg(leg, **info)
                                                                : replace_leg(leg, **info);
    }
    const auto where = locate(leg, taken(), parts_.kernel.sys);
    if (where.device)
        return make_leg(leg, where.device->number);
    return fail(Errc::not_found,
                where.obstacle.empty() ? leg.device + " is not there" : where.obstacle);
}

// Legs whose map was being removed.
void Legs::drop_orphans(std::vector<Leg>& legs) {
    std::erase_if(legs, [this](const Leg& leg) {
        if (leg.multipath.empty() || files_.has_map(leg.multipath))
            return false;
        if (auto r = take_down(leg); !r)
            tell_once(leg.name, r.error().reason);
        return true;
    });
}

// What is left of legs that were replaced or removed.
void Legs::drop_strangers() {
    const auto devices = dm_list();
    if (!devices)
        return;
    std::set<std::string> known;
    for (const auto& leg : configured())
        known.insert(dm_uuid(leg));
    for (const auto& device : *devices)
        if (is_leg_uuid(device.uuid) && is_hidden_name(device.name) && !known.count(device.uuid) &&
            device.open_count == 0)
            if (auto r = dm_remove(device.name, at_once); !r)
                log_error("old-endpoint-stays", r.error(), {{"name", device.name}});
}

Result<void> Legs::restore() {
    auto legs = configured();
    const auto maps = files_.maps();
    if (legs.empty() && maps.empty()) { // there may be no device-mapper at all
        publish_paths();
        return {};
    }
    if (auto r = parts_.shim->version(); !r)
        return tl::unexpected(r.error());
    drop_orphans(legs);
    Result<void> first;
    for (const auto& leg : legs) {
        auto done = restore_leg(leg);
        if (done)
            forget(leg.name);
        else
            tell_once(leg.name, done.error().reason);
        keep_first(first, std::move(done));
    }
    for (const auto& map : maps) {
        auto done = restore_map(map);
        if (done)
            forget(map.name);
        else
            tell_once(map.name, done.error().reason);
        keep_first(first, std::move(done));
    }
    drop_strangers();
    publish_paths();
    return first;
}

} // namespace dek::kcm
