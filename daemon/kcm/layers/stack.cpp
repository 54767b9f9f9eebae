// SPDX-License-Identifier: Apache-2.0
#include "kcm/layers/stack.h"

#include <algorithm>
#include <set>

namespace dek::kcm::layers {
namespace {

tl::unexpected<Error> nonsense(const Device& d, const std::string& why) {
    return fail(Errc::corrupt, title(d) + " " + why);
}

bool fits(std::uint64_t first, std::uint64_t count, std::uint64_t size) {
    return first <= size && count <= size - first;
}

Result<void> check_leaf(const Device& d) {
    const auto unit = d.endpoint.data_unit;
    if (!d.legs.empty() || d.chunk)
        return nonsense(d, "is a leaf and has something beneath it");
    if (unit < 512 || unit > 4096 || (unit & (unit - 1)))
        return nonsense(d, "has data units of " + std::to_string(unit) + " bytes");
    return {};
}

Result<void> check_linear(const Device& d) {
    std::uint64_t next = 0;
    for (const auto& leg : d.legs) {
        if (leg.first != next || leg.count == 0 || leg.count > d.size - next)
            return nonsense(d, "has a gap or an overlap at LBA " + std::to_string(next));
        next += leg.count;
    }
    return next == d.size ? Result<void>()
                          : nonsense(d, "ends at LBA " + std::to_string(next) + ", not at " +
                                            std::to_string(d.size));
}

Result<void> check_striped(const Device& d) {
    const auto n = d.legs.size();
    if (n > 0xffff || d.chunk == 0 || d.size % n || d.size / n % d.chunk)
        return nonsense(d, "does not come out even: " + std::to_string(d.size) + " LBAs in " +
                               std::to_string(n) + " stripes of chunks of " +
                               std::to_string(d.chunk));
    return {};
}

std::uint64_t length_on_leg(const Device& d, const Leg& leg) {
    if (d.kind == Kind::linear)
        return leg.count;
    return d.kind == Kind::striped ? d.size / d.legs.size() : d.size;
}

Result<void> check_legs(const Stack& stack, std::size_t index) {
    const Device& d = stack[index];
    for (const auto& leg : d.legs) {
        if (leg.device >= index)
            return nonsense(d, "lies on itself");
        if (!fits(leg.offset, length_on_leg(d, leg), stack[leg.device].size))
            return nonsense(d, "reaches beyond the end of " + title(stack[leg.device]));
        if (d.kind != Kind::linear && (leg.first || leg.count))
            return nonsense(d, "has segments");
        if (d.kind == Kind::multipath && leg.offset)
            return nonsense(d, "has a path that does not begin at LBA 0");
        if (d.kind != Kind::multipath && leg.state != PathState::active)
            return nonsense(d, "has a leg that is no path and has a path's state");
    }
    return {};
}

Result<void> check_shape(const Device& d) {
    if (d.size == 0 || d.size > max_lbas)
        return nonsense(d, "has a size of " + std::to_string(d.size) + " LBAs");
    if (d.leaf())
        return check_leaf(d);
    if (d.legs.empty())
        return nonsense(d, "has nothing beneath it");
    if (d.kind != Kind::striped && d.chunk)
        return nonsense(d, "has chunks and no stripes");
    if (d.kind == Kind::linear)
        return check_linear(d);
    if (d.kind == Kind::multipath && !d.legs_apart())
        return nonsense(d, "has one path twice");
    return d.kind == Kind::striped ? check_striped(d) : Result<void>();
}

// Depth and routes of every device, from the leaves up: what a walk of the stack will cost.
Result<void> check_extent(const Stack& stack) {
    std::vector<std::size_t> routes(stack.devices.size(), 1), depth(stack.devices.size(), 1);
    for (std::size_t i = 0; i < stack.devices.size(); i++) {
        const Device& d = stack[i];
        if (d.leaf())
            continue;
        routes[i] = 0;
        for (const auto& leg : d.legs) {
            routes[i] += routes[leg.device];
            depth[i] = std::max(depth[i], depth[leg.device] + 1);
        }
        if (routes[i] > max_routes || depth[i] > max_depth)
            return nonsense(d, "has more beneath it than is looked through");
    }
    return {};
}

} // namespace

bool Device::legs_apart() const {
    std::set<std::size_t> devices;
    for (const auto& leg : legs)
        devices.insert(leg.device);
    return devices.size() == legs.size();
}

Result<void> validate(const Stack& stack) {
    if (stack.devices.empty() || stack.devices.size() > max_devices ||
        stack.top >= stack.devices.size())
        return fail(Errc::corrupt, "a storage stack of " + std::to_string(stack.devices.size()) +
                                       " devices has no top, or too many of them");
    std::set<std::string> names;
    for (std::size_t i = 0; i < stack.devices.size(); i++) {
        if (!names.insert(stack[i].name).second)
            return nonsense(stack[i], "is there twice");
        if (auto r = check_shape(stack[i]); !r)
            return r;
        if (auto r = check_legs(stack, i); !r)
            return r;
    }
    return check_extent(stack);
}

const char* kind_text(Kind kind) {
    static const char* const text[] = {"endpoint", "fence",  "device",   "linear",
                                       "striped",  "mirror", "multipath"};
    return text[static_cast<int>(kind)];
}

std::string title(const Device& device) {
    return std::string(kind_text(device.kind)) + " " + device.name;
}

} // namespace dek::kcm::layers
