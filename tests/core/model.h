// SPDX-License-Identifier: Apache-2.0
// What an endpoint should do, said as plainly as possible: one state per data unit, everything
// recomputed from that. Units of 8 LBAs.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "rig.h"

namespace rig {

using Units = std::set<unsigned>;

constexpr unsigned lbas_per_unit = 8;
Ranges to_ranges(const Units& units);

class Model {
  public:
    struct Cell {
        unsigned state = DEK_RANGE_PLAIN;
        std::uint64_t handle = 0;
        bool operator==(const Cell&) const = default;
    };
    struct Association {
        Units map;
        unsigned key = 0;
        bool operator==(const Association&) const = default;
    };
    // A quiesce token, a command that waits, or (units empty) one that ended untold.
    struct Task {
        std::uint32_t opcode = 0; // 0: quiesce
        std::uint64_t handle = 0;
        Units units;
        Association sent; // what the command said
        bool draining = false;
        unsigned born = 0;
    };

    unsigned units;
    unsigned max_ranges;
    unsigned max_associations;
    std::uint64_t generation = 0;
    bool recovering = false;
    bool had_map = false;
    unsigned fence = DEK_FENCE_EIO;
    std::uint64_t map_drain = 0;
    unsigned mapped; // units beyond are new since the last map; unmapped: all there are
    std::vector<Cell> cells;
    std::map<std::uint64_t, Association> table;
    std::map<std::uint64_t, Task> tasks; // by hold

    Model(unsigned unit_count, unsigned ranges, unsigned associations);

    // What the endpoint must answer. Associate and Update do not look at `handle` == 0 ranges
    // twice.
    dek_status associate_status(const Association& wanted) const;
    dek_status refresh_status(std::uint64_t handle, const Association& wanted) const;
    dek_status update_status(std::uint64_t handle, const Association& wanted) const;
    dek_status disassociate_status(std::uint64_t handle) const;
    dek_status query_status(const Units& map) const;
    int map_error(const Units& encrypt, const Units& reserved) const;
    int quiesce_error(const Units& range) const;
    int yield_error(std::uint64_t token, const Units& range) const;
    int resize_error(unsigned unit_count) const;

    // The same command, unfinished or untold: its hold. Is there nothing to do at all?
    std::optional<std::uint64_t> resent(std::uint32_t opcode, std::uint64_t handle,
                                        const Association& wanted) const;

    // What a successful command changes at once, and the units it holds.
    Units associate(std::uint64_t handle, const Association& wanted);
    Units update(std::uint64_t handle, const Association& wanted);
    Units disassociate(std::uint64_t handle);
    void put_task(std::uint64_t hold, std::uint32_t opcode, std::uint64_t handle, const Units& held,
                  const Association& sent);
    // The old I/O of a command has gone. Told: its sender was there.
    void finish(std::uint64_t hold, bool told);
    void forget(std::uint64_t handle);
    void commit(std::uint64_t next, const Units& encrypt, const Units& reserved);
    void resize(unsigned unit_count);

    dek_verdict verdict(unsigned unit, bool write) const;
    bool held(unsigned unit) const;
    bool any_held() const;
    unsigned range_count() const;
    std::vector<dek_range_entry> ranges() const;

  private:
    unsigned born_ = 0;
    bool outside(const Units& map) const;
    bool held_by_command(const Units& map, std::uint64_t own) const;
    const Task* unfinished(std::uint64_t handle) const;
    std::optional<dek_status> ranges_status(const Units& map, std::uint64_t own) const;
    Units passing(const Units& map) const;
    unsigned count_with(const std::vector<Cell>& other) const;
    std::vector<Cell> with(std::uint64_t handle, const Units& gone, const Units& keyed) const;
};

} // namespace rig
