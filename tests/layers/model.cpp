// SPDX-License-Identifier: Apache-2.0
#include "model.h"

namespace model {

using dek::kcm::layers::Kind;
using dek::kcm::layers::PathState;

namespace {

bool usable_leg(const Device& d, std::size_t leg) {
    return d.kind != Kind::multipath || d.legs[leg].state != PathState::failed;
}

} // namespace

bool one_is_enough(const Device& d) {
    for (std::size_t a = 0; a < d.legs.size(); a++)
        for (std::size_t b = 0; b < a; b++)
            if (d.legs[a].device == d.legs[b].device)
                return false;
    return d.kind == Kind::multipath || (d.kind == Kind::mirror && d.read_only);
}

namespace {

// Every data unit lies in one piece and where a unit may begin.
bool whole(const Spots& spots, std::uint64_t unit) {
    if (spots.size() % unit)
        return false;
    for (std::size_t i = 0; i < spots.size(); i++) {
        const Spot& first = spots[i - i % unit];
        if (first.lba % unit || first.number % unit || spots[i].lba != first.lba + i % unit ||
            spots[i].number != first.number + i % unit)
            return false;
    }
    return true;
}

Capability leaf_capable(const Device& d, std::uint64_t unit) {
    return {d.kind == Kind::endpoint && d.endpoint.ready == DEK_OK && d.endpoint.engines != 0 &&
                d.endpoint.data_unit == unit * 512,
            false};
}

} // namespace

Spots below(const Device& d, std::size_t leg, const Spots& spots) {
    Spots found;
    const auto& l = d.legs[leg];
    for (const auto& spot : spots) {
        if (d.kind == Kind::linear) {
            if (spot.lba >= l.first && spot.lba < l.first + l.count)
                found.push_back({l.offset + spot.lba - l.first, spot.number});
        } else if (d.kind == Kind::striped) {
            const auto chunk = spot.lba / d.chunk;
            if (chunk % d.legs.size() == leg)
                found.push_back(
                    {l.offset + chunk / d.legs.size() * d.chunk + spot.lba % d.chunk, spot.number});
        } else {
            found.push_back({l.offset + spot.lba, spot.number});
        }
    }
    return found;
}

Capability capable(const Stack& stack, std::size_t device, const Spots& spots, std::uint64_t unit,
                   unsigned stripes) {
    const Device& d = stack[device];
    if (spots.empty())
        return {true, false};
    if (!d.obstacle.empty() || !whole(spots, unit))
        return {false, false};
    if (d.leaf())
        return leaf_capable(d, unit);
    const bool stripe = d.kind == Kind::striped && d.legs.size() > 1;
    if (stripe && d.chunk % unit)
        return {false, false};
    stripes += stripe;
    Capability all{!one_is_enough(d), stripes > 1};
    for (std::size_t leg = 0; leg < d.legs.size(); leg++) {
        const Spots there = below(d, leg, spots);
        if (!whole(there, unit))
            return {false, false};
        if (!usable_leg(d, leg))
            continue;
        const auto one = capable(stack, d.legs[leg].device, there, unit, stripes);
        all.stripes_twice = all.stripes_twice || one.stripes_twice;
        if (!one_is_enough(d)) {
            all.capable = all.capable && one.capable;
        } else {
            all.capable = all.capable || one.capable;
        }
    }
    if (one_is_enough(d))
        for (std::size_t leg = 0; leg < d.legs.size(); leg++) {
            const Spots there = below(d, leg, spots);
            if (!fenced(stack, d.legs[leg].device, there))
                all.capable = false;
        }
    all.capable = all.capable && stripes < 2;
    return all;
}

bool fenced(const Stack& stack, std::size_t device, const Spots& spots) {
    const Device& d = stack[device];
    if (spots.empty())
        return true;
    if (d.leaf())
        return d.kind != Kind::opaque;
    for (std::size_t leg = 0; leg < d.legs.size(); leg++)
        if (!fenced(stack, d.legs[leg].device, below(d, leg, spots)))
            return false;
    return true;
}

bool anybody(const Stack& stack, std::size_t device) {
    const Device& d = stack[device];
    if (d.leaf())
        return d.kind != Kind::opaque;
    for (std::size_t leg = 0; leg < d.legs.size(); leg++)
        if (usable_leg(d, leg) && anybody(stack, d.legs[leg].device))
            return true;
    return false;
}

void reach(const Stack& stack, std::size_t device, std::vector<bool>& reached) {
    const Device& d = stack[device];
    reached[device] = true;
    for (std::size_t leg = 0; leg < d.legs.size(); leg++)
        if (usable_leg(d, leg))
            reach(stack, d.legs[leg].device, reached);
}

void collect(const Stack& stack, std::size_t device, const Spots& spots, bool usable,
             Numbers& numbers) {
    const Device& d = stack[device];
    for (const auto& spot : spots)
        numbers[device][spot.lba] = spot.number;
    for (std::size_t leg = 0; leg < d.legs.size(); leg++)
        if (!usable || usable_leg(d, leg))
            collect(stack, d.legs[leg].device, below(d, leg, spots), usable, numbers);
}

Numbers numbers_of(const Stack& stack, const Spots& spots, bool usable) {
    Numbers numbers;
    for (const auto& d : stack.devices)
        numbers.emplace_back(d.size, none);
    collect(stack, stack.top, spots, usable, numbers);
    return numbers;
}

} // namespace model
