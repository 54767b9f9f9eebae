// SPDX-License-Identifier: Apache-2.0
// Fuzzes /dev/dek-control and the target's table parser, with I/O beside it. The kernel's checkers
// are the judges.
#pragma once

#include <cstdint>

// Several processes for so many seconds; prints how often each thing went well and how often it was
// refused. False: one of them died or hangs, what was made cannot be taken away again, or some call
// never went well (then little was tested).
bool fuzz(unsigned seconds, std::uint64_t seed);
