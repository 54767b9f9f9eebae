// SPDX-License-Identifier: Apache-2.0
// Who uses which LBAs of a leg, and where what a volume has there may be copied to, by the live
// tables of all device-mapper devices. Pure: asks nobody anything.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <dek/lunmap.hpp>

#include "kcm/layers/table_line.h"

namespace dek::kcm::layers {

struct Mapped {
    std::string number; // "253:4"
    std::vector<TableLine> table;
};

// LBAs of a leg that one line of a table uses.
struct Stretch {
    std::string user;     // the device's number and the line: other ones when either is another
    std::uint64_t at = 0; // LBA of the device where they begin
    dek_range lbas{};     // of the leg
};

struct LegUse {
    std::vector<Stretch> used;
    // Where something may put what a volume has on a leg, and that no volume has itself: the other
    // legs of mirrors, snapshots' stores, pools.
    LunMap copies;
    LunMap unknown; // of these, LBAs which nobody can say what they hold: all but mirrors
};

// By device number.
using MapByDevice = std::map<std::string, LunMap>;

// `volumes`: what endpoints encrypt there, for each leg of interest, if only an empty map. LBAs
// of a stripe's other legs are counted in with those beside them, and a target of a kind that is
// not known copies from any of its devices to all those that hold nothing of a volume.
// Errc::corrupt: tables are too deep to be followed.
Result<std::map<std::string, LegUse>> find_use(const std::vector<Mapped>& devices,
                                               const MapByDevice& volumes);

} // namespace dek::kcm::layers
