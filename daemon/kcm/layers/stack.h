// SPDX-License-Identifier: Apache-2.0
// A storage stack as a value: which device lies on which, and what the leaves can do. Discovery
// fills it, the layers and the decision read it. LBAs are 512-byte sectors of the device they are
// said of.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <dek/codec.h>
#include <dek/ioctl.h>

#include "base/result.h"

namespace dek::kcm::layers {

enum class Kind {
    endpoint,  // leaf: a dek leg with an engine
    fence,     // leaf: a dek leg that cannot encrypt, and so lets nothing encrypted pass
    opaque,    // leaf: whatever else; I/O passes it as it is
    linear,    // segments one after the other: partitions, dm-linear, logical volumes
    striped,   // dm-stripe
    mirror,    // dm-mirror, raid1: every leg holds all
    multipath, // every leg leads to the same
};

enum class PathState {
    active,
    standby, // may carry I/O as soon as the active ones are gone
    failed,  // carries none until it is reinstated
};

// A device as the layer above it uses it.
struct Leg {
    std::size_t device = 0;   // index in Stack::devices
    std::uint64_t offset = 0; // LBA of that device where the leg begins
    // linear only: the layer's LBAs that lie here.
    std::uint64_t first = 0;
    std::uint64_t count = 0;
    PathState state = PathState::active; // multipath only

    bool may_carry_io() const { return state != PathState::failed; }
    bool operator==(const Leg&) const = default;
};

// What an endpoint says it can do.
struct Capability {
    std::uint32_t engines = 0;      // DEK_ENGINE_*
    std::uint32_t data_unit = 4096; // bytes
    dek_status ready = DEK_OK;      // what it answered last; anything else and it cannot now
    bool operator==(const Capability&) const = default;
};

struct Device {
    std::string name; // as administrators write it: "/dev/mapper/vg-lv"
    Kind kind = Kind::opaque;
    std::uint64_t size = 0; // LBAs
    bool read_only = false;
    std::uint32_t chunk = 0; // striped: LBAs
    bool copying = false;    // mirror: from leg to leg, by itself
    std::vector<Leg> legs;
    Capability endpoint;  // of an endpoint
    std::string uuid;     // of a dek leg
    std::string obstacle; // why nothing beneath may encrypt; empty: nothing is in the way
    bool operator==(const Device&) const = default;

    bool leaf() const {
        return kind == Kind::endpoint || kind == Kind::fence || kind == Kind::opaque;
    }
    // One leg that can is enough: a multipath, or a mirror that is only read. (Copies on one and
    // the same device stand and fall together.)
    bool any_leg_serves() const {
        return kind == Kind::multipath || (kind == Kind::mirror && read_only && legs_apart());
    }
    // No two legs on one device.
    bool legs_apart() const;
};

struct Stack {
    std::vector<Device> devices; // each after all that lie beneath it
    std::size_t top = 0;
    bool operator==(const Stack&) const = default;

    const Device& operator[](std::size_t i) const { return devices[i]; }
};

// More devices, or more ways from the top to a leaf, than any real stack has: refused.
inline constexpr std::size_t max_devices = 4096;
inline constexpr std::size_t max_routes = 4096;
inline constexpr std::size_t max_depth = 16;
inline constexpr std::uint64_t max_lbas = 1ull << 55;

// Everything the other functions here take for granted: legs lead down and fit, segments leave no
// gap, stripes come out even. Errc::corrupt, with a sentence that names the device.
Result<void> validate(const Stack& stack);

const char* kind_text(Kind kind); // "multipath"
// "multipath /dev/mapper/mpatha", for sentences.
std::string title(const Device& device);

} // namespace dek::kcm::layers
