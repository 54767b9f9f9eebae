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
#include "kcm/layers/table_line.h"

namespace dek::kcm {

// Never with a key: tables are shown to everybody who may ask.
using DmTable = std::vector<layers::TableLine>;

struct DmInfo {
    std::string name;
    std::string node;   // "/dev/dm-3"
    std::string number; // "253:3"
    int open_count = 0;
    bool suspended = false;
    bool live = false;     // has an active table
    bool inactive = false; // has a table that waits for the next resume
    bool read_only = false;
    std::string uuid;
};

// The device of this UUID ("DEK-..."), of this number or of this name, if there is one.
Result<std::optional<DmInfo>> dm_find(const std::string& uuid);
Result<std::optional<DmInfo>> dm_find_number(dev_t number);
Result<std::optional<DmInfo>> dm_find_name(const std::string& name);
// All of them.
Result<std::vector<DmInfo>> dm_list();

// The live table, empty where there is none; a crypt line names its key's place in the keyring.
Result<DmTable> dm_table(const std::string& name);
// The same lines with their status in the place of the parameters.
Result<DmTable> dm_status(const std::string& name);
// A message to the target at `sector`.
Result<void> dm_message(const std::string& name, std::uint64_t sector, const std::string& message);

// Numbers of the devices beneath the live table, or of the inactive one where none is live.
Result<std::vector<dev_t>> dm_beneath(const std::string& name);

// Made and running. Hidden: udev lets only its most basic rules see it, so nothing opens it or acts
// on what it holds until it is renamed. Errc::busy: the name, the UUID or a device beneath is
// taken.
struct DmCreate {
    std::string name;
    std::string uuid;
    DmTable table;
    bool read_only = false;
    bool hidden = false;
};
Result<void> dm_create(const DmCreate& create);

// The new name, for everybody to see.
Result<void> dm_rename(const std::string& from, const std::string& to);
// Where no udev makes nodes: that of a device whose name was given by who did not live to make it.
Result<void> dm_make_node(const std::string& name);

// Suspends (what is under way ends first, a filesystem on it is frozen), takes the new table, and
// resumes. On failure the old table, if there was one, is in force and I/O goes on.
Result<void> dm_replace(const std::string& name, const DmTable& table, bool read_only, bool hidden);

// The same step by step. A loaded table waits, and comes live with the resume; dm_clear() drops it.
Result<void> dm_load(const std::string& name, const DmTable& table, bool read_only);
void dm_clear(const std::string& name);
// What is under way ends first; Errc::timeout when it has not after `patience`, and I/O goes on.
// Freeze: a filesystem on it, too, so that what is on the disk is complete in itself. Otherwise
// what a target holds is not waited for, and meets the table that comes live next.
enum class Freeze { no, yes };
inline constexpr std::chrono::milliseconds suspend_patience{40000};
Result<void> dm_suspend(const std::string& name, Freeze freeze,
                        std::chrono::milliseconds patience = suspend_patience);
// With a table loaded it suspends by itself: what waits for the change waits least.
Result<void> dm_resume(const std::string& name, bool hidden, Freeze freeze = Freeze::yes);

// dm_replace() for a device whose I/O may be waiting for what the new table brings, a multipath
// without paths say: what is under way goes back to the device instead of being waited for. One
// that stands suspended goes on with the new table.
Result<void> dm_replace_held(const std::string& name, const DmTable& table);

// Errc::busy when it is still open after `patience`. Fine when it is not there.
Result<void> dm_remove(const std::string& name, std::chrono::milliseconds patience);

} // namespace dek::kcm
