// SPDX-License-Identifier: Apache-2.0
// Where a layer puts LBAs, and which tweak geometry keeps their numbers the same there. Pure
// functions over validated stacks.
#pragma once

#include <dek/lunmap.hpp>

#include "kcm/layers/stack.h"

namespace dek::kcm::layers {

// LBAs of one leg's device that share a geometry: one association, or several if they are many.
struct Piece {
    std::size_t leg = 0;
    dek_geometry geometry{};
    LunMap map;
};

// Why what is asked for does not compose: ends a sentence that begins with the layer.
struct Refusal {
    std::string why;
};

// Any numbers will do: for who only wants to know where LBAs lie.
inline constexpr dek_geometry unnumbered{512, DEK_TWEAK_UNIT, 0, 0, 0, 0, 0};

bool same_geometry(const dek_geometry& a, const dek_geometry& b);

// The pieces of a map that lies inside a layer (not a leaf), on every leg, failed paths included.
// Every LBA of a piece has the number that it has in `map` by `geometry`.
tl::expected<std::vector<Piece>, Refusal> place(const Device& layer, const LunMap& map,
                                                const dek_geometry& geometry);

// The LBAs of each leg's device that hold some of the map; in the order of the legs.
std::vector<LunMap> spread(const Device& layer, const LunMap& map);

// The map's LBAs on every device of the stack, from the top down, through every leg and path.
// Encrypted ranges become the must-encrypt maps of the dek legs. Index: that of the device.
std::vector<LunMap> project(const Stack& stack, const LunMap& map);

// The first leaf without a fence through which I/O to the map may go, beneath or at `device`;
// SIZE_MAX: there is none. Failed: also through paths that carry none until they are reinstated.
enum class Paths { in_use, failed_too };
std::size_t find_unfenced(const Stack& stack, std::size_t device, const LunMap& map,
                          Paths paths = Paths::in_use);

} // namespace dek::kcm::layers
