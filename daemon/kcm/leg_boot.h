// SPDX-License-Identifier: Apache-2.0
// Legs before kcmd itself can run: `kcmd --endpoints` and `kcmd --endpoint-of`, early in the boot.
#pragma once

#include "base/result.h"
#include "kcm/options.h"

namespace dek::kcm {

// Makes the configured legs and maps whose devices are there, with nothing encrypted on them yet.
// Needs no bus, no keystore and no state directory that can be written. Where kcmd runs, that is
// its business, and nothing is done.
Result<void> make_endpoints(const Options& options);

// Prints DEK_ENDPOINT=NAME for udev when a configured leg is for the device options.endpoint_of,
// its links being in the environment (DEVLINKS). The exit code: 0, or 4 where none is.
int tell_endpoint(const Options& options);

} // namespace dek::kcm
