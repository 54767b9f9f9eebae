// SPDX-License-Identifier: Apache-2.0
#include "kcm/layers/placement.h"

#include <algorithm>
#include <cstring>

namespace dek::kcm::layers {
namespace {

// Wide enough for every sum and product of LBAs here, and for what lies before an origin.
using Wide = __int128;

using Pieces = std::vector<Piece>;
using Placed = tl::expected<Pieces, Refusal>;

tl::unexpected<Refusal> refuse(std::string why) {
    return tl::unexpected<Refusal>(Refusal{std::move(why)});
}

std::uint64_t unit_lbas(const dek_geometry& g) {
    return g.data_unit / 512;
}

LunMap map_of(std::vector<dek_range> ranges) {
    return LunMap::from(std::move(ranges)).value();
}

LunMap part_of(const LunMap& map, std::uint64_t first, std::uint64_t count) {
    return count ? map.intersect(map_of({{first, count}})) : LunMap();
}

// Not striped; numbers begin with `logical` at `device`.
dek_geometry numbered(const dek_geometry& like, std::uint64_t device, std::uint64_t logical) {
    return {like.data_unit, like.tweak_rule, device, logical, 0, 0, 0};
}

// The number of an LBA that lies `p` after the (perhaps impossible) origin.
Wide number_at(const dek_geometry& g, Wide logical_origin, Wide p) {
    if (!g.chunk)
        return logical_origin + p;
    return logical_origin + (p / g.chunk * g.stripes + g.leg) * g.chunk + p % g.chunk;
}

std::string too_far() {
    return "is numbered beyond what 64 bits hold";
}

// Pieces of `map`, LBAs of the leg's device, whose numbers `g` gives, had it these origins. Where
// one is negative, both move on by whole rows until none is; of a striped numbering, what then
// lies before the origin is a part of one chunk, and gets a plain numbering of its own.
Placed number(std::size_t leg, const LunMap& map, dek_geometry g, Wide device_origin,
              Wide logical_origin) {
    const Wide step = g.chunk ? g.chunk : 1;
    const Wide row = g.chunk ? Wide(g.chunk) * g.stripes : 1;
    const Wide device_rows = device_origin < 0 ? (-device_origin + step - 1) / step : 0;
    const Wide logical_rows = logical_origin < 0 ? (-logical_origin + row - 1) / row : 0;
    const Wide rows = std::max(device_rows, logical_rows);
    const Wide device = device_origin + rows * step, logical = logical_origin + rows * row;
    if (device > Wide(~0ull) || logical > Wide(~0ull))
        return refuse(too_far());
    const auto origin = static_cast<std::uint64_t>(device);
    Pieces pieces;
    if (const LunMap before = part_of(map, 0, origin); !before.empty()) {
        const auto first = before.ranges().front().first;
        const Wide n = number_at(g, logical_origin, Wide(first) - device_origin);
        if (n > Wide(~0ull))
            return refuse(too_far());
        pieces.push_back({leg, numbered(g, first, static_cast<std::uint64_t>(n)), before});
    }
    g.device_origin = origin;
    g.logical_origin = static_cast<std::uint64_t>(logical);
    if (LunMap rest = part_of(map, origin, ~0ull - origin); !rest.empty())
        pieces.push_back({leg, g, std::move(rest)});
    return pieces;
}

// The layer's LBAs of `map` lie on the leg one to one, `from` at the leg's offset.
Placed shift(const Device& layer, std::size_t leg, const LunMap& map, const dek_geometry& g,
             std::uint64_t from) {
    const auto to = layer.legs[leg].offset;
    const auto unit = unit_lbas(g);
    if (map.empty())
        return Pieces();
    if (to % unit != from % unit)
        return refuse("begins within a data unit of " + std::to_string(g.data_unit) +
                      " bytes, at LBA " + std::to_string(to));
    const auto moved = map.shifted(from, to);
    return number(leg, *moved, g, Wide(g.device_origin) + to - from, Wide(g.logical_origin));
}

bool whole_units(const LunMap& map, std::uint64_t unit) {
    return map.fits(0, static_cast<std::uint32_t>(unit * 512)) == DEK_OK;
}

Placed place_segments(const Device& layer, const LunMap& map, const dek_geometry& g) {
    Pieces all;
    for (std::size_t i = 0; i < layer.legs.size(); i++) {
        const Leg& leg = layer.legs[i];
        const LunMap here = part_of(map, leg.first, leg.count);
        if (!whole_units(here, unit_lbas(g)))
            return refuse("cuts a data unit of " + std::to_string(g.data_unit) +
                          " bytes where its segment of LBAs " + std::to_string(leg.first) + "-" +
                          std::to_string(leg.first + leg.count - 1) + " begins or ends");
        auto pieces = shift(layer, i, here, g, leg.first);
        if (!pieces)
            return pieces;
        all.insert(all.end(), pieces->begin(), pieces->end());
    }
    return all;
}

// How many of the LBAs before `end` lie in leg `leg` of n stripes.
std::uint64_t lbas_before(std::uint64_t end, std::uint64_t chunk, std::uint64_t n,
                          std::uint64_t leg) {
    const auto full = end / chunk; // chunks
    const auto rows = full / n;
    const auto in_row = full % n;
    if (leg < in_row)
        return (rows + 1) * chunk;
    return rows * chunk + (leg == in_row ? end % chunk : 0);
}

// What of the map lies in one stripe, in LBAs of the leg's device. A range without a gap has none
// there either.
LunMap stripe_of(const Device& layer, const LunMap& map, std::size_t leg) {
    std::vector<dek_range> ranges;
    const auto n = layer.legs.size();
    const auto offset = layer.legs[leg].offset;
    for (const auto& r : map.ranges()) {
        const auto first = lbas_before(r.first, layer.chunk, n, leg);
        const auto end = lbas_before(r.first + r.count, layer.chunk, n, leg);
        if (end > first)
            ranges.push_back({offset + first, end - first});
    }
    return map_of(std::move(ranges)).merged();
}

Placed place_stripes(const Device& layer, const LunMap& map, const dek_geometry& g) {
    if (g.chunk)
        return refuse("is striped, and so is a layer above it: tweaks follow one level of stripes");
    if (layer.chunk % unit_lbas(g))
        return refuse("has chunks of " + std::to_string(layer.chunk) +
                      " LBAs, which cut data units of " + std::to_string(g.data_unit) + " bytes");
    Pieces all;
    for (std::size_t i = 0; i < layer.legs.size(); i++) {
        const LunMap here = stripe_of(layer, map, i);
        const auto offset = layer.legs[i].offset;
        if (!here.empty() && offset % unit_lbas(g))
            return refuse("has a stripe that begins within a data unit of " +
                          std::to_string(g.data_unit) + " bytes, at LBA " + std::to_string(offset));
        dek_geometry striped = g;
        striped.chunk = layer.chunk;
        striped.stripes = static_cast<__u16>(layer.legs.size());
        striped.leg = static_cast<__u16>(i);
        auto pieces = number(i, here, striped, offset, Wide(g.logical_origin) - g.device_origin);
        if (!pieces)
            return pieces;
        all.insert(all.end(), pieces->begin(), pieces->end());
    }
    return all;
}

Placed place_copies(const Device& layer, const LunMap& map, const dek_geometry& g) {
    Pieces all;
    for (std::size_t i = 0; i < layer.legs.size(); i++) {
        auto pieces = shift(layer, i, map, g, 0);
        if (!pieces)
            return pieces;
        all.insert(all.end(), pieces->begin(), pieces->end());
    }
    return all;
}

} // namespace

bool same_geometry(const dek_geometry& a, const dek_geometry& b) {
    return a.data_unit == b.data_unit && a.tweak_rule == b.tweak_rule &&
           a.device_origin == b.device_origin && a.logical_origin == b.logical_origin &&
           a.chunk == b.chunk && a.stripes == b.stripes && a.leg == b.leg;
}

Placed place(const Device& layer, const LunMap& map, const dek_geometry& geometry) {
    if (map.empty())
        return Pieces();
    if (layer.kind == Kind::linear)
        return place_segments(layer, map, geometry);
    // One stripe is no striping.
    if (layer.kind == Kind::striped && layer.legs.size() > 1)
        return place_stripes(layer, map, geometry);
    return place_copies(layer, map, geometry);
}

std::vector<LunMap> spread(const Device& layer, const LunMap& map) {
    std::vector<LunMap> maps(layer.legs.size());
    const auto pieces = place(layer, map, unnumbered); // nothing stands in the way of no numbers
    for (const auto& piece : *pieces)
        maps[piece.leg] = maps[piece.leg].unite(piece.map);
    return maps;
}

std::vector<LunMap> project(const Stack& stack, const LunMap& map) {
    std::vector<LunMap> maps(stack.devices.size());
    maps[stack.top] = map;
    for (std::size_t i = stack.top + 1; i-- > 0;) {
        if (stack[i].leaf() || maps[i].empty())
            continue;
        const auto legs = spread(stack[i], maps[i]);
        for (std::size_t leg = 0; leg < legs.size(); leg++) {
            auto& below = maps[stack[i].legs[leg].device];
            below = below.unite(legs[leg]);
        }
    }
    return maps;
}

std::size_t find_unfenced(const Stack& stack, std::size_t device, const LunMap& map, Paths paths) {
    const Device& d = stack[device];
    if (map.empty() || d.kind == Kind::endpoint || d.kind == Kind::fence)
        return SIZE_MAX;
    if (d.leaf())
        return device;
    const auto maps = spread(d, map);
    for (std::size_t i = 0; i < d.legs.size(); i++) {
        if (paths == Paths::in_use && !d.legs[i].may_carry_io())
            continue;
        if (const auto found = find_unfenced(stack, d.legs[i].device, maps[i], paths);
            found != SIZE_MAX)
            return found;
    }
    return SIZE_MAX;
}

} // namespace dek::kcm::layers
