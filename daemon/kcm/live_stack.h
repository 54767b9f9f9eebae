// SPDX-License-Identifier: Apache-2.0
// What lies beneath a block device of this host at this moment: device-mapper's tables and states,
// partitions, and the endpoints that the shim knows.
#pragma once

#include <functional>

#include "kcm/dm_device.h"
#include "kcm/layers/discovery.h"
#include "kcm/shim.h"

namespace dek::kcm {

// Where the kernel tells; tests bring their own.
struct LiveKernel {
    std::string sys = "/sys";
    std::function<Result<DmTable>(const std::string& name)> table = dm_table;
    std::function<Result<DmTable>(const std::string& name)> status = dm_status;
    std::function<Result<std::vector<dev_t>>(const std::string& name)> beneath = dm_beneath;
};

// The stack beneath the block device `node`, which becomes its top; a regular file is one opaque
// leaf, and so is what is not looked into: loop devices, md, a volume of dekstack's own. Names as
// administrators write them, "/dev/sda1" or "/dev/mapper/vg-lv". A device that has gone while a
// table still names it is a leaf called "8:16 (gone)".
//
// From the operations thread only (libdevmapper). The shim is asked only where there are dek
// targets. What changes in the middle of the walk is walked once more; then Errc::unavailable, or
// Errc::corrupt where tables contradict each other. Errc::not_found: no such node.
Result<layers::Stack> discover(const std::string& node, Shim& shim, const LiveKernel& kernel = {});
Result<layers::Stack> discover(dev_t number, Shim& shim, const LiveKernel& kernel = {});

// From an entry of the shim's list. No engine in use: it can only fence. Failed: it cannot now.
layers::EndpointFacts endpoint_facts(const dek_list_entry& entry);

} // namespace dek::kcm
