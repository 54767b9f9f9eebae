// SPDX-License-Identifier: Apache-2.0
#include "model.h"

#include <algorithm>
#include <cerrno>

namespace rig {

namespace {

Units minus(const Units& a, const Units& b) {
    Units out;
    std::set_difference(a.begin(), a.end(), b.begin(), b.end(), std::inserter(out, out.end()));
    return out;
}

bool overlap(const Units& a, const Units& b) {
    return std::any_of(a.begin(), a.end(), [&](unsigned u) { return b.count(u); });
}

} // namespace

Ranges to_ranges(const Units& units) {
    Ranges out;
    for (unsigned u : units) {
        if (!out.empty() && out.back().first + out.back().count == u * lbas_per_unit)
            out.back().count += lbas_per_unit;
        else
            out.push_back({u * lbas_per_unit, lbas_per_unit});
    }
    return out;
}

Model::Model(unsigned unit_count, unsigned ranges, unsigned associations)
    : units(unit_count), max_ranges(ranges), max_associations(associations), mapped(unit_count),
      cells(unit_count) {}

bool Model::outside(const Units& map) const {
    return *map.rbegin() >= units;
}

bool Model::held_by_command(const Units& map, std::uint64_t own) const {
    return std::any_of(tasks.begin(), tasks.end(), [&](auto& t) {
        return t.second.opcode && !(own && t.second.handle == own) && overlap(map, t.second.units);
    });
}

const Model::Task* Model::unfinished(std::uint64_t handle) const {
    for (auto& [hold, task] : tasks)
        if (task.opcode && task.handle == handle && !task.units.empty())
            return &task;
    return nullptr;
}

std::optional<dek_status> Model::ranges_status(const Units& map, std::uint64_t own) const {
    if (map_drain || held_by_command(map, own))
        return DEK_BUSY;
    for (unsigned u : map) {
        const Cell& c = cells[u];
        if (c.state == DEK_RANGE_RESERVED || (c.state == DEK_RANGE_KEYED && c.handle != own))
            return DEK_INVALID_RANGE;
    }
    return std::nullopt;
}

std::vector<Model::Cell> Model::with(std::uint64_t handle, const Units& gone,
                                     const Units& keyed) const {
    auto next = cells;
    for (unsigned u : gone)
        next[u] = {DEK_RANGE_FENCED, 0};
    for (unsigned u : keyed)
        next[u] = {DEK_RANGE_KEYED, handle};
    return next;
}

unsigned Model::count_with(const std::vector<Cell>& other) const {
    unsigned n = 0;
    for (std::size_t u = 0; u < other.size(); ++u)
        n += other[u].state != DEK_RANGE_PLAIN && (!u || !(other[u] == other[u - 1]));
    return n;
}

unsigned Model::range_count() const {
    return count_with(cells);
}

dek_status Model::associate_status(const Association& wanted) const {
    if (outside(wanted.map))
        return DEK_INVALID_RANGE;
    if (resent(DEK_OP_ASSOCIATE, 0, wanted))
        return DEK_OK;
    if (auto status = ranges_status(wanted.map, 0))
        return *status;
    if (table.size() >= max_associations)
        return DEK_ASSOCIATION_OVERFLOW;
    return count_with(with(~0ull, {}, wanted.map)) > max_ranges ? DEK_ASSOCIATION_OVERFLOW : DEK_OK;
}

dek_status Model::refresh_status(std::uint64_t handle, const Association& wanted) const {
    const auto a = table.find(handle);
    if (a == table.end())
        return DEK_UNKNOWN_HANDLE;
    if (unfinished(handle))
        return DEK_BUSY;
    if (outside(wanted.map))
        return DEK_INVALID_RANGE;
    return a->second == wanted ? DEK_OK : DEK_ASSOCIATION_EXISTS;
}

dek_status Model::update_status(std::uint64_t handle, const Association& wanted) const {
    const auto a = table.find(handle);
    if (a == table.end())
        return DEK_UNKNOWN_HANDLE;
    if (outside(wanted.map))
        return DEK_INVALID_RANGE;
    if (const Task* task = unfinished(handle))
        return task->opcode == DEK_OP_UPDATE && a->second == wanted ? DEK_OK : DEK_BUSY;
    if (a->second == wanted)
        return DEK_OK;
    if (auto status = ranges_status(wanted.map, handle))
        return *status;
    const auto next = with(handle, minus(a->second.map, wanted.map), wanted.map);
    return count_with(next) > max_ranges ? DEK_ASSOCIATION_OVERFLOW : DEK_OK;
}

dek_status Model::disassociate_status(std::uint64_t handle) const {
    if (resent(DEK_OP_DISASSOCIATE, handle, {}))
        return DEK_OK;
    if (unfinished(handle))
        return DEK_BUSY;
    return table.count(handle) ? DEK_OK : DEK_UNKNOWN_HANDLE;
}

dek_status Model::query_status(const Units& map) const {
    if (outside(map))
        return DEK_INVALID_RANGE;
    auto next = cells;
    bool added = false;
    // Range by range, as the endpoint goes through them.
    for (const auto& r : to_ranges(map)) {
        Units part;
        for (std::uint64_t lba = r.first; lba < r.first + r.count; lba += lbas_per_unit)
            part.insert(static_cast<unsigned>(lba / lbas_per_unit));
        if (map_drain || held_by_command(part, 0))
            return DEK_BUSY;
        if (std::any_of(part.begin(), part.end(),
                        [&](unsigned u) { return cells[u].state == DEK_RANGE_RESERVED; }))
            return DEK_INVALID_RANGE;
        if (std::all_of(part.begin(), part.end(),
                        [&](unsigned u) { return cells[u].state == DEK_RANGE_KEYED; }))
            continue;
        added = true;
        for (unsigned u : part)
            next[u] = {DEK_RANGE_KEYED, ~0ull};
    }
    if (added && (count_with(next) > max_ranges || table.size() >= max_associations))
        return DEK_ASSOCIATION_OVERFLOW;
    return DEK_OK;
}

int Model::map_error(const Units& encrypt, const Units& reserved) const {
    Units both = encrypt;
    both.insert(reserved.begin(), reserved.end());
    if (!both.empty() && outside(both))
        return -EINVAL;
    if (to_ranges(encrypt).size() + to_ranges(reserved).size() > max_ranges)
        return -E2BIG;
    for (unsigned u = 0; u < units; ++u)
        if (cells[u].state == DEK_RANGE_KEYED && !encrypt.count(u))
            return -EBUSY;
    Model copy = *this;
    copy.commit(generation + 1, encrypt, reserved);
    return copy.range_count() > max_ranges ? -E2BIG : 0;
}

int Model::quiesce_error(const Units& range) const {
    if (outside(range))
        return -EINVAL;
    for (auto& [token, task] : tasks)
        if (!task.opcode && overlap(range, task.units))
            return -EBUSY;
    std::size_t holds = 0;
    for (auto& [token, task] : tasks)
        holds += !task.units.empty();
    return holds == DEK_HOLDS_MAX ? -ENOSPC : 0;
}

int Model::yield_error(std::uint64_t token, const Units& range) const {
    const auto task = tasks.find(token);
    if (outside(range))
        return -EINVAL;
    if (task == tasks.end() || task->second.opcode || !minus(range, task->second.units).empty())
        return -ENOKEY;
    if (held_by_command(range, 0))
        return -EBUSY;
    for (unsigned u : range)
        if (cells[u].state == DEK_RANGE_KEYED)
            return -EBUSY;
    auto next = cells;
    for (unsigned u : range) {
        if (cells[u].state != DEK_RANGE_FENCED && cells[u].state != DEK_RANGE_YIELDED)
            return -EINVAL;
        next[u] = {DEK_RANGE_YIELDED, 0};
    }
    return next != cells && count_with(next) > max_ranges ? -E2BIG : 0;
}

int Model::resize_error(unsigned unit_count) const {
    for (unsigned u = unit_count; u < units; ++u)
        if (held(u) || (cells[u].state != DEK_RANGE_PLAIN &&
                        !(cells[u].state == DEK_RANGE_FENCED && u >= mapped)))
            return -EBUSY;
    Model copy = *this;
    copy.resize(unit_count);
    return unit_count != units && copy.range_count() > max_ranges ? -E2BIG : 0;
}

std::optional<std::uint64_t> Model::resent(std::uint32_t opcode, std::uint64_t handle,
                                           const Association& wanted) const {
    for (auto& [hold, task] : tasks) {
        if (!opcode || task.opcode != opcode)
            continue;
        if (opcode == DEK_OP_ASSOCIATE ? task.sent == wanted : task.handle == handle)
            return hold;
    }
    return std::nullopt;
}

Units Model::passing(const Units& map) const {
    Units out;
    for (const auto& r : to_ranges(map)) {
        Units run;
        bool any = false;
        for (auto u = static_cast<unsigned>(r.first / lbas_per_unit);
             u < (r.first + r.count) / lbas_per_unit; ++u) {
            run.insert(u);
            any |= cells[u].state == DEK_RANGE_PLAIN || cells[u].state == DEK_RANGE_YIELDED ||
                   u >= mapped;
        }
        if (any)
            out.insert(run.begin(), run.end());
    }
    return out;
}

Units Model::associate(std::uint64_t handle, const Association& wanted) {
    Units wait = passing(wanted.map);
    cells = with(handle, {}, wanted.map);
    table[handle] = wanted;
    return wait;
}

Units Model::update(std::uint64_t handle, const Association& wanted) {
    const Association old = table[handle];
    Units wait = passing(minus(wanted.map, old.map));
    const Units leaving = old.key == wanted.key ? minus(old.map, wanted.map) : old.map;
    wait.insert(leaving.begin(), leaving.end());
    cells = with(handle, minus(old.map, wanted.map), wanted.map);
    table[handle] = wanted;
    return wait;
}

Units Model::disassociate(std::uint64_t handle) {
    cells = with(0, table[handle].map, {});
    return table[handle].map;
}

void Model::put_task(std::uint64_t hold, std::uint32_t opcode, std::uint64_t handle,
                     const Units& units_held, const Association& sent) {
    tasks[hold] = {opcode, handle, units_held, sent, true, born_++};
}

void Model::finish(std::uint64_t hold, bool told) {
    Task& task = tasks[hold];
    if (!task.units.empty() && task.opcode == DEK_OP_DISASSOCIATE)
        table.erase(task.handle);
    task.units.clear();
    if (told || task.opcode == DEK_OP_UPDATE)
        tasks.erase(hold);
    std::vector<std::pair<unsigned, std::uint64_t>> untold;
    for (auto& [id, t] : tasks)
        if (t.opcode && t.units.empty())
            untold.push_back({t.born, id});
    if (untold.size() > 64)
        tasks.erase(std::min_element(untold.begin(), untold.end())->second);
}

void Model::forget(std::uint64_t handle) {
    std::erase_if(tasks, [&](auto& t) {
        return t.second.opcode && t.second.units.empty() && t.second.handle == handle;
    });
}

void Model::commit(std::uint64_t next, const Units& encrypt, const Units& reserved) {
    generation = next;
    mapped = units;
    for (unsigned u = 0; u < units; ++u) {
        if (cells[u].state == DEK_RANGE_KEYED)
            continue;
        cells[u].state = encrypt.count(u)    ? DEK_RANGE_FENCED
                         : reserved.count(u) ? DEK_RANGE_RESERVED
                                             : DEK_RANGE_PLAIN;
    }
}

void Model::resize(unsigned unit_count) {
    units = unit_count;
    mapped = generation ? std::min(mapped, unit_count) : unit_count;
    cells.resize(unit_count, {generation ? DEK_RANGE_FENCED : DEK_RANGE_PLAIN, 0});
}

bool Model::held(unsigned unit) const {
    return std::any_of(tasks.begin(), tasks.end(),
                       [&](auto& t) { return t.second.units.count(unit); });
}

bool Model::any_held() const {
    return std::any_of(tasks.begin(), tasks.end(), [](auto& t) { return !t.second.units.empty(); });
}

dek_verdict Model::verdict(unsigned unit, bool write) const {
    if (unit >= units)
        return DEK_REFUSE;
    if (held(unit))
        return DEK_WAIT;
    switch (cells[unit].state) {
    case DEK_RANGE_KEYED:
        return DEK_CRYPT;
    case DEK_RANGE_FENCED:
        return recovering ? DEK_WAIT : DEK_FENCED;
    case DEK_RANGE_YIELDED:
        return DEK_PASS;
    case DEK_RANGE_RESERVED:
        return write ? DEK_REFUSE : DEK_PASS;
    default:
        break;
    }
    if (generation)
        return DEK_PASS;
    if (had_map)
        return recovering ? DEK_WAIT : DEK_FENCED;
    return write ? DEK_REFUSE : DEK_PASS;
}

std::vector<dek_range_entry> Model::ranges() const {
    std::vector<dek_range_entry> out;
    for (unsigned u = 0; u < units; ++u) {
        if (cells[u].state == DEK_RANGE_PLAIN)
            continue;
        if (!u || !(cells[u] == cells[u - 1]))
            out.push_back({u * lbas_per_unit, 0, cells[u].handle, cells[u].state, 0});
        out.back().count += lbas_per_unit;
        out.back().held |= held(u);
    }
    return out;
}

} // namespace rig
