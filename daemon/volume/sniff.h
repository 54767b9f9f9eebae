// SPDX-License-Identifier: Apache-2.0
// What can be said of bytes that may be a header copy, whatever its version.
#pragma once

#include <cstdint>

#include "volume/header.h"
#include "volume/rule.h"
#include "volume/seal.h"

namespace dek::volume {

struct Sniffed {
    CopyState state = CopyState::empty; // valid: size and SHA-256 hold, no more is known
    Rule flaw = Rule::magic;            // unless valid
    Bytes bytes;                        // the copy, within the caller's bytes; valid ones only
    std::uint64_t sequence = 0;         // valid ones only
};
Sniffed sniff(Bytes bytes);

} // namespace dek::volume
