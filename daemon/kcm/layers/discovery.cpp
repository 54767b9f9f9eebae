// SPDX-License-Identifier: Apache-2.0
#include "kcm/layers/discovery.h"

#include <algorithm>

#include "kcm/layers/target.h"

namespace dek::kcm::layers {
namespace {

using Index = Result<std::size_t>;

class Builder {
  public:
    explicit Builder(const Description& description) : description_(description) {
        for (const auto& d : description.devices)
            by_number_[d.number] = &d;
    }

    Result<Stack> build(const std::string& top) {
        const auto index = visit(top);
        if (!index)
            return tl::unexpected(index.error());
        stack_.top = *index;
        if (auto r = validate(stack_); !r)
            return tl::unexpected(r.error());
        return std::move(stack_);
    }

  private:
    static tl::unexpected<Error> nonsense(const BlockDevice& d, const std::string& why) {
        return fail(Errc::corrupt, "device " + d.name + " (" + d.number + ") " + why);
    }

    std::size_t push(Device device) {
        stack_.devices.push_back(std::move(device));
        return stack_.devices.size() - 1;
    }

    static Device device_of(const std::string& name, Kind kind, std::uint64_t size,
                            bool read_only) {
        Device d;
        d.name = name;
        d.kind = kind;
        d.size = size;
        d.read_only = read_only;
        return d;
    }

    Index visit(const std::string& number) {
        const auto found = by_number_.find(number);
        if (found == by_number_.end())
            return fail(Errc::corrupt, "device " + number + " is beneath another and not there");
        if (const auto done = index_.find(number); done != index_.end())
            return done->second;
        if (std::find(way_.begin(), way_.end(), number) != way_.end())
            return nonsense(*found->second, "lies on itself");
        if (way_.size() > max_depth)
            return nonsense(*found->second, "lies deeper than is looked");
        way_.push_back(number);
        const auto index = make(*found->second);
        way_.pop_back();
        if (index)
            index_[number] = *index;
        return index;
    }

    Index make(const BlockDevice& d) {
        if (!d.opaque.empty()) {
            Device leaf = device_of(d.name, Kind::opaque, d.size, d.read_only);
            leaf.obstacle = d.opaque;
            return push(std::move(leaf));
        }
        if (d.partition && !d.table.empty())
            return nonsense(d, "is a partition and has a table");
        if (d.partition)
            return make_partition(d);
        if (d.table.empty())
            return push(device_of(d.name, Kind::opaque, d.size, d.read_only));
        const auto& last = d.table.back();
        if (last.first > d.size || last.count != d.size - last.first)
            return nonsense(d, "has a table of another size");
        if (d.table.size() == 1)
            return make_target(d, d.table.front(), d.name);
        return make_concatenation(d);
    }

    Index make_partition(const BlockDevice& d) {
        const auto parent = visit(d.partition->parent);
        if (!parent)
            return parent;
        Device device = device_of(d.name, Kind::linear, d.size, d.read_only);
        device.legs.push_back({*parent, d.partition->first, 0, d.size, PathState::active});
        return push(std::move(device));
    }

    // Linear lines lie on what is beneath, each other one on a layer of its own.
    Index make_concatenation(const BlockDevice& d) {
        Device device = device_of(d.name, Kind::linear, d.size, d.read_only);
        for (const auto& line : d.table) {
            Leg leg{0, 0, line.first, line.count, PathState::active};
            const auto target = read(d, line);
            if (!target)
                return tl::unexpected(target.error());
            const bool linear = target->kind == Kind::linear;
            const auto beneath =
                linear ? visit(target->legs[0].number)
                       : make_target(d, line, d.name + " from LBA " + std::to_string(line.first));
            if (!beneath)
                return beneath;
            leg.device = *beneath;
            leg.offset = linear ? target->legs[0].offset : 0;
            device.legs.push_back(leg);
        }
        return push(std::move(device));
    }

