// SPDX-License-Identifier: Apache-2.0
// Legs: endpoints beneath LVM, mirrors and multipath, and the multipath maps over them, as the
// host's configuration has them and as device-mapper is told. Asks nobody.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

#include <dek/ioctl.h>

#include "kcm/layers/table_line.h"
#include "volume/header.h"

namespace dek::kcm {

using volume::Uuid;

// One dek endpoint over a whole device, from its sector 0.
struct Leg {
    std::string name; // "sdb": the device is dekleg-sdb
    Uuid uuid{}; // of the endpoint; another one when the device had to be made anew under a map
    std::string device;     // the most lasting path it has
    std::string wwid;       // what the device says of itself, by sysfs; empty: nothing
    std::uint64_t lbas = 0; // of the device
    std::uint32_t data_unit = 4096;
    std::uint32_t fence = DEK_FENCE_EIO; // enum dek_fence
    bool engine = true;                  // false: it only fences
    std::string multipath;               // name of the map whose path it is, or empty
    std::uint32_t group = 1;             // priority group in that, lower ones are used first
};

// A multipath map of the controller's: over the legs that name it.
struct MultipathMap {
    std::string name; // of the device
    Uuid uuid{};
    std::string wwid; // of all paths
    std::uint64_t lbas = 0;
    bool queue_if_no_path = false;
};

inline constexpr std::uint32_t path_groups_max = 32;

// The file's text, and back. Errc::corrupt with what is wrong; `name` is the file's.
std::string to_text(const Leg& leg);
std::string to_text(const MultipathMap& map);
Result<Leg> parse_leg(const std::string& name, std::string_view text);
Result<MultipathMap> parse_multipath_map(const std::string& name, std::string_view text);

const char* fence_word(std::uint32_t fence); // "eio", "transport", "hold"
std::optional<std::uint32_t> fence_of(std::string_view word);

// Device-mapper's names. Hidden: no device of these names is for anybody's use.
std::string dm_name(const Leg& leg);        // "dekleg-NAME"
std::string dm_uuid(const Leg& leg);        // "DEKLEG-<uuid>"
std::string dm_uuid(const MultipathMap& m); // "DEKMP-<uuid>"
std::string hidden_name_new(const Leg& leg);
std::string hidden_name_old(std::string_view dm_uuid);
bool is_hidden_name(std::string_view name);
bool is_leg_uuid(std::string_view dm_uuid);
bool is_map_uuid(std::string_view dm_uuid);

layers::TableLine leg_line(const Leg& leg, dev_t device);

struct Path {
    std::string number; // of the leg, "253:4"
    std::uint32_t group = 1;
};
// At least one path.
layers::TableLine multipath_line(const MultipathMap& map, std::vector<Path> paths);
// Whether a live line has these paths, in these groups. (The kernel prints the rest in its own
// way.)
bool has_paths(const layers::TableLine& live, const MultipathMap& map, std::vector<Path> paths);

} // namespace dek::kcm
