// SPDX-License-Identifier: Apache-2.0
// What libblkid recognises on a device: filesystems, LUKS, RAID and LVM members, swap, partition
// tables.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace dek::kcm {

struct Signature {
    std::string type; // "ext4", "crypto_LUKS", "LVM2_member", "swap", "gpt", ...
    bool partition_table = false;
    std::uint64_t byte = 0; // of its magic, from the start of the device
    std::string uuid;       // of a filesystem, where it has one
    std::string label;

    std::string text() const; // "an ext4 signature", "a gpt partition table"
};

// All that are found in [byte, byte + n) of the open device, as if that stretch were a device of
// its own. Errc::io. `what` names the device in the error.
Result<std::vector<Signature>> find_signatures(int fd, std::uint64_t byte, std::uint64_t n,
                                               const std::string& what);

// True when the signature is swap space or the filesystem this system has as its root, going by
// /etc/fstab and the kernel's command line.
bool is_swap_or_root(const Signature& signature, const std::string& fstab = "/etc/fstab",
                     const std::string& cmdline = "/proc/cmdline");

} // namespace dek::kcm
