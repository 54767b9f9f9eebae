// SPDX-License-Identifier: Apache-2.0
// JSON objects for people: one "label: value" a line, as wg(8) prints them.
#pragma once

#include <ostream>
#include <string>

#include "answer.h"

namespace dek::ctl {

// "label: value", or nothing when the member is not there. Labels are member names with spaces for
// underscores unless given.
void print_field(std::ostream& out, const std::string& indent, const Json& object,
                 const char* member, const char* label = nullptr);
// All members in their order: scalars as fields, objects and arrays of objects indented (the latter
// as tables), arrays of scalars joined by commas.
void print_fields(std::ostream& out, const std::string& indent, const Json& object);
// "a, b, c" of an array of scalars; "-" when empty.
std::string joined(const Json& array);
// "2026-11-21 12:00:00" in local time; "-" if not there.
std::string time_at(const Json& object, const char* member);
// "yes", "no", or `unknown` when the member is not a boolean.
std::string yes_no(const Json& object, const char* member, const char* unknown = "-");

} // namespace dek::ctl
