// SPDX-License-Identifier: Apache-2.0
// Keys (their names and states, never material) and the keystore for people.
#pragma once

#include <ostream>

#include "answer.h"

namespace dek::ctl {

void print_key_line(std::ostream& out, const Json& key);
void print_keys(std::ostream& out, const Json& answer);
void print_key(std::ostream& out, const Json& key);
void print_wrapped(std::ostream& out, const Json& answer);
void print_keystore(std::ostream& out, const Json& answer);
void print_slot(std::ostream& out, const Json& answer);
void print_restored(std::ostream& out, const Json& answer);
void print_flushed(std::ostream& out, const Json& answer);

} // namespace dek::ctl
