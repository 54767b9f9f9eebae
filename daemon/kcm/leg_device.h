// SPDX-License-Identifier: Apache-2.0
// The device beneath a leg: what lasts of its names, and which one it is now.
#pragma once

#include <optional>
#include <set>

#include "kcm/device.h"
#include "kcm/leg.h"

namespace dek::kcm {

// What sysfs says of a block device. Plain text, whatever a disk may say of itself.
struct BlockFacts {
    dev_t number = 0;
    std::string kernel_name; // "sdb"
    std::uint64_t lbas = 0;
    std::string wwid;    // "naa.6001405...", of a partition with "-part1"; empty: none
    std::string dm_name; // of a device-mapper device
    std::string dm_uuid;
};

// None: there is no such device (any more). `sys`: where sysfs is.
std::optional<BlockFacts> block_facts(dev_t number, const std::string& sys);

// The name of a device to be kept in a file: of `names`, one by what the device says of itself; of
// one path among several, by where it is plugged in; otherwise as device-mapper or the kernel calls
// it (names.front()).
std::string lasting_name(const std::vector<std::string>& names, bool path_of_several);

// Which device this leg belongs on.
struct Whereabouts {
    std::optional<BlockFacts> device;
    std::string obstacle; // there is one of its name, but another one than before; or several
};
// `taken`: devices that are other legs'. A device that says who it is is found by that, too, when
// it goes by another name; a path of several may be any of them. One without is known by its path
// and size only.
Whereabouts locate(const Leg& leg, const std::set<dev_t>& taken, const std::string& sys);

// Do these two reach the same disk? By what they say of themselves; where both say nothing, by size
// and the first MiB, unless there is nothing in that. Errc::refused with what is different.
Result<void> check_same_disk(const Device& a, const Device& b, const std::string& sys);

// How multipath-tools name a device: ID_SERIAL of scsi_id(8), or the NVMe namespace's. Empty: not
// known.
std::string multipath_wwid(const BlockFacts& facts);

} // namespace dek::kcm
