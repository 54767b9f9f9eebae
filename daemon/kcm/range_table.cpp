// SPDX-License-Identifier: Apache-2.0
#include "kcm/range_table.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "kcm/device_lbas.h"
#include "kcm/status.h"

namespace dek::kcm {
namespace {

using Rows = std::vector<RangeRow>;

bool alike(const RangeRow& a, const RangeRow& b) {
    return a.state == b.state && a.by == b.by && a.engine == b.engine && a.key == b.key &&
           a.association == b.association && a.lbas.first + a.lbas.count == b.lbas.first;
}

// The gaps between rows that are sorted become plain ones.
Rows filled(const Rows& rows, std::uint64_t size) {
    Rows all;
    std::uint64_t next = 0;
    const auto plain_until = [&](std::uint64_t end) {
        RangeRow row;
        row.lbas = {next, end - next};
        if (end > next)
            all.push_back(std::move(row));
        next = end;
    };
    for (const auto& row : rows) {
        if (row.lbas.first < next || row.lbas.first >= size)
            continue;
        plain_until(row.lbas.first);
        all.push_back(row);
        all.back().lbas.count = std::min<std::uint64_t>(row.lbas.count, size - row.lbas.first);
        next += all.back().lbas.count;
    }
    plain_until(size);
    return all;
}

// Of the volume's own endpoint.
Result<Rows> rows_of_endpoint(const Volume& v, Shim& shim) {
    const auto endpoint = shim.find(v.header.uuid);
    if (!endpoint)
        return tl::unexpected(endpoint.error());
    if (!*endpoint)
        return fail(Errc::unavailable, "the shim has lost volume " + v.name);
    const auto associations = shim.associations(v.header.uuid);
    const auto ranges = shim.ranges(v.header.uuid);
    if (!associations || !ranges)
        return tl::unexpected(associations ? ranges.error() : associations.error());
    std::map<std::uint64_t, std::string> keys;
    for (const auto& a : *associations)
        keys[a.handle] = key_id_of(a);
    const LinearLayer layer(v.header);
    Rows rows;
    for (const auto& r : *ranges) {
        if (r.first < v.header.offset || r.state == DEK_RANGE_PLAIN)
            continue;
        RangeRow row;
        row.lbas = layer.to_volume({r.first, r.count});
        row.state = r.state;
        if (r.state == DEK_RANGE_KEYED) {
            row.by = v.shim == "fuse" ? "dek-shimd" : "dm-dek";
            row.engine = engine_text((*endpoint)->engine);
            row.key = keys[r.association];
            row.association = r.association;
        } else if (r.state == DEK_RANGE_YIELDED) {
            row.by = "above";
        }
        rows.push_back(std::move(row));
    }
    return rows;
}

RangeRow row_of(const Volume& v, const volume::EncryptedRange& range) {
    RangeRow row;
    row.lbas = range.lbas;
    row.state = DEK_RANGE_FENCED;
    if (range.key < v.header.keys.size())
        row.key = v.header.keys[range.key].id;
    return row;
}

Rows rows_of_crypt(const Volume& v) {
    Rows rows;
    for (const auto& range : v.header.ranges) {
        auto row = row_of(v, range);
        if (v.state == VolumeState::up) {
            row.state = DEK_RANGE_KEYED;
            row.by = "dm-crypt";
        }
        rows.push_back(std::move(row));
    }
    return rows;
}

// A range of the volume on the legs that hold it.
class Beneath {
  public:
    Beneath(const Volume& v, const std::map<std::size_t, LegState>& legs) : v_(v), legs_(legs) {}

    // Cut where the state changes, down to whole data units, as far as that stays worth it.
    void add(Rows& rows, const volume::EncryptedRange& range) {
        auto [row, uniform] = look(range);
        const std::uint64_t unit = v_.header.data_unit / 512;
        if (!uniform && range.lbas.count > unit && looks_ < 1000) {
            auto part = range;
            part.lbas.count = std::max<std::uint64_t>(range.lbas.count / 2 / unit, 1) * unit;
            add(rows, part);
            part.lbas = {range.lbas.first + part.lbas.count, range.lbas.count - part.lbas.count};
            add(rows, part);
            return;
        }
        if (!rows.empty() && alike(rows.back(), row))
            rows.back().lbas.count += row.lbas.count;
        else
            rows.push_back(std::move(row));
    }

  private:
    static std::uint32_t state_of(const LegState& leg, const LunMap& map) {
        if (map.subtract(leg.keyed).empty())
            return DEK_RANGE_KEYED;
        return map.subtract(leg.yielded).empty() ? DEK_RANGE_YIELDED : DEK_RANGE_FENCED;
    }
    static bool cut(const LegState& leg, const LunMap& map) {
        const auto some = map.intersect(leg.keyed).total() + map.intersect(leg.yielded).total();
        return some && state_of(leg, map) == DEK_RANGE_FENCED;
    }

