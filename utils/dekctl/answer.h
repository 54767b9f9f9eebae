// SPDX-License-Identifier: Apache-2.0
// What the controller answered: JSON of another process, so nothing about it is taken for granted.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/result.h"

namespace dek::ctl {

using Json = nlohmann::ordered_json; // members stay in the controller's order

// Errc::internal when the text is not one JSON object of sane depth.
Result<Json> parse_answer(std::string_view text);

// ASCII only, so it is harmless on a terminal. `indent` -1: one line.
std::string json_text(const Json& value, int indent);

// The accessors below never fail: a member that is missing, null or of another kind is "not there".
// Texts come out printable().
std::string text_of(const Json& value);                      // any scalar; "-" if not there
std::string text_at(const Json& object, const char* member); // likewise
bool has(const Json& object, const char* member);            // there, not null, not ""
std::optional<std::uint64_t> number_at(const Json& object, const char* member);
bool flag_at(const Json& object, const char* member);
const Json& array_at(const Json& object, const char* member);  // or an empty array
const Json& object_at(const Json& object, const char* member); // or an empty object

// The object with these members first, in this order, and the others after them.
Json ordered(const Json& object, std::initializer_list<const char*> first);

} // namespace dek::ctl
