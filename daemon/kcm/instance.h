// SPDX-License-Identifier: Apache-2.0
// One kcmd at a time: the directories it works in, and a lock on each of them.
#pragma once

#include "base/fd.h"
#include "kcm/options.h"

namespace dek::kcm {

// Holds the locks as long as it lives; the kernel lets go of them when the process dies.
class Instance {
  public:
    // Makes state, run and device directories (0700, 0755 for the device links) and takes the
    // locks. Errc::busy, naming the directory, when another process has one.
    static Result<Instance> take(const Options& options);

  private:
    Fd state_;
    Fd run_;
};

// kcmd's lock in one directory. Errc::busy, naming it, when another process has that.
Result<Fd> lock_in(const std::string& directory);

// One directory, its parents too; fine when it is there already.
Result<void> make_directory(const std::string& path, mode_t mode);

} // namespace dek::kcm
