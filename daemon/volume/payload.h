// SPDX-License-Identifier: Apache-2.0
// The JSON text of a header copy: to and from Header, and the strict parser for it.
#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/result.h"
#include "volume/header.h"

namespace dek::volume {

// Rejects what is no JSON, invalid UTF-8, nesting beyond max_depth, and a member twice in one
// object. Errc::corrupt. Memory in proportion to the text; no recursion, no exceptions.
Result<nlohmann::json> parse_json(std::string_view text, std::size_t max_depth);

bool is_utf8(const std::string& text);

// Of a header that validate() accepts.
std::string payload_text(const Header& header);
// Fills in everything but flags, sequence and ranges. Types, forms and names of members are checked
// here, what they say by validate(). `lenient`: unknown members of the outermost object pass.
Result<void> read_payload(std::string_view text, bool lenient, Header& header);

} // namespace dek::volume
