// SPDX-License-Identifier: Apache-2.0
// Text on its way to a terminal: what a name, a path or an error sentence may not do there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace dek::ctl {

// Control characters (C0, DEL, C1), directional overrides and bytes that are not UTF-8 become \xNN
// or \u{NNNN}, a backslash stays as it is. The result cannot move the cursor or change a colour.
std::string printable(std::string_view text);

bool valid_utf8(std::string_view text);

// Columns on the terminal: code points, which is right for all but double-width scripts.
std::size_t columns_of(std::string_view utf8);

// "9.5 MiB" from 512-byte LBAs.
std::string size_of_lbas(std::uint64_t lbas);
std::string size_of_bytes(std::uint64_t bytes);

// "1 key", "2 keys".
std::string counted(const std::string& number, const std::string& noun);

} // namespace dek::ctl
