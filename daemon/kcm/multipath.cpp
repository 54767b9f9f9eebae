// SPDX-License-Identifier: Apache-2.0
// Multipath maps over legs: which paths they have, and which of these are in use.
#include <algorithm>

#include "base/log.h"
#include "kcm/layers/target.h"
#include "kcm/legs.h"

namespace dek::kcm {
namespace {

std::vector<Leg> legs_of(const std::vector<Leg>& all, const std::string& map) {
    std::vector<Leg> legs;
    std::copy_if(all.begin(), all.end(), std::back_inserter(legs),
                 [&](const Leg& leg) { return leg.multipath == map; });
    return legs;
}

// Encrypted there is everything that is in the endpoint's map: what is reserved there, nobody may
// write here.
Result<LunMap> guarded_by(Shim& shim, const Uuid& endpoint) {
    auto ranges = shim.ranges(endpoint);
    if (!ranges)
        return tl::unexpected(ranges.error());
    LunMap map;
    for (const auto& r : *ranges)
        map = map.unite(LunMap::from({{r.first, r.count}}).value_or(LunMap()));
    return map;
}

} // namespace

// Of all endpoints that are beneath its map now, its own earlier life among them. The controller's
// review gives it the proper one; until then it may refuse too much, never too little.
Result<std::vector<dek_map_entry>> Legs::inherited_map(const Leg& leg) {
    LunMap all;
    for (const auto& map : files_.maps()) {
        if (map.name != leg.multipath)
            continue;
        auto info = dm_find(dm_uuid(map));
        if (!info)
            return tl::unexpected(info.error());
        if (!*info)
            break;
        auto beneath = dm_beneath((*info)->name);
        if (!beneath)
            return tl::unexpected(beneath.error());
        for (const auto number : *beneath) {
            auto path = dm_find_number(number);
            if (!path || !*path || !is_leg_uuid((*path)->uuid))
                continue;
            const auto uuid = volume::uuid_of((*path)->uuid.substr((*path)->uuid.find('-') + 1));
            auto guarded = uuid ? guarded_by(*parts_.shim, *uuid) : LunMap();
            if (!guarded)
                return tl::unexpected(guarded.error());
            all = all.unite(*guarded);
        }
    }
    std::vector<dek_map_entry> entries;
    for (const auto& r : all.ranges())
        entries.push_back({r.first, r.count, DEK_MAP_ENCRYPT, 0});
    return entries;
}

// Legs that are there and have a must-encrypt map.
Result<std::vector<Path>> Legs::paths_of(const std::string& map) const {
    std::vector<Path> paths;
    for (const auto& leg : legs_of(configured(), map)) {
        auto info = dm_find(dm_uuid(leg));
        if (!info)
            return tl::unexpected(info.error());
        if (!*info || !(*info)->live)
            continue;
        auto endpoint = parts_.shim->find(leg.uuid);
        if (!endpoint)
            return tl::unexpected(endpoint.error());
        if (!*endpoint || (*endpoint)->map_generation == 0)
            continue;
        paths.push_back({(*info)->number, leg.group});
    }
    return paths;
}

Result<void> Legs::restore_map(const MultipathMap& map) {
    auto paths = paths_of(map.name);
    auto info = dm_find(dm_uuid(map));
    if (!paths || !info)
        return tl::unexpected(paths ? info.error() : paths.error());
    if (paths->empty())
        return *info ? Result<void>()
                     : fail(Errc::not_found, "none of the paths of " + map.name + " is there");
    const DmTable table{multipath_line(map, *paths)};
    if (!*info)
        return dm_create({map.name, dm_uuid(map), table, false, false});
    if ((*info)->live && !(*info)->suspended) {
        auto live = dm_table((*info)->name);
        if (!live)
            return tl::unexpected(live.error());
        if (live->size() == 1 && has_paths(live->front(), map, *paths))
            return {};
    }
    log(Level::notice, "paths-changed", {{"multipath", map.name}, {"paths", paths->size()}});
    return dm_replace_held((*info)->name, table);
}

void Legs::publish_paths() {
    if (!checker_)
        return;
    std::vector<CheckedPath> paths;
    for (const auto& leg : configured()) {
        auto info = leg.multipath.empty() ? std::optional<DmInfo>()
                                          : dm_find(dm_uuid(leg)).value_or(std::nullopt);
        const auto beneath = info ? dm_beneath(info->name) : Result<std::vector<dev_t>>();
        if (!beneath || beneath->size() != 1)
            continue;
        const auto facts = block_facts(beneath->front(), parts_.kernel.sys);
        std::string node = facts ? facts->kernel_name : "";
        std::replace(node.begin(), node.end(), '!', '/');
        paths.push_back({leg.name, "/dev/" + node, beneath->front()}); // one that is gone fails
    }
    checker_->watch(paths);
}

bool Legs::is_fenced(const Leg& leg) {
    const auto ranges = parts_.shim->ranges(leg.uuid);
    return ranges && std::any_of(ranges->begin(), ranges->end(), [](const dek_range_entry& r) {
               return r.state == DEK_RANGE_FENCED;
           });
}

// A path without its keys would be failed again by the first encrypted block, so it stays failed
// while another one has them; where none has, all that can be read are tried.
Result<void> Legs::tend_map(const MultipathMap& map) {
    auto info = dm_find(dm_uuid(map));
    if (!info)
        return tl::unexpected(info.error());
    if (!*info || !(*info)->live || (*info)->suspended)
        return {};
    auto status = dm_status((*info)->name);
    if (!status)
        return tl::unexpected(status.error());
    if (status->size() != 1)
        return fail(Errc::internal, "device " + map.name + " has no table of ours");
    auto states = layers::parse_path_states(status->front().parameters);
    if (!states)
        return tl::unexpected(states.error());
    struct Tended {
        std::string number;
        bool works, fenced, failed;
    };
    const auto verdicts = checker_ ? checker_->verdicts() : std::map<std::string, Verdict>();
    std::vector<Tended> paths;
    for (const auto& leg : legs_of(configured(), map.name)) {
        auto path = dm_find(dm_uuid(leg));
        const auto verdict = verdicts.find(leg.name);
        const auto state = path && *path ? states->find((*path)->number) : states->end();
        if (state == states->end() || verdict == verdicts.end() ||
            verdict->second == Verdict::unknown)
            continue;
        paths.push_back({state->first, verdict->second == Verdict::works, is_fenced(leg),
                         state->second == layers::PathState::failed});
    }
    const bool keyed = std::any_of(paths.begin(), paths.end(),
                                   [](const Tended& p) { return p.works && !p.fenced; });
    Result<void> first;
    for (const bool reinstate : {true, false}) // first what I/O can go to
        for (const auto& path : paths) {
            const bool wanted = path.works && (!keyed || !path.fenced);
            if (wanted != reinstate || wanted != path.failed)
                continue;
            log(Level::notice, wanted ? "path-reinstated" : "path-failed",
                {{"multipath", map.name}, {"path", path.number}});
            auto sent = dm_message((*info)->name, 0,
                                   (wanted ? "reinstate_path " : "fail_path ") + path.number);
            if (first && !sent)
                first = std::move(sent);
        }
    return first;
}

void Legs::tend_paths() {
    for (const auto& map : files_.maps()) {
        const auto about = map.name + " (paths)";
        if (auto r = tend_map(map); !r)
            tell_once(about, r.error().reason);
        else
            forget(about);
    }
}

void Legs::watch_paths(std::function<void(std::function<void()>)> post) {
    checker_.reset();
    if (!post)
        return;
    checker_ = std::make_unique<PathChecker>([this, post = std::move(post), tending = tending_] {
        if (!tending->exchange(true)) // one at a time, however long an operation takes
            post([this, tending] {
                *tending = false;
                tend_paths();
            });
    });
}

} // namespace dek::kcm
