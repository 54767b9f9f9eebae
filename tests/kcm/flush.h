// SPDX-License-Identifier: Apache-2.0
// Looks in at every write and flush of this process, and can make them fail.
#pragma once

#include <functional>

namespace kcmtest {

// Before the call; 0 lets it happen, an errno fails it. Empty: nobody looks.
extern std::function<int(int fd)> on_flush; // fsync, fdatasync
extern std::function<int(int fd)> on_write; // pwrite

} // namespace kcmtest
