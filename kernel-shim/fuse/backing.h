// SPDX-License-Identifier: Apache-2.0
// The device beneath a volume: opening it for direct I/O, and being sure that it is the same one.
#pragma once

#include <cstdint>
#include <string>

#include "base/fd.h"
#include "table.h"

namespace dek::shim {

struct Backing {
    Fd fd;
    DeviceIdentity identity;
    std::uint64_t sectors = 0;       // 512 bytes
    std::uint32_t logical_block = 0; // bytes; what direct I/O must be aligned to
    bool block_device = false;
};

// 0 or errno. A block device is opened exclusively, a file locked with flock() (EBUSY when somebody
// else has it so); that lasts until the last copy of the descriptor is closed.
int open_backing(const std::string& path, bool read_only, Backing& out);
// A file is free when this returns, even if somebody has not closed his copy yet.
void close_backing(Backing& backing);
// The same of a descriptor that is open already (and stays the caller's).
int describe_backing(int fd, Backing& out);

} // namespace dek::shim