    // Keyed where every leg has it so; second: false where a smaller range may be otherwise.
    std::pair<RangeRow, bool> look(const volume::EncryptedRange& range) {
        looks_++;
        auto row = row_of(v_, range);
        const auto maps = layers::project(
            v_.survey->stack,
            LunMap::from({LinearLayer(v_.header).to_device(range.lbas)}).value_or(LunMap()));
        std::set<std::uint32_t> states;
        std::set<std::string> engines;
        std::string names;
        bool uniform = true;
        for (const auto& [device, leg] : legs_) {
            const auto& map = maps[device];
            if (map.empty())
                continue;
            states.insert(state_of(leg, map));
            uniform = uniform && !cut(leg, map);
            names += (names.empty() ? "" : ", ") + leg.name;
            engines.insert(engine_text(leg.engine));
        }
        if (states.size() == 1)
            row.state = *states.begin();
        if (row.state == DEK_RANGE_KEYED) {
            row.by = names;
            for (const auto& engine : engines)
                row.engine += (row.engine.empty() ? "" : ", ") + engine;
        } else if (row.state == DEK_RANGE_YIELDED) {
            row.by = "above";
        }
        return {std::move(row), uniform && states.size() <= 1};
    }

    const Volume& v_;
    const std::map<std::size_t, LegState>& legs_;
    unsigned looks_ = 0;
};

Result<Rows> rows_of_legs(const Volume& v, Shim& shim) {
    const auto legs = leg_states(v, shim);
    if (!legs)
        return tl::unexpected(legs.error());
    Rows rows;
    Beneath beneath(v, *legs);
    for (const auto& range : v.header.ranges)
        if (v.survey)
            beneath.add(rows, range);
        else
            rows.push_back(row_of(v, range));
    return rows;
}

// No endpoint of the volume's own keeps the header's place; its table does.
void add_reserved(const Volume& v, Rows& rows) {
    for (const auto& entry : must_encrypt_map(v.header)) {
        if (entry.kind != DEK_MAP_RESERVED || entry.first < v.header.offset)
            continue;
        RangeRow row;
        row.lbas = LinearLayer(v.header).to_volume({entry.first, entry.count});
        row.state = DEK_RANGE_RESERVED;
        rows.push_back(std::move(row));
    }
    std::sort(rows.begin(), rows.end(),
              [](const auto& a, const auto& b) { return a.lbas.first < b.lbas.first; });
}

LunMap map_in_state(const std::vector<dek_range_entry>& ranges, std::uint32_t state) {
    std::vector<dek_range> all;
    for (const auto& r : ranges)
        if (r.state == state)
            all.push_back({r.first, r.count});
    return LunMap::from(std::move(all)).value_or(LunMap()).merged();
}

Result<void> fill(const Volume& v, Shim& shim, LegState& leg) {
    const auto associations = shim.associations(leg.uuid);
    const auto ranges = shim.ranges(leg.uuid);
    if (!associations || !ranges)
        return tl::unexpected(associations ? ranges.error() : associations.error());
    for (const auto& a : *associations)
        if (std::any_of(v.header.keys.begin(), v.header.keys.end(),
                        [&](const auto& key) { return key.id == key_id_of(a); }))
            leg.associations.push_back(a);
    leg.keyed = map_in_state(*ranges, DEK_RANGE_KEYED);
    leg.yielded = map_in_state(*ranges, DEK_RANGE_YIELDED);
    return {};
}

} // namespace

Result<std::map<std::size_t, LegState>> leg_states(const Volume& v, Shim& shim) {
    std::map<std::size_t, LegState> legs;
    if (!v.survey)
        return legs;
    const auto list = shim.list();
    if (!list)
        return tl::unexpected(list.error());
    for (const auto& finding : v.survey->decision.account) {
        if (finding.role != layers::Role::encrypts && finding.role != layers::Role::idle)
            continue;
        const auto& device = v.survey->stack[finding.device];
        LegState leg;
        leg.name = device.name;
        if (const auto uuid = volume::uuid_of(device.uuid))
            leg.uuid = *uuid;
        for (const auto& entry : *list)
            if (std::memcmp(entry.uuid, leg.uuid.data(), leg.uuid.size()) == 0) {
                leg.engine = entry.engine;
                if (auto r = fill(v, shim, leg); !r && r.error().code != Errc::not_found)
                    return tl::unexpected(r.error());
            }
        legs[finding.device] = std::move(leg); // one that is gone holds nothing
    }
    return legs;
}

Result<Rows> range_table(const Volume& v, Shim& shim) {
    const bool software = v.encryptor == layers::Encryptor::software;
    const bool legs = v.encryptor == layers::Encryptor::endpoints;
    auto rows = software ? Result<Rows>(rows_of_crypt(v))
                : legs   ? rows_of_legs(v, shim)
                         : rows_of_endpoint(v, shim);
    if (!rows)
        return rows;
    if (software || legs)
        add_reserved(v, *rows);
    return filled(*rows, v.header.size);
}

} // namespace dek::kcm
