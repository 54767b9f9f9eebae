// SPDX-License-Identifier: Apache-2.0
// What one association of a layer is beneath it: associations of its legs. Private to the layers.
#pragma once

#include <optional>

#include "kcm/layers/placement.h"

namespace dek::kcm::layers {

struct Part {
    std::size_t device = 0; // beneath
    dek_geometry geometry{};
    LunMap map;               // of that device
    std::uint64_t handle = 0; // given by it; 0: it holds nothing
    std::uint64_t life = 0;   // the endpoint ID under which it was given

    bool held() const { return handle != 0; }
};

// The same as `before`, made to fit: what is held stays where it is held as far as it can, so that
// updates in the order of `next`, then the disassociation of `surplus`, then the new associations
// (not held) of `next` never ask for an LBA that is still another's.
struct PartPlan {
    struct Next {
        Part part;
        std::optional<std::size_t> was; // index in `before`; none: a new one
    };
    std::vector<Next> next;
    std::vector<std::size_t> surplus; // indexes in `before` of held parts nobody wants any more
};

// `wanted`: what is to be held, with maps of any size; each part's map has at most `capacity` >= 1
// ranges.
PartPlan plan_parts(const std::vector<Part>& before, const std::vector<Part>& wanted,
                    std::size_t capacity);

} // namespace dek::kcm::layers
