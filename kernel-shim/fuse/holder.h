// SPDX-License-Identifier: Apache-2.0
// The holder: keeps what must outlive a worker (FUSE descriptors, devices, the volume table),
// starts workers, and does nothing else. It never sees a key.
#pragma once

#include <string>
#include <vector>

#include "settings.h"

namespace dek::shim {

// Runs until SIGTERM or SIGINT. `arguments`: argv, for the workers.
int run_holder(const Settings& settings, const std::vector<std::string>& arguments);

} // namespace dek::shim