    Result<Target> read(const BlockDevice& d, const TableLine& line) const {
        auto target = parse_target(line);
        if (!target)
            return nonsense(d, "has no sound table: " + target.error().reason);
        const auto uses = [&](const std::string& number) {
            return std::find(d.depends.begin(), d.depends.end(), number) != d.depends.end();
        };
        for (const auto& leg : target->legs)
            if (!uses(leg.number))
                return nonsense(d, "does not depend on " + leg.number + ", which its table names");
        for (const auto& other : target->others)
            if (!uses(other))
                return nonsense(d, "does not depend on " + other + ", which its table names");
        return target;
    }

    Index make_target(const BlockDevice& d, const TableLine& line, const std::string& name) {
        const auto target = read(d, line);
        if (!target)
            return tl::unexpected(target.error());
        if (target->kind == Kind::endpoint)
            return make_endpoint(d, line, *target, name);
        Device device = device_of(name, target->kind, line.count, d.read_only);
        device.chunk = target->chunk;
        device.obstacle = target->obstacle;
        for (const auto& leg : target->legs) {
            const auto beneath = visit(leg.number);
            if (!beneath)
                return beneath;
            device.legs.push_back({*beneath, leg.offset, 0, 0, PathState::active});
        }
        if (device.kind == Kind::linear)
            device.legs[0].count = line.count;
        if (device.kind == Kind::multipath && !d.path_status.empty())
            if (auto r = set_states(d, *target, device); !r)
                return tl::unexpected(r.error());
        if (device.kind == Kind::mirror)
            if (auto r = set_copying(d, line, device); !r)
                return tl::unexpected(r.error());
        return push(std::move(device));
    }

    static Result<void> set_copying(const BlockDevice& d, const TableLine& line, Device& device) {
        for (const auto& status : d.status) {
            if (status.first != line.first)
                continue;
            const auto copying = parse_copying(status);
            if (!copying)
                return nonsense(d, copying.error().reason);
            device.copying = *copying;
        }
        return {};
    }

    static Result<void> set_states(const BlockDevice& d, const Target& target, Device& device) {
        const auto states = parse_path_states(d.path_status);
        if (!states)
            return nonsense(d, "has no sound status: " + states.error().reason);
        for (std::size_t i = 0; i < device.legs.size(); i++) {
            const auto state = states->find(target.legs[i].number);
            if (state == states->end())
                return nonsense(d, "has a path whose state is not said: " + target.legs[i].number);
            device.legs[i].state = state->second;
        }
        return {};
    }

    // An endpoint counts in LBAs of the device beneath it: where it begins further on, a linear
    // layer says so.
    Index make_endpoint(const BlockDevice& d, const TableLine& line, const Target& target,
                        const std::string& name) {
        const auto offset = target.legs[0].offset;
        if (offset > max_lbas || line.count > max_lbas)
            return nonsense(d, "lies beyond the end of any device");
        const auto facts = description_.endpoints.find(target.uuid);
        const bool known = facts != description_.endpoints.end();
        Device leaf = device_of(offset ? target.uuid : name,
                                known && facts->second.engines ? Kind::endpoint : Kind::fence,
                                offset + line.count, d.read_only);
        leaf.uuid = target.uuid;
        leaf.endpoint.data_unit = target.data_unit;
        leaf.endpoint.engines = known ? facts->second.engines : 0;
        leaf.endpoint.ready = known ? facts->second.ready : DEK_OK;
        const auto index = push(std::move(leaf));
        if (offset == 0)
            return index;
        Device layer = device_of(name, Kind::linear, line.count, d.read_only);
        layer.legs.push_back({index, offset, 0, line.count, PathState::active});
        return push(std::move(layer));
    }

    const Description& description_;
    std::map<std::string, const BlockDevice*> by_number_;
    std::map<std::string, std::size_t> index_;
    std::vector<std::string> way_; // from the top to here
    Stack stack_;
};

} // namespace

Result<Stack> build_stack(const Description& description, const std::string& top) {
    return Builder(description).build(top);
}

} // namespace dek::kcm::layers
