// SPDX-License-Identifier: Apache-2.0
// Options of the command line that become arguments of the controller's call, checked as far as
// that goes without the controller. What is wrong with one is a usage error (CLI::ValidationError).
#pragma once

#include <cstdint>
#include <string>

#include "session.h"

namespace dek::ctl {

// Each binds the option (or positional) `name` to the member `argument` of the call. `type` stands
// for the value in --help.
CLI::Option* text_option(CLI::App& app, Session& session, const char* name, const char* argument,
                         const char* type, const char* help);
CLI::Option* number_option(CLI::App& app, Session& session, const char* name, const char* argument,
                           const char* type, const char* help);
CLI::Option* flag_option(CLI::App& app, Session& session, const char* name, const char* argument,
                         const char* help);
// One of a few words.
CLI::Option* choice_option(CLI::App& app, Session& session, const char* name, const char* argument,
                           std::vector<std::string> words, const char* help);
// Made absolute, because the controller has a working directory of its own.
CLI::Option* path_option(CLI::App& app, Session& session, const char* name, const char* argument,
                         const char* type, const char* help);

// Positionals. Error sentences name what they were given.
void device_argument(CLI::App& app, Session& session);
CLI::Option* named_argument(CLI::App& app, Session& session, const char* name, const char* argument,
                            const char* help);
// --header-at, --header
void header_place(CLI::App& app, Session& session);

// The path from the root, symbolic links left alone (a link in /dev/disk/by-id outlives /dev/sdb).
std::string absolute(const std::string& path);
// Decimal, at most 2^53. `option` for the error.
std::uint64_t number_from(const std::string& text, const std::string& option);
// The grammar of ranges (LunMap::parse) holds; the end of the volume is the controller's to check.
void check_ranges(const std::string& ranges, const std::string& option);
// CLI::ValidationError.
[[noreturn]] void usage_error(const std::string& option, const std::string& why);

} // namespace dek::ctl
