// SPDX-License-Identifier: Apache-2.0
// Events and versions for people.
#pragma once

#include <ostream>

#include "answer.h"

namespace dek::ctl {

void print_event(std::ostream& out, const Json& event); // one line
void print_version(std::ostream& out, const Json& answer);

} // namespace dek::ctl
