// SPDX-License-Identifier: Apache-2.0
// Device-mapper devices, by libdevmapper. All calls block until udev has done its part, where udev
// runs. Not thread-safe (libdevmapper is not): called from the operations thread only.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

#include "base/result.h"

namespace dek::kcm {

// One line of a table. `parameters` never holds a key: tables are shown to everybody who may ask.
struct DmTarget {
    std::uint64_t first = 0; // sectors of 512 bytes
    std::uint64_t count = 0;
    std::string type;
    std::string parameters;
};

struct DmInfo {
    std::string name;
    std::string node; // "/dev/dm-3"
    int open_count = 0;
    bool suspended = false;
    bool live = false; // has an active table
    bool read_only = false;
};

// The device of this UUID ("DEK-..."), if there is one.
Result<std::optional<DmInfo>> dm_find(const std::string& uuid);

// Numbers of the devices beneath the live table, or of the inactive one where none is live.
Result<std::vector<dev_t>> dm_beneath(const std::string& name);

// Made and running. Hidden: udev lets only its most basic rules see it, so nothing opens it or acts
// on what it holds until it is renamed. Errc::busy: the name, the UUID or a device beneath is
// taken.
struct DmCreate {
    std::string name;
    std::string uuid;
    std::vector<DmTarget> table;
    bool read_only = false;
    bool hidden = false;
};
Result<void> dm_create(const DmCreate& create);

// The new name, for everybody to see.
Result<void> dm_rename(const std::string& from, const std::string& to);

// Suspends (what is under way ends first, a filesystem on it is frozen), takes the new table, and
// resumes. On failure the old table, if there was one, is in force and I/O goes on.
Result<void> dm_replace(const std::string& name, const std::vector<DmTarget>& table, bool read_only,
                        bool hidden);

// Errc::busy when it is still open after `patience`. Fine when it is not there.
Result<void> dm_remove(const std::string& name, std::chrono::milliseconds patience);

} // namespace dek::kcm
