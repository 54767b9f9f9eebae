// SPDX-License-Identifier: Apache-2.0
// The worker: serves volumes and control file until it is told to stop or killed.
#pragma once

#include "settings.h"

namespace dek::shim {

// Takes over what the holder has, serves, and returns the exit status: 0 after an orderly stop.
int run_worker(const Settings& settings);

} // namespace dek::shim
