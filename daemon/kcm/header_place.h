// SPDX-License-Identifier: Apache-2.0
// The place of an in-place header, as a device of its own that can be read and not written: for
// volumes over which no dek target sees to that. It is a dek target that is never told anything.
#pragma once

#include <sys/types.h>

#include "kcm/shim.h"

namespace dek::kcm {

// "MAJOR:MINOR" of it, made unless it is there. `beneath`: number of the volume's device.
Result<std::string> header_place(const volume::Header& header, const std::string& beneath,
                                 bool read_only);
bool is_header_place(dev_t device);
// Fine when there is none.
Result<void> remove_header_place(const Uuid& volume);

} // namespace dek::kcm
