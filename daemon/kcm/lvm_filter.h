// SPDX-License-Identifier: Apache-2.0
// Does LVM's configuration keep its commands off a device? An in-place volume over a physical
// volume shows LVM's label on the raw disk, and LVM looks for itself, whatever udev says.
#pragma once

#include <string>
#include <vector>

namespace dek::kcm {

// True when a filter or global_filter of these files (lvm.conf, lvmlocal.conf; later ones win)
// rejects the device, in LVM's way: it rejects one of its names and accepts none. Missing files
// reject nothing.
bool lvm_rejects(const std::vector<std::string>& names,
                 const std::vector<std::string>& files = {"/etc/lvm/lvm.conf",
                                                          "/etc/lvm/lvmlocal.conf"});

// The line to add to section `devices` of lvmlocal.conf.
std::string lvm_filter_line(const std::vector<std::string>& names);

// `path` and every link to it under /dev/disk and /dev/mapper.
std::vector<std::string> names_of_device(const std::string& path);

} // namespace dek::kcm
