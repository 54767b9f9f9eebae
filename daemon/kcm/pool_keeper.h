// SPDX-License-Identifier: Apache-2.0
// A device that nobody sees, with a table of the kind that a switch is about to replace. While the
// volume stands still the kernel frees the pools of the old table, and where no other table has
// pools of that size it waits for a grace period, two or three times as long as all the rest. With
// this one there is another, and what is left of the work is done when I/O goes on already.
#pragma once

#include "kcm/dm_device.h"
#include "kcm/shim.h"

namespace dek::kcm {

// Best effort: without it a switch takes longer. Operations thread only (libdevmapper).
class PoolKeeper {
  public:
    // `live`: the volume's table. Keys that its lines name are in the keyring.
    PoolKeeper(const Uuid& volume, const DmTable& live);
    ~PoolKeeper();
    PoolKeeper(const PoolKeeper&) = delete;
    PoolKeeper& operator=(const PoolKeeper&) = delete;

  private:
    std::string name_;
};

// Those that killed controllers have left.
void drop_pool_keepers();

} // namespace dek::kcm
