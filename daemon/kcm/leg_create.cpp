// SPDX-License-Identifier: Apache-2.0
// New legs, alone or as paths of a multipath map: what is asked first, and what is done then.
#include <algorithm>
#include <set>

#include "kcm/header_site.h"
#include "kcm/legs.h"
#include "kcm/lvm_filter.h"
#include "kcm/signature.h"

namespace dek::kcm {

struct Legs::Plan {
    std::optional<MultipathMap> map;
    bool map_is_new = false;
    std::vector<Leg> siblings; // already in the map
    std::vector<Leg> legs;     // as many as devices
    std::vector<Device> devices;
    std::vector<Fd> claims; // let go of when device-mapper is to open the devices
};

namespace {

// As the kernel calls it, in letters that a name may have.
std::string default_name(const BlockFacts& facts) {
    std::string name = facts.dm_name.empty() ? facts.kernel_name : facts.dm_name;
    for (char& c : name)
        if (!volume::name_is_valid(std::string("a") + c))
            c = '-';
    return name;
}

Result<void> check_no_header(const Device& device) {
    auto here = find_header(device, {}, Access::read);
    if (!here && here.error().code == Errc::not_found)
        return {};
    if (!here && here.error().code == Errc::timeout)
        return tl::unexpected(here.error());
    return fail(Errc::refused, (here ? device.path + " holds volume " + here->found.copy.header.name
                                     : here.error().reason) +
                                   "; --force puts an endpoint beneath it all the same");
}

Result<void> check_words(const LegRequest& r) {
    const auto wrong = [](const std::string& why) { return fail(Errc::invalid_argument, why); };
    if (r.devices.empty())
        return wrong("no device is named");
    if (!r.name.empty() && r.devices.size() > 1)
        return wrong("one name does not do for several devices");
    for (const auto& name : {r.name, r.multipath})
        if (!name.empty() && !volume::name_is_valid(name))
            return wrong("\"" + name + "\" is no name: up to 64 of A-Z, a-z, 0-9, '.', '_' and " +
                         "'-', not beginning with a dot");
    const auto unit = r.data_unit.value_or(4096);
    if (unit < 512 || unit > 4096 || (unit & (unit - 1)) != 0)
        return wrong("a data unit has 512, 1024, 2048 or 4096 bytes");
    if (r.multipath.empty() && (r.queue_if_no_path || r.group != 1))
        return wrong("queueing and groups are a multipath map's: name one");
    if (r.group < 1 || r.group > path_groups_max)
        return wrong("a group is a number from 1 to " + std::to_string(path_groups_max));
    return {};
}

bool divides(std::uint32_t unit, const Device& device) {
    return device.lbas % (unit / 512) == 0;
}

} // namespace

Result<Device> Legs::open_candidate(const LegRequest& request, const std::string& path) {
    auto device = open_device(path, Access::read);
    if (!device)
        return device;
    if (!device->block)
        return fail(Errc::invalid_argument, device->path + " is no block device");
    if (device->read_only)
        return fail(Errc::permission, device->path + " is read-only");
    const auto facts = block_facts(device->number, parts_.kernel.sys);
    if (!facts)
        return fail(Errc::not_found, device->path + " has gone");
    for (const char* own : {"DEK-", "DEKLEG-", "DEKMP-"})
        if (facts->dm_uuid.rfind(own, 0) == 0)
            return fail(Errc::invalid_argument,
                        device->path + " is dekstack's own device " + facts->dm_name);
    if (taken().count(device->number))
        return fail(Errc::exists, device->path + " has an endpoint already");
    for (const auto& leg : configured())
        if (const auto at = locate(leg, {}, parts_.kernel.sys);
            at.device && at.device->number == device->number && leg.multipath.empty())
            return fail(Errc::exists, device->path + " is endpoint " + leg.name +
                                          "'s already, by this host's configuration");
    if (const auto volume = parts_.volume_on(device->identity()))
        return fail(Errc::busy, device->path + " is attached as volume " + volume->name);
    if (auto unused = check_unused(*device, parts_.kernel); !unused)
        return tl::unexpected(unused.error());
    if (!request.force)
        if (auto r = check_no_header(*device); !r)
            return tl::unexpected(r.error());
    return device;
}

// 4096, as volumes have it; but what lies there already was made for the device's own block.
Result<std::uint32_t> Legs::unit_for(const LegRequest& request, const Device& device,
                                     const std::vector<Leg>& siblings) const {
    if (!siblings.empty()) {
        const auto unit = siblings.front().data_unit;
        if (request.data_unit.value_or(unit) != unit)
            return fail(Errc::invalid_argument, "the other paths of " + request.multipath +
                                                    " have data units of " + std::to_string(unit) +
                                                    " bytes");
        return unit;
    }
    if (request.data_unit) {
        if (!divides(*request.data_unit, device))
            return fail(Errc::invalid_argument, device.path + " has " +
                                                    std::to_string(device.lbas) +
                                                    " LBAs, which is no multiple of " +
                                                    std::to_string(*request.data_unit) + " bytes");
        return *request.data_unit;
    }
    auto found = find_signatures(device.fd.get(), 0, device.lbas * 512, device.path);
    if (!found)
        return tl::unexpected(found.error());
    const std::uint32_t own = std::clamp<std::uint32_t>(device.logical_block, 512, 4096);
    return found->empty() && divides(4096, device) ? 4096 : own;
}

Result<void> Legs::plan_map(const LegRequest& request, Plan& plan) {
    if (request.multipath.empty())
        return {};
    const auto maps = files_.maps();
    const auto known = std::find_if(maps.begin(), maps.end(),
                                    [&](const auto& m) { return m.name == request.multipath; });
    if (known != maps.end()) {
        if (request.queue_if_no_path && !known->queue_if_no_path)
            return fail(Errc::invalid_argument,
                        "multipath " + known->name + " was made to fail when it has no path");
        plan.map = *known;
        for (const auto& leg : configured())
            if (leg.multipath == known->name)
                plan.siblings.push_back(leg);
        return {};
    }
    auto other = dm_find_name(request.multipath);
    if (!other)
        return tl::unexpected(other.error());
    if (*other || files_.has_map(request.multipath) || files_.has_leg(request.multipath))
        return fail(Errc::exists, "there is another device named " + request.multipath);
    plan.map_is_new = true;
    plan.map =
        MultipathMap{request.multipath, volume::random_uuid(), "", 0, request.queue_if_no_path};
    return {};
}

Result<void> Legs::plan_leg(const LegRequest& request, const std::string& path, Plan& plan) {
    auto device = open_candidate(request, path);
    if (!device)
        return tl::unexpected(device.error());
    for (const auto& other : plan.devices)
        if (other.same_as(*device))
            return fail(Errc::invalid_argument, device->path + " is named twice");
    const auto facts = block_facts(device->number, parts_.kernel.sys);
    auto unit = unit_for(request, *device, plan.siblings);
    if (!facts || !unit)
        return facts ? tl::unexpected(unit.error())
                     : fail(Errc::not_found, device->path + " has gone");
    Leg leg;
    leg.name = request.name.empty() ? default_name(*facts) : request.name;
    leg.uuid = volume::random_uuid();
    leg.device = lasting_name(names_of_device(device->path), plan.map.has_value());
    leg.wwid = facts->wwid;
    leg.lbas = device->lbas;
    leg.data_unit = *unit;
    leg.fence = request.fence.value_or(plan.map ? DEK_FENCE_TRANSPORT : DEK_FENCE_EIO);
    leg.engine = request.engine;
    leg.multipath = request.multipath;
    leg.group = request.group;
    auto other = dm_find_name(dm_name(leg));
    if (!other)
        return tl::unexpected(other.error());
    if (*other || !volume::name_is_valid(leg.name) || files_.has_leg(leg.name) ||
        files_.has_map(leg.name) || leg.name == request.multipath)
        return fail(Errc::exists, "there is another endpoint named " + leg.name +
                                      "; --name gives this one its own");
    auto claim = claim_unused(*device, parts_.kernel);
    if (!claim)
        return tl::unexpected(claim.error());
    plan.claims.push_back(std::move(*claim));
    plan.legs.push_back(std::move(leg));
    plan.devices.push_back(std::move(*device));
    return {};
}

// All of them reach one disk, and it is the one that the map has.
Result<void> Legs::check_paths(const Plan& plan) {
    if (!plan.map)
        return {};
    for (std::size_t i = 1; i < plan.devices.size(); i++)
        if (auto r = check_same_disk(plan.devices[0], plan.devices[i], parts_.kernel.sys); !r)
            return r;
    if (plan.map_is_new)
        return {};
    if (plan.legs[0].wwid != plan.map->wwid || plan.legs[0].lbas != plan.map->lbas)
        return fail(Errc::refused, plan.devices[0].path + " is no path to the disk of multipath " +
                                       plan.map->name);
    if (!plan.map->wwid.empty())
        return {};
    for (const auto& leg : plan.siblings) {
        const auto at = locate(leg, {}, parts_.kernel.sys);
        if (!at.device)
            continue;
        auto other = open_device("/dev/" + at.device->kernel_name, Access::read);
        if (other)
            return check_same_disk(plan.devices[0], *other, parts_.kernel.sys);
    }
    return fail(Errc::refused, "no path of multipath " + plan.map->name + " is there to compare " +
                                   plan.devices[0].path + " with");
}

Result<Legs::Plan> Legs::plan(const LegRequest& request) {
    if (auto r = check_words(request); !r)
        return tl::unexpected(r.error());
    if (auto r = parts_.shim->version(); !r)
        return tl::unexpected(r.error());
    Plan plan;
    if (auto r = plan_map(request, plan); !r)
        return tl::unexpected(r.error());
    for (const auto& path : request.devices)
        if (auto r = plan_leg(request, path, plan); !r)
            return tl::unexpected(r.error());
    if (auto r = check_paths(plan); !r)
        return tl::unexpected(r.error());
    if (plan.map_is_new) {
        plan.map->wwid = plan.legs[0].wwid;
        plan.map->lbas = plan.legs[0].lbas;
        for (auto& leg : plan.legs)
            leg.data_unit = plan.legs[0].data_unit;
    }
    return plan;
}

// The configuration first: from then on restore() makes what is missing, whatever happens.
Result<void> Legs::carry_out(Plan& plan, Undo& undo) {
    if (plan.map_is_new) {
        if (auto r = files_.add(*plan.map); !r)
            return r;
        undo.add([this, name = plan.map->name] { (void)files_.remove_map(name); });
    }
    for (const auto& leg : plan.legs) {
        if (auto r = files_.add(leg); !r)
            return r;
        undo.add([this, leg] { (void)take_down(leg); });
    }
    plan.claims.clear();
    for (std::size_t i = 0; i < plan.legs.size(); i++)
        if (auto r = make_leg(plan.legs[i], plan.devices[i].number); !r)
            return r;
    return plan.map ? restore_map(*plan.map) : Result<void>();
}

std::vector<std::string> Legs::advice_for(const Plan& plan) const {
    std::vector<std::string> lines;
    std::vector<std::string> names;
    std::set<std::string> wwids;
    for (const auto& device : plan.devices) {
        auto those = names_of_device(device.path);
        if (!lvm_rejects(those, parts_.lvm_files))
            names.insert(names.end(), those.begin(), those.end());
        if (const auto facts = block_facts(device.number, parts_.kernel.sys))
            if (auto wwid = multipath_wwid(*facts); !wwid.empty())
                wwids.insert(std::move(wwid));
    }
    if (!names.empty())
        lines.push_back("to keep LVM off what lies beneath, add to section `devices` of "
                        "/etc/lvm/lvmlocal.conf: " +
                        lvm_filter_line(names));
    std::string wwid_lines;
    for (const auto& wwid : wwids)
        wwid_lines += " wwid \"" + wwid + "\"";
    if (!wwids.empty())
        lines.push_back("to keep multipathd off it, add to /etc/multipath.conf: blacklist {" +
                        wwid_lines + " }");
    return lines;
}

Result<LegsMade> Legs::create(const LegRequest& request) {
    auto planned = plan(request);
    if (!planned)
        return tl::unexpected(planned.error());
    Undo undo;
    if (auto r = carry_out(*planned, undo); !r) {
        undo.run();
        if (planned->map && !planned->map_is_new)
            (void)restore_map(*planned->map);
        return tl::unexpected(r.error());
    }
    undo.done();
    publish_paths();
    return LegsMade{planned->legs, planned->map, advice_for(*planned)};
}

} // namespace dek::kcm
