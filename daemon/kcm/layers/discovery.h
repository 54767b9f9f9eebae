// SPDX-License-Identifier: Apache-2.0
// From what the kernel says of block devices to a stack. Asks nobody: tables, dependencies and
// sysfs come as values.
#pragma once

#include <map>
#include <optional>

#include "kcm/layers/stack.h"
#include "kcm/layers/table_line.h"

namespace dek::kcm::layers {

struct BlockDevice {
    std::string number;     // "253:3"
    std::string name;       // for sentences: "/dev/mapper/vg-lv"
    std::uint64_t size = 0; // LBAs
    bool read_only = false;
    std::vector<TableLine> table;     // the live one; empty: not a device-mapper device
    std::vector<std::string> depends; // numbers of the devices that the table uses
    std::string path_status;          // multipath: its status line's parameters
    std::vector<TableLine> status;    // of a table with mirrors: all lines
    struct Partition {
        std::string parent; // number
        std::uint64_t first = 0;
    };
    std::optional<Partition> partition;
    std::string opaque; // why it is not looked into, whatever it is made of; empty: it is
};

// What a shim says of one of its endpoints.
struct EndpointFacts {
    std::uint32_t engines = 0; // DEK_ENGINE_*; none: it can only fence
    dek_status ready = DEK_OK;
};

struct Description {
    std::vector<BlockDevice> devices;
    std::map<std::string, EndpointFacts> endpoints; // by UUID
};

// What is beneath the device of this number. A dek leg whose UUID no shim knows is a fence.
// Errc::corrupt where the description contradicts itself: a ring, a device nobody describes, a
// dependency that the table does not bear out, sizes that do not fit. Valid by validate().
Result<Stack> build_stack(const Description& description, const std::string& top);

} // namespace dek::kcm::layers
