// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
// The algebra of dek::LunMap, by way of the C functions.
#include <dek/lunmap.hpp>

#include <algorithm>

namespace dek {

namespace {

using Operation = std::size_t (*)(const dek_range*, std::size_t, const dek_range*, std::size_t,
                                  dek_range*, std::size_t);

// Neither map has more than one boundary per end of a range, so this is room enough for any result.
std::vector<dek_range> combine(Operation operation, std::span<const dek_range> a,
                               std::span<const dek_range> b) {
    std::vector<dek_range> out(a.size() + b.size());
    out.resize(operation(a.data(), a.size(), b.data(), b.size(), out.data(), out.size()));
    return out;
}

} // namespace

tl::expected<LunMap, dek_status> LunMap::from(std::vector<dek_range> ranges) {
    LunMap map(std::move(ranges));
    if (dek_status status = map.fits(0, 0); status != DEK_OK)
        return tl::unexpected(status);
    return map;
}

std::uint64_t LunMap::total() const {
    return dek_map_total(ranges_.data(), ranges_.size());
}

dek_status LunMap::fits(std::uint64_t size, std::uint32_t unit) const {
    return dek_map_validate(ranges_.data(), ranges_.size(), size, unit);
}

bool LunMap::contains(dek_range what) const {
    return dek_map_contains(ranges_.data(), ranges_.size(), what);
}

bool LunMap::overlaps(dek_range what) const {
    return dek_map_overlaps(ranges_.data(), ranges_.size(), what);
}

LunMap LunMap::intersect(const LunMap& other) const {
    return LunMap(combine(dek_map_intersect, ranges_, other.ranges_));
}

LunMap LunMap::subtract(const LunMap& other) const {
    return LunMap(combine(dek_map_subtract, ranges_, other.ranges_));
}

LunMap LunMap::unite(const LunMap& other) const {
    return LunMap(combine(dek_map_union, ranges_, other.ranges_));
}

LunMap LunMap::merged() const {
    LunMap map(*this);
    map.ranges_.resize(dek_map_merge(map.ranges_.data(), map.ranges_.size()));
    return map;
}

tl::expected<LunMap, dek_status> LunMap::shifted(std::uint64_t from, std::uint64_t to) const {
    LunMap map(*this);
    dek_status status = dek_map_shift(map.ranges_.data(), map.ranges_.size(), from, to);
    if (status != DEK_OK)
        return tl::unexpected(status);
    return map;
}

std::vector<std::span<const dek_range>> LunMap::blocks(std::size_t capacity) const {
    std::vector<std::span<const dek_range>> runs;
    for (std::span<const dek_range> rest(ranges_); capacity && !rest.empty();) {
        runs.push_back(rest.first(std::min(capacity, rest.size())));
        rest = rest.subspan(runs.back().size());
    }
    return runs;
}

} // namespace dek
