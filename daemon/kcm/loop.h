// SPDX-License-Identifier: Apache-2.0
// Loop devices: the block device on a volume file of the userspace shim.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "base/result.h"

namespace dek::kcm {

// A new loop device on `file` with direct I/O and this logical block size (bytes); its path.
// Errc::unsupported where the kernel has none.
Result<std::string> attach_loop(const std::string& file, std::uint32_t logical_block,
                                bool read_only);

// The loop device on `file`, if any.
std::optional<std::string> find_loop(const std::string& file);

// Flushes and detaches. Errc::busy when it is still open, mounted or held after `patience`; it is
// as before then. Fine when it is not attached any more, or is on another file than `file`.
Result<void> detach_loop(const std::string& loop, const std::string& file,
                         std::chrono::milliseconds patience);

// Takes over the new size of its file.
Result<void> resize_loop(const std::string& loop);

} // namespace dek::kcm
