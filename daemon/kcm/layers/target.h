// SPDX-License-Identifier: Apache-2.0
// What one device-mapper table line says about the layer it makes.
#pragma once

#include <map>

#include "kcm/layers/stack.h"
#include "kcm/layers/table_line.h"

namespace dek::kcm::layers {

struct TargetLeg {
    std::string number; // "8:16"
    std::uint64_t offset = 0;
};

struct Target {
    Kind kind = Kind::opaque; // a dek target: endpoint
    std::uint32_t chunk = 0;
    std::vector<TargetLeg> legs;
    std::vector<std::string> others; // devices used for logs and metadata
    std::string obstacle;
    std::string uuid;            // dek
    std::uint32_t data_unit = 0; // dek: bytes
};

// linear, striped, mirror, raid (raid1), multipath and dek; crypt and whatever else is opaque, with
// an obstacle that says what it is. Errc::corrupt for parameters the kernel would not have taken.
Result<Target> parse_target(const TableLine& line);

// From the status line of a mirror or raid1: whether it copies from leg to leg by itself.
// Errc::corrupt where it does not say.
Result<bool> parse_copying(const TableLine& status);

// From the parameters of a multipath's status line; by number.
Result<std::map<std::string, PathState>> parse_path_states(std::string_view status);

} // namespace dek::kcm::layers
