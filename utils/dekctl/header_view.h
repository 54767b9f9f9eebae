// SPDX-License-Identifier: Apache-2.0
// Volume headers for people.
#pragma once

#include <ostream>

#include "answer.h"

namespace dek::ctl {

void print_header(std::ostream& out, const Json& header);
void print_header_copy(std::ostream& out, const Json& answer); // backed up or restored

} // namespace dek::ctl
