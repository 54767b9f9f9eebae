// SPDX-License-Identifier: Apache-2.0
// What went wrong on the way to the controller or inside it, as a code and a sentence.
#pragma once

#include <string>

#include "base/result.h"

namespace dek::ctl {

// The controller's refusal, or D-Bus's own. Either text may be null.
tl::unexpected<Error> call_error(const char* name, const char* sentence);
// connect(2) failed with `error`.
tl::unexpected<Error> socket_error(const std::string& path, int error);
// The connection broke with `error`.
tl::unexpected<Error> lost(int error);
// Both are alive and do not understand each other.
tl::unexpected<Error> mismatch(const std::string& how);

// What to do about it; empty: the sentence says it all.
std::string advice(const Error& error);

} // namespace dek::ctl
