// SPDX-License-Identifier: Apache-2.0
// Volumes for people: the line after a change, the overview, and one volume in full.
#pragma once

#include <ostream>

#include "answer.h"

namespace dek::ctl {

void print_volume_line(std::ostream& out, const Json& volume);
void print_status(std::ostream& out, const Json& answer);  // a table, then shim, keystore, daemon
void print_volumes(std::ostream& out, const Json& answer); // each in full
void print_erased(std::ostream& out, const Json& answer);

} // namespace dek::ctl
