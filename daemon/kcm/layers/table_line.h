// SPDX-License-Identifier: Apache-2.0
// Device-mapper's table lines, as `dmsetup table` prints them and the kernel takes them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace dek::kcm::layers {

struct TableLine {
    std::uint64_t first = 0; // 512-byte sectors
    std::uint64_t count = 0;
    std::string type;
    std::string parameters;
    bool operator==(const TableLine&) const = default;
};

// "FIRST COUNT TYPE PARAMETERS", a line each. Errc::corrupt: a line is none, or they leave gaps.
Result<std::vector<TableLine>> parse_table(std::string_view text);
std::string to_string(const TableLine& line);

// A number without sign, blanks or anything after it.
bool parse_number(std::string_view text, std::uint64_t& out);

} // namespace dek::kcm::layers
