// SPDX-License-Identifier: Apache-2.0
// The recovery key as people write it down and type it in: 8 groups of 8 characters. A group
// carries 4 bytes of the key and a checksum over its place and those bytes, so that a slip of the
// pen is found, and told by its group, before anything is tried.
#pragma once

#include "base/result.h"
#include "base/secret.h"

namespace dek::keys {

inline constexpr std::size_t recovery_key_size = 32;

// `key` has 32 bytes. Upper case, groups joined by '-': 71 characters.
Secret recovery_text(const Secret& key);
// Case, spaces, line ends and dashes do not matter; O reads as 0, I and L as 1. invalid_argument
// names the first group that is wrong, never what was typed.
Result<Secret> recovery_key_of(const Secret& text);

} // namespace dek::keys
