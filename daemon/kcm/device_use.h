// SPDX-License-Identifier: Apache-2.0
// Is anybody else using a device? Mounts, swap, holders (device-mapper, md), loop devices,
// exclusive openers.
#pragma once

#include <chrono>
#include <string>

#include "kcm/device.h"

namespace dek::kcm {

// Where the kernel tells; tests point it at files of their own.
struct KernelView {
    std::string mountinfo = "/proc/self/mountinfo";
    std::string swaps = "/proc/swaps";
    std::string sys = "/sys";
    std::string proc = "/proc";
};

// Errc::busy with who has it, or nothing. For a block device its partitions are asked about too. A
// look, not a lock: whoever opens it afterwards with O_EXCL decides.
Result<void> check_unused(const Device& device, const KernelView& kernel = {});

// The exclusive claim, for as long as the descriptor lives: nobody mounts a block device, swaps on
// it or claims it meanwhile; on a file it is an exclusive flock(2), which shims and other
// controllers take as well. Errc::busy when somebody has it.
Result<Fd> claim(const Device& device);
// The same after the look of check_unused(): for whoever goes on to write.
Result<Fd> claim_unused(const Device& device, const KernelView& kernel = {});

// The same for whoever must not meet anybody who has it open at all, exclusively or not. Others of
// that kind may still come.
Result<Fd> claim_closed(const Device& device, const KernelView& kernel = {});
// Of a block device that udev and others may just have a look at: tried for `patience`.
Result<Fd> seize_device(const std::string& node, std::chrono::milliseconds patience);

} // namespace dek::kcm
