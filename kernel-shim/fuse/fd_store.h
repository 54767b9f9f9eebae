// SPDX-License-Identifier: Apache-2.0
// systemd's descriptor store: what keeps volumes alive while dek-shimd itself is replaced.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "base/fd.h"

namespace dek::shim {

using VolumeFds = std::map<unsigned, std::vector<Fd>>; // by slot of the volume table

// The names in the store: `table`, and `v<slot>.<n>` for a volume's descriptors, in order.
void store_table(int fd);
void store_volume(unsigned slot, const std::vector<Fd>& fds);
void unstore_volume(unsigned slot, std::size_t fds);

struct Restored {
    Fd table; // none: there was nothing, or nothing usable
    VolumeFds volumes;
};
// What systemd handed to this process. Volumes whose descriptors are not complete are left out.
Restored restore_from_store();

} // namespace dek::shim
