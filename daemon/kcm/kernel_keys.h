// SPDX-License-Identifier: Apache-2.0
// Volume keys on their way to dm-crypt: `logon` keys in the process keyring, which nobody can read
// back, for as long as a table that names them is being loaded (dm-crypt keeps a copy of its own).
#pragma once

#include <string>
#include <vector>

#include "base/secret.h"

namespace dek::kcm {

// Takes its keys away again when it goes.
class KernelKeys {
  public:
    KernelKeys() = default;
    ~KernelKeys();
    KernelKeys(const KernelKeys&) = delete;
    KernelKeys& operator=(const KernelKeys&) = delete;

    // `description` as a table line names it: "dekstack:...".
    Result<void> add(const std::string& description, const Secret& key);

  private:
    std::vector<int> serials_;
};

} // namespace dek::kcm
