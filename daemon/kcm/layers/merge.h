// SPDX-License-Identifier: Apache-2.0
// One status out of several, for the one block that goes up.
#pragma once

#include <dek/codec.h>

namespace dek::kcm::layers {

// The worse of two: Invalid HW State, Invalid Key, Invalid Range; then what will not pass by
// itself, in the order of the numbers; No Memory, Association Overflow, Busy; Success. A status
// that has no name counts as Invalid HW State.
dek_status worse(dek_status a, dek_status b);

// Says something of the one who answers, not of the command: another may well carry it out.
bool is_of_the_leg(dek_status status);

} // namespace dek::kcm::layers
