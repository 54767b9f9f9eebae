// SPDX-License-Identifier: Apache-2.0
#include "kcm/layers/parts.h"

#include <algorithm>

namespace dek::kcm::layers {
namespace {

LunMap first_of(const LunMap& map, std::size_t capacity) {
    const auto ranges = map.ranges();
    const auto n = std::min(ranges.size(), capacity);
    return LunMap::from({ranges.begin(), ranges.begin() + static_cast<std::ptrdiff_t>(n)}).value();
}

LunMap held_on(const std::vector<Part>& before, std::size_t device) {
    LunMap all;
    for (const auto& part : before)
        if (part.held() && part.device == device)
            all = all.unite(part.map);
    return all;
}

// Puts what it can of `fresh`, which nobody holds, into a part that is there; returns what is left.
LunMap grow(Part& part, const LunMap& fresh, std::size_t capacity) {
    LunMap left;
    for (const auto& range : fresh.ranges()) {
        const LunMap one = LunMap::from({range}).value();
        LunMap grown = part.map.unite(one);
        if (grown.size() <= capacity)
            part.map = std::move(grown);
        else
            left = left.unite(one);
    }
    return left;
}

void plan_one(const std::vector<Part>& before, const Part& want, std::size_t capacity,
              std::vector<bool>& used, PartPlan& plan) {
    const auto begin = static_cast<std::ptrdiff_t>(plan.next.size());
    LunMap rest = want.map;
    for (std::size_t i = 0; i < before.size(); i++) {
        const Part& old = before[i];
        if (!old.held() || used[i] || old.device != want.device ||
            !same_geometry(old.geometry, want.geometry))
            continue;
        Part kept = old;
        kept.map = first_of(want.map.intersect(old.map), capacity);
        if (kept.map.empty())
            continue;
        used[i] = true;
        rest = rest.subtract(kept.map);
        plan.next.push_back({std::move(kept), i});
    }
    const LunMap taken = held_on(before, want.device);
    LunMap fresh = rest.subtract(taken);
    for (auto at = plan.next.begin() + begin; at != plan.next.end(); ++at)
        fresh = grow(at->part, fresh, capacity);
    rest = rest.intersect(taken).unite(fresh);
    while (!rest.empty()) {
        Part made{want.device, want.geometry, first_of(rest, capacity), 0, 0};
        rest = rest.subtract(made.map);
        plan.next.push_back({std::move(made), std::nullopt});
    }
}

} // namespace

PartPlan plan_parts(const std::vector<Part>& before, const std::vector<Part>& wanted,
                    std::size_t capacity) {
    PartPlan plan;
    std::vector<bool> used(before.size());
    for (const auto& want : wanted)
        plan_one(before, want, capacity, used, plan);
    for (std::size_t i = 0; i < before.size(); i++)
        if (before[i].held() && !used[i])
            plan.surplus.push_back(i);
    return plan;
}

} // namespace dek::kcm::layers
