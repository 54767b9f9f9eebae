// SPDX-License-Identifier: Apache-2.0
#include "kcm/layers/usage.h"

#include <algorithm>
#include <set>

#include "kcm/layers/target.h"
#include "kcm/layers/words.h"

namespace dek::kcm::layers {
namespace {

constexpr int deepest = 64; // rounds after which nothing may change any more

LunMap one(std::uint64_t first, std::uint64_t count) {
    return count ? LunMap::from({{first, count}}).value() : LunMap();
}

// A line of a table, and the devices it names.
struct Line {
    std::string device;
    dek_range lbas{};
    std::string user;
    Target target;
    std::vector<std::string> beneath; // of an unknown target
    bool known() const { return target.kind != Kind::opaque && target.kind != Kind::endpoint; }
    bool doubles() const { return target.kind == Kind::mirror; }
    LunMap all() const { return one(lbas.first, lbas.count); }

    // What is at these LBAs of a leg, as LBAs of the device; and back.
    LunMap up(const TargetLeg& leg, const LunMap& map) const {
        return moved(map.intersect(one(leg.offset, length())), leg.offset, lbas.first, true);
    }
    LunMap down(const TargetLeg& leg, const LunMap& map) const {
        return moved(map.intersect(all()), lbas.first, leg.offset, false);
    }
    // Of a leg.
    std::uint64_t length() const {
        return target.kind == Kind::striped ? lbas.count / target.legs.size() : lbas.count;
    }

  private:
    // Of stripes, whole rows.
    LunMap moved(const LunMap& map, std::uint64_t from, std::uint64_t to, bool upwards) const {
        LunMap there;
        for (const auto& r : map.ranges()) {
            auto first = r.first - from, end = first + r.count;
            if (target.kind == Kind::striped) {
                const std::uint64_t row = target.chunk * target.legs.size();
                const auto down = upwards ? target.chunk : row, up = upwards ? row : target.chunk;
                first = first / down * up;
                end = (end + down - 1) / down * up;
            }
            there = there.unite(one(to + first, end - first));
        }
        return there.merged();
    }
};

// Numbers the kernel would have taken.
bool fits(const TableLine& line, const Target& target) {
    return line.first < max_lbas && line.count < max_lbas &&
           (target.kind != Kind::striped || target.chunk > 0) &&
           std::all_of(target.legs.begin(), target.legs.end(),
                       [](const auto& leg) { return leg.offset < max_lbas; });
}

class Use {
  public:
    Use(const std::vector<Mapped>& devices, const MapByDevice& volumes) : held_(volumes) {
        for (const auto& d : devices)
            if (!d.table.empty())
                sizes_[d.number] = d.table.back().first + d.table.back().count;
        for (const auto& d : devices)
            if (!volumes.contains(d.number))
                for (const auto& line : d.table)
                    add(d.number, line);
    }

    Result<std::map<std::string, LegUse>> find() {
        std::map<std::string, LegUse> uses;
        const auto volumes = held_;
        int rounds = 0;
        for (changed_ = true; changed_; rounds++) {
            if (rounds == deepest)
                return fail(Errc::corrupt, "device-mapper's tables are too deep to be followed");
            changed_ = false;
            for (const auto& line : lines_)
                follow(line);
        }
        for (const auto& [leg, map] : volumes)
            uses[leg] = {used(leg), copies_[leg].subtract(map), unknown_[leg].subtract(map)};
        return uses;
    }

  private:
    void add(const std::string& device, const TableLine& from) {
        Line line{device, {from.first, from.count}, device + " " + to_string(from), {}, {}};
        const auto target = parse_target(from);
        if (target && fits(from, *target))
            line.target = *target;
        std::set<std::string> seen;
        Words words(from.parameters);
        while (!words.at_end())
            if (const auto word = words.word(); sizes_.contains(word) && seen.insert(word).second)
                line.beneath.push_back(word);
        if (line.target.kind != Kind::endpoint) // a volume's, or a header's: nothing is copied
            lines_.push_back(std::move(line));
    }

    void grow(MapByDevice& maps, const std::string& device, const LunMap& map) {
        auto& now = maps[device];
        if (map.empty() || map.subtract(now).empty())
            return;
        now = now.unite(map).merged();
        changed_ = true;
    }
    void copy(const std::string& device, const LunMap& map, const LunMap& unknown) {
        grow(copies_, device, map);
        grow(unknown_, device, unknown);
        grow(held_, device, map);
    }

    void follow(const Line& line) { line.known() ? follow_known(line) : follow_unknown(line); }

    void follow_known(const Line& line) {
        for (const auto& leg : line.target.legs)
            grow(held_, line.device, line.up(leg, held_[leg.number]));
        for (const auto& leg : line.target.legs) {
            const auto beneath = line.down(leg, copies_[line.device]);
            copy(leg.number, beneath, line.down(leg, unknown_[line.device]));
            if (line.doubles())
                copy(leg.number, line.down(leg, held_[line.device]).subtract(held_[leg.number]),
                     {});
        }
    }

    void follow_unknown(const Line& line) {
        const auto holds = [&](const std::string& device) { return !held_[device].empty(); };
        if (std::none_of(line.beneath.begin(), line.beneath.end(), holds))
            return spread(line, copies_[line.device]);
        grow(held_, line.device, line.all());
        spread(line, line.all());
    }
    void spread(const Line& line, const LunMap& map) {
        if (map.intersect(line.all()).empty())
            return;
        for (const auto& device : line.beneath)
            if (held_[device].empty())
                copy(device, one(0, sizes_[device]), one(0, sizes_[device]));
    }

    std::vector<Stretch> used(const std::string& leg) const {
        std::vector<Stretch> all;
        for (const auto& line : lines_)
            if (line.known())
                for (const auto& part : line.target.legs)
                    if (part.number == leg)
                        all.push_back({line.user, line.lbas.first, {part.offset, line.length()}});
        return all;
    }

    std::map<std::string, std::uint64_t> sizes_;
    std::vector<Line> lines_;
    MapByDevice held_; // what volumes have there, and all that may have been copied of it
    MapByDevice copies_, unknown_;
    bool changed_ = false;
};

} // namespace

Result<std::map<std::string, LegUse>> find_use(const std::vector<Mapped>& devices,
                                               const MapByDevice& volumes) {
    return Use(devices, volumes).find();
}

} // namespace dek::kcm::layers
