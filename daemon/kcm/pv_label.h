// SPDX-License-Identifier: Apache-2.0
// LVM's label of a physical volume: where its data lies. What is read comes from a disk, so from
// anybody.
#pragma once

#include <cstdint>
#include <span>

#include <dek/lunmap.hpp>

#include "base/result.h"

namespace dek::kcm {

inline constexpr std::size_t pv_label_bytes = 4 * 512; // the label is in one of these sectors

// The LBAs of a device of `lbas` that extents may be made of: its data areas, without labels and
// metadata areas. `head`: the first pv_label_bytes of the device, or more. Errc::not_found: it is
// no physical volume; Errc::corrupt: there is a label that cannot be understood.
Result<LunMap> pv_data_area(std::span<const std::uint8_t> head, std::uint64_t lbas);

} // namespace dek::kcm
