// SPDX-License-Identifier: Apache-2.0
// Endpoints, and the blocks of the protocol field by field, for people.
#pragma once

#include <ostream>

#include "answer.h"

namespace dek::ctl {

void print_endpoints(std::ostream& out, const Json& answer);
// Command and response side by side, one field a line; with `hex`, both byte by byte as well.
void print_exchange(std::ostream& out, const Json& answer, bool hex);

} // namespace dek::ctl
