// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
// LUN maps as a value: which LBAs (512-byte sectors) of a volume or device a key is for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <dek/lunmap.h>
#include <tl/expected.hpp>

inline bool operator==(const dek_range& a, const dek_range& b) {
    return a.first == b.first && a.count == b.count;
}

namespace dek {

// Always valid: sorted, non-overlapping, no empty range, no end beyond 2^64 - 1. Touching ranges
// stay apart unless merged() or a union joins them. An ordinary value: not thread-safe for writing.
class LunMap {
  public:
    LunMap() = default;
    // The ranges as they are; INVALID_RANGE when they are no map.
    static tl::expected<LunMap, dek_status> from(std::vector<dek_range> ranges);
    // The command line's grammar, of a volume of `size` LBAs:
    //     FIRST-LAST[,FIRST-LAST...]   inclusive decimal LBAs, in any order; touching ranges are
    //     joined FIRST-                       to the end all
    // Without a size (0) there is no end, so only FIRST-LAST is understood. A rejection is one
    // sentence.
    static tl::expected<LunMap, std::string> parse(std::string_view text, std::uint64_t size);
    // In that grammar, FIRST-LAST only; empty for an empty map.
    std::string to_string() const;

    std::span<const dek_range> ranges() const { return ranges_; }
    std::size_t size() const { return ranges_.size(); }
    bool empty() const { return ranges_.empty(); }
    std::uint64_t total() const; // LBAs

    // OK or INVALID_RANGE: inside `size` LBAs (0: any), aligned to `unit` bytes (0: any).
    dek_status fits(std::uint64_t size, std::uint32_t unit) const;
    bool contains(dek_range what) const;
    bool overlaps(dek_range what) const;

    LunMap intersect(const LunMap& other) const;
    LunMap subtract(const LunMap& other) const;
    LunMap unite(const LunMap& other) const;
    LunMap merged() const;
    // Every range moved from origin `from` to origin `to`.
    tl::expected<LunMap, dek_status> shifted(std::uint64_t from, std::uint64_t to) const;

    // Runs of at most `capacity` >= 1 ranges, one for each command block. They point into this map.
    std::vector<std::span<const dek_range>> blocks(std::size_t capacity = DEK_MAX_RANGES) const;

    bool operator==(const LunMap&) const = default;

  private:
    explicit LunMap(std::vector<dek_range> ranges) : ranges_(std::move(ranges)) {}

    std::vector<dek_range> ranges_;
};

} // namespace dek
