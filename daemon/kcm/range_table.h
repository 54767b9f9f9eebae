// SPDX-License-Identifier: Apache-2.0
// Who encrypts which LBAs of a volume now: its own endpoint, endpoints beneath it, or dm-crypt.
#pragma once

#include <map>

#include "kcm/shim.h"
#include "kcm/volume.h"

namespace dek::kcm {

struct RangeRow {
    dek_range lbas{};                      // of the volume
    std::uint32_t state = DEK_RANGE_PLAIN; // enum dek_range_state
    std::string by = "nobody";             // "dm-dek", "dm-crypt", or the endpoints by name
    std::string engine;                    // empty: none is told of
    std::string key;                       // ID; of what is keyed
    std::uint64_t association = 0;         // handle; 0: not one of the volume's own endpoint
};

// In order; every LBA of the volume stands in exactly one. From what was published of the volume
// and what the shim says: for any thread. Errc::unavailable where the shim does not answer, or has
// lost the volume.
Result<std::vector<RangeRow>> range_table(const Volume& volume, Shim& shim);

// What the shim says of an endpoint beneath a volume.
struct LegState {
    std::string name; // of the device, "/dev/mapper/dekleg-sda"
    Uuid uuid{};
    std::uint32_t engine = 0;                        // in use
    std::vector<dek_association_entry> associations; // those with one of the volume's keys
    LunMap keyed, yielded;                           // LBAs of the leg's device
};
// By index in the survey's stack: the endpoints that encrypt for the volume, or could. None where
// nothing was looked at.
Result<std::map<std::size_t, LegState>> leg_states(const Volume& volume, Shim& shim);

} // namespace dek::kcm
