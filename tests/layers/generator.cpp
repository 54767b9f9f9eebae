// SPDX-License-Identifier: Apache-2.0
#include "generator.h"

#include <algorithm>

namespace bench {

std::uint64_t Random::next() { // splitmix64
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

std::uint64_t Generator::grain() {
    return random_.chance(oddities_) ? random_.between(1, unit_) : unit_;
}

std::string Generator::name() {
    return "d" + std::to_string(names_++);
}

std::size_t Generator::push(Device device) {
    stack_.devices.push_back(std::move(device));
    return stack_.devices.size() - 1;
}

Device Generator::leaf_of(std::uint64_t size) {
    auto kind = Kind::endpoint;
    if (random_.chance(strangers_))
        kind = random_.chance(65) ? Kind::fence : Kind::opaque;
    const bool other_unit = random_.chance(oddities_ / 4);
    Device d = leaf(name(), kind, size + random_.below(3) * unit_,
                    static_cast<std::uint32_t>((other_unit ? (unit_ == 1 ? 2 : 1) : unit_) * 512));
    // An endpoint ends with a data unit.
    const auto lbas = d.endpoint.data_unit / 512;
    d.size = (d.size + lbas - 1) / lbas * lbas;
    if (random_.chance(strangers_ / 3))
        d.endpoint.ready = random_.chance(50) ? DEK_NO_MEMORY : DEK_INVALID_HW_STATE;
    return d;
}

// n legs of `length` LBAs, each on a device of its own, or all on one, in any order.
std::vector<Leg> Generator::legs_on(unsigned depth, std::uint64_t n, std::uint64_t length) {
    std::vector<Leg> legs(n);
    const bool shared = n > 1 && random_.chance(20);
    std::vector<std::uint64_t> places(n);
    for (std::uint64_t i = 0; i < n; i++)
        places[i] = i;
    for (std::uint64_t i = n; i > 1; i--)
        std::swap(places[i - 1], places[random_.below(i)]);
    const auto gap = (length + unit_ - 1) / unit_ * unit_ + random_.below(3) * grain();
    const auto start = random_.below(3) * grain();
    const auto device = shared ? make(depth, start + n * gap) : 0;
    for (std::uint64_t i = 0; i < n; i++) {
        legs[i].offset = shared ? start + places[i] * gap : random_.below(4) * grain();
        legs[i].device = shared ? device : make(depth, legs[i].offset + length);
    }
    return legs;
}

std::size_t Generator::make_linear(unsigned depth, std::uint64_t size) {
    const auto legs = legs_on(depth, random_.between(1, 3), size);
    std::vector<Segment> segments;
    std::uint64_t left = size;
    for (const auto& leg : legs) {
        const auto some = (random_.below(left / unit_ + 1)) * grain();
        const auto count = &leg == &legs.back() ? left : std::min(left, some);
        if (count)
            segments.push_back({leg.device, leg.offset, count});
        left -= count;
    }
    return push(linear(name(), segments));
}

std::size_t Generator::make_striped(unsigned depth, std::uint64_t size) {
    const auto n = random_.between(1, 3);
    const auto chunk = random_.between(1, 4) * grain();
    const auto rows = (size + n * chunk - 1) / (n * chunk);
    return push(striped(name(), static_cast<std::uint32_t>(chunk), rows * n * chunk,
                        legs_on(depth, n, rows * chunk)));
}

std::size_t Generator::make_mirror(unsigned depth, std::uint64_t size) {
    Device d = mirror("", size, legs_on(depth, random_.between(1, 3), size));
    d.name = name();
    d.read_only = random_.chance(45);
    return push(std::move(d));
}

std::size_t Generator::make_multipath(unsigned depth, std::uint64_t size) {
    std::vector<Leg> legs(random_.between(1, 3));
    for (auto& leg : legs) {
        leg.device = make(random_.chance(70) ? 0 : depth, size);
        if (random_.chance(25))
            leg.state = random_.chance(50) ? PathState::failed : PathState::standby;
    }
    Device d = multipath(name(), size, legs);
    if (random_.chance(oddities_ / 3))
        d.obstacle = "is request-based";
    return push(std::move(d));
}

// A device of at least `size` LBAs.
std::size_t Generator::make(unsigned depth, std::uint64_t size) {
    const auto kind = depth == 0 ? 0 : random_.below(100);
    if (kind < 20)
        return push(leaf_of(size));
    if (kind < 45)
        return make_linear(depth - 1, size);
    if (kind < 65)
        return make_striped(depth - 1, size);
    return kind < 80 ? make_mirror(depth - 1, size) : make_multipath(depth - 1, size);
}

Stack Generator::stack() {
    stack_ = {};
    unit_ = 1ull << random_.below(4);
    oddities_ = random_.chance(70) ? 0 : 8;
    strangers_ = random_.chance(50) ? 0 : 15;
    // A few have more ranges than a block.
    const auto units = random_.chance(4) ? random_.between(150, 200) : random_.between(4, 24);
    stack_.top = make(static_cast<unsigned>(random_.between(1, 4)), units * unit_);
    return stack_;
}

dek_geometry Generator::geometry(const Stack& stack) {
    origin_ = random_.chance(50) ? 0 : random_.below(stack[stack.top].size / unit_ / 3 + 1) * unit_;
    const auto logical = random_.chance(70) ? 0 : random_.below(1000) * unit_;
    const bool lba512 = random_.chance(30);
    return {static_cast<__u32>(unit_ * 512),
            static_cast<__u8>(lba512 ? DEK_TWEAK_LBA512 : DEK_TWEAK_UNIT),
            origin_,
            logical,
            0,
            0,
            0};
}

LunMap Generator::ranges(const Stack& stack) {
    const auto units = stack[stack.top].size / unit_;
    const auto begin = origin_ / unit_;
    std::vector<dek_range> all;
    const auto longest = random_.chance(10) ? 1 : random_.between(1, 12);
    for (auto at = begin + random_.below(2); at < units;) {
        const auto count = std::min(random_.between(1, longest), units - at);
        all.push_back({at * unit_, count * unit_});
        at += count + random_.between(1, longest);
    }
    if (all.empty())
        all.push_back({begin * unit_, unit_});
    return map_of(std::move(all));
}

} // namespace bench
