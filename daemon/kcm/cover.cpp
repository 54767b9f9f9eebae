// SPDX-License-Identifier: Apache-2.0
#include "kcm/cover.h"

#include <algorithm>

#include "kcm/hold.h"

namespace dek::kcm {
namespace {

struct LegMap {
    std::uint64_t generation = 0;
    bool held = false; // by a controller that did not come to an end
    LunMap encrypted;  // keyed, fenced or yielded
    LunMap yielded;
    std::vector<dek_map_entry> reserved;
};

LunMap joined(std::vector<dek_range> ranges) {
    return LunMap::from(std::move(ranges)).value().merged();
}

Result<LegMap> read_map(Shim& shim, const Uuid& leg) {
    auto entry = shim.find(leg);
    auto ranges = shim.ranges(leg);
    if (!entry || !ranges)
        return tl::unexpected(entry ? ranges.error() : entry.error());
    if (!*entry)
        return fail(Errc::not_found, "endpoint " + volume::uuid_text(leg) + " is gone");
    LegMap map;
    map.generation = (*entry)->map_generation;
    map.held = (*entry)->tokens > 0;
    std::vector<dek_range> encrypted, yielded;
    for (const auto& r : *ranges) {
        if (r.state == DEK_RANGE_RESERVED)
            map.reserved.push_back({r.first, r.count, DEK_MAP_RESERVED, 0});
        else if (r.state != DEK_RANGE_PLAIN)
            encrypted.push_back({r.first, r.count});
        if (r.state == DEK_RANGE_YIELDED)
            yielded.push_back({r.first, r.count});
    }
    map.encrypted = joined(std::move(encrypted));
    map.yielded = joined(std::move(yielded));
    return map;
}

std::vector<dek_map_entry> entries_of(const LegMap& now, const LunMap& encrypted,
                                      const LunMap& yielded) {
    auto entries = now.reserved;
    const LunMap rest = encrypted.subtract(yielded);
    for (const auto& r : yielded.ranges())
        entries.push_back({r.first, r.count, DEK_MAP_KEEP, 0});
    for (const auto& r : rest.ranges())
        entries.push_back({r.first, r.count, DEK_MAP_ENCRYPT, 0});
    std::sort(entries.begin(), entries.end(),
              [](const auto& a, const auto& b) { return a.first < b.first; });
    return entries;
}

// What passes as it is and is to be yielded does so at every moment. What is fenced until now may
// have I/O that waits there: it waits on until all of it is yielded.
Result<void> change(Shim& shim, const Uuid& leg, const LegMap& now, const LunMap& encrypted,
                    const LunMap& yielded) {
    const bool new_map = now.generation == 0 || !(now.encrypted == encrypted) ||
                         !now.yielded.subtract(yielded).empty();
    const LunMap fresh = now.generation ? yielded.intersect(now.encrypted).subtract(now.yielded)
                                        : yielded; // without a map nothing passes
    const auto send = [&]() -> Result<void> {
        return new_map ? shim.map(leg, now.generation + 1, entries_of(now, encrypted, yielded))
                       : Result<void>();
    };
    if (!now.held && fresh.empty())
        return send();
    auto hold = Hold::whole(shim, leg);
    if (!hold)
        return tl::unexpected(hold.error());
    if (auto r = send(); !r)
        return r;
    for (const auto& r : fresh.ranges())
        if (auto done = shim.yield(leg, hold->token(), r); !done)
            return done;
    return {};
}

} // namespace

Result<void> cover(Shim& shim, const Uuid& leg, const LunMap& map) {
    const auto now = read_map(shim, leg);
    if (!now)
        return tl::unexpected(now.error());
    return change(shim, leg, *now, now->encrypted.unite(map).merged(), now->yielded.subtract(map));
}

Result<void> cover_yielded(Shim& shim, const Uuid& leg, const LunMap& map) {
    const auto now = read_map(shim, leg);
    if (!now)
        return tl::unexpected(now.error());
    return change(shim, leg, *now, now->encrypted.unite(map).merged(),
                  now->yielded.unite(map).merged());
}

Result<void> uncover(Shim& shim, const Uuid& leg, const LunMap& map) {
    const auto now = read_map(shim, leg);
    if (!now)
        return tl::unexpected(now.error());
    return change(shim, leg, *now, now->encrypted.subtract(map), now->yielded.subtract(map));
}

Result<void> replace_cover(Shim& shim, const Uuid& leg, const LunMap& closed,
                           const LunMap& opened) {
    const auto now = read_map(shim, leg);
    if (!now)
        return tl::unexpected(now.error());
    return change(shim, leg, *now, now->encrypted.subtract(opened).unite(closed).merged(),
                  now->yielded.subtract(opened).subtract(closed));
}

} // namespace dek::kcm
