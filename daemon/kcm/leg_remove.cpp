// SPDX-License-Identifier: Apache-2.0
// Legs and multipath maps that are wanted no more.
#include <algorithm>

#include <sys/stat.h>

#include "base/log.h"
#include "kcm/legs.h"

namespace dek::kcm {
namespace {

constexpr std::chrono::milliseconds patience{2000}; // udev may be having a look

// An exclusive holder is told by name.
std::string who_uses(const DmInfo& info, const KernelView& kernel) {
    auto device = open_device(info.node, Access::read);
    const auto unused = device ? check_unused(*device, kernel) : Result<void>();
    return unused ? info.name + " is open" : unused.error().reason;
}

Result<void> remove_device(const DmInfo& info, const KernelView& kernel) {
    auto done = dm_remove(info.name, patience);
    if (!done && done.error().code == Errc::busy)
        return fail(Errc::busy, "something lies on " + info.name + ": " + who_uses(info, kernel));
    return done;
}

bool is_beneath(const DmInfo& info, dev_t number) {
    const auto beneath = dm_beneath(info.name);
    return beneath && std::find(beneath->begin(), beneath->end(), number) != beneath->end();
}

} // namespace

Result<void> Legs::take_down(const Leg& leg) {
    auto info = dm_find(dm_uuid(leg));
    if (!info)
        return tl::unexpected(info.error());
    if (*info)
        if (auto r = remove_device(**info, parts_.kernel); !r)
            return r;
    forget(leg.name);
    return files_.remove_leg(leg.name);
}

Result<void> Legs::remove_path(const Leg& leg) {
    const auto maps = files_.maps();
    const auto map = std::find_if(maps.begin(), maps.end(),
                                  [&](const auto& m) { return m.name == leg.multipath; });
    if (map == maps.end())
        return take_down(leg);
    auto info = dm_find(dm_uuid(leg));
    auto whole = dm_find(dm_uuid(*map));
    auto paths = paths_of(map->name);
    if (!info || !whole || !paths)
        return tl::unexpected(!info ? info.error() : !whole ? whole.error() : paths.error());
    if (*info)
        std::erase_if(*paths, [&](const Path& p) { return p.number == (*info)->number; });
    if (*whole && paths->empty())
        return fail(Errc::busy, leg.name + " is the last path of multipath " + map->name +
                                    "; dekctl endpoint remove " + map->name + " removes both");
    if (*info && (*info)->name == dm_name(leg)) // whoever is killed from here on, it goes
        if (auto r = dm_rename((*info)->name, hidden_name_old((*info)->uuid)); !r)
            return r;
    if (auto r = files_.remove_leg(leg.name); !r)
        return r;
    if (auto r = restore_map(*map); !r) {
        if (auto back = files_.add(leg); !back)
            log_error("path-removed-in-part", back.error(), {{"name", leg.name}});
        return r;
    }
    drop_strangers();
    return {};
}

Result<void> Legs::remove_leg(const Leg& leg) {
    return leg.multipath.empty() ? take_down(leg) : remove_path(leg);
}

// Once the map's file has gone, restore() takes what is left of its legs for leftovers.
Result<void> Legs::remove_map(const MultipathMap& map) {
    auto info = dm_find(dm_uuid(map));
    if (!info)
        return tl::unexpected(info.error());
    if (*info)
        if (auto r = remove_device(**info, parts_.kernel); !r)
            return r;
    if (auto r = files_.remove_map(map.name); !r)
        return r;
    forget(map.name);
    Result<void> first;
    for (const auto& leg : configured())
        if (leg.multipath == map.name)
            if (auto r = take_down(leg); !r && first)
                first = std::move(r);
    return first;
}

Result<void> Legs::remove(const std::string& what) {
    const auto finish = [this](Result<void> r) {
        publish_paths();
        return r;
    };
    for (const auto& map : files_.maps())
        if (map.name == what)
            return finish(remove_map(map));
    struct stat st;
    const bool node = what[0] == '/' && ::stat(what.c_str(), &st) == 0 && S_ISBLK(st.st_mode);
    for (const auto& leg : configured()) {
        if (leg.name == what || leg.device == what)
            return finish(remove_leg(leg));
        const auto info = node ? dm_find(dm_uuid(leg)) : Result<std::optional<DmInfo>>();
        if (!info || !*info)
            continue;
        if ((*info)->number == number_text(st.st_rdev) || is_beneath(**info, st.st_rdev))
            return finish(remove_leg(leg));
    }
    return fail(Errc::not_found, "there is no endpoint " + what +
                                     " in this host's configuration; dekctl endpoint list shows "
                                     "those there are");
}

} // namespace dek::kcm
