// SPDX-License-Identifier: Apache-2.0
// Loop devices: the block device on a volume file of the userspace shim, or beneath a volume of the
// kernel shim on an image file.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace dek::kcm {

// A new loop device on `file` with direct I/O and this logical block size (bytes); its path.
// Errc::unsupported where the kernel has none. With `hold` it is open there, and goes by itself
// when the last who has it open closes it.
Result<std::string> attach_loop(const std::string& file, std::uint32_t logical_block,
                                bool read_only, Fd* hold = nullptr);

// The file beneath a loop device that goes by itself; none: it is not one.
std::optional<std::string> held_loop_file(const std::string& loop);

// The loop device on `file`, if any.
std::optional<std::string> find_loop(const std::string& file);

// Flushes and detaches. Errc::busy when it is still open, mounted or held after `patience`; it is
// as before then. Fine when it is not attached any more, or is on another file than `file`.
Result<void> detach_loop(const std::string& loop, const std::string& file,
                         std::chrono::milliseconds patience);

// Takes over the size of its file, which is to be `lbas`; nothing is done where the device has that
// size. Whoever is killed meanwhile leaves a device of size 0 on a file system that answers late,
// until the next call.
Result<void> resize_loop(const std::string& loop, std::uint64_t lbas);

} // namespace dek::kcm
