// SPDX-License-Identifier: Apache-2.0
// What differs between the transports a conformance run may be for: how a volume comes to be and
// where its node is. Everything else in this suite goes through the ioctl interface and plain I/O.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include <dek/ioctl.h>

namespace conformance {

using Uuid = std::array<std::uint8_t, DEK_UUID_SIZE>;

struct Spec {
    std::uint64_t sectors = 4096;
    std::uint64_t offset = 0; // sectors of the device before the volume
    std::uint32_t data_unit = 4096;
    std::uint32_t logical_block = 4096;
    unsigned delay_ms = 0; // each operation of the device takes so long
    bool read_only = false;
    bool no_engine = false;
};

// A volume over a device of its own. `node`: where to do I/O; `backing`: a file with the device's
// bytes.
struct Place {
    Uuid uuid{};
    std::string name, node, backing;
};

class Stage {
  public:
    virtual ~Stage() = default;
    virtual std::string control() const = 0; // path of the control file
    virtual Place make(const Spec& spec) = 0;
    virtual void remove(const Place& place) = 0;
    // The endpoint ends and begins a new life, with the same UUID, without its keys. False: this
    // transport has no such thing to do on purpose.
    virtual bool new_life() { return false; }
};

// `kind`: "fuse" (`program`: dek-shimd, started for this run) or "kernel" (dm-dek, loaded already).
// Throws std::runtime_error.
std::unique_ptr<Stage> make_stage(const std::string& kind, const std::string& program,
                                  const std::string& slowfs);

// The one of this run.
Stage& stage();

} // namespace conformance
