// SPDX-License-Identifier: Apache-2.0
// The reference: where each single LBA lies, under which number, and who must encrypt it. Written
// to be obvious, LBA by LBA; shares nothing with the layers but the stack's description.
#pragma once

#include <cstdint>
#include <vector>

#include "kcm/layers/stack.h"

namespace model {

using dek::kcm::layers::Device;
using dek::kcm::layers::Stack;

// An LBA of some device, and which LBA of the volume it is.
struct Spot {
    std::uint64_t lba;
    std::uint64_t number;
};
using Spots = std::vector<Spot>; // ascending LBAs

// What of the spots lies on one leg.
Spots below(const Device& device, std::size_t leg, const Spots& spots);

// Does it do if one leg encrypts?
bool one_is_enough(const Device& device);

// Can endpoints at or beneath the device encrypt all spots, in data units of `unit` LBAs, with
// nothing passing elsewhere?
struct Capability {
    bool capable;
    bool stripes_twice; // what stands in the way may be this alone
};
Capability capable(const Stack& stack, std::size_t device, const Spots& spots, std::uint64_t unit,
                   unsigned stripes = 0);

// Would nothing pass unencrypted by any way, one that has failed and may come back among them?
bool fenced(const Stack& stack, std::size_t device, const Spots& spots);

// Is there somebody at all who answers a handshake?
bool anybody(const Stack& stack, std::size_t device);

// Devices to which some way leads that may carry I/O.
void reach(const Stack& stack, std::size_t device, std::vector<bool>& reached);

// The number of each LBA of each device; none: not encrypted. `usable`: only by ways that may carry
// I/O.
inline constexpr std::uint64_t none = ~0ull;
using Numbers = std::vector<std::vector<std::uint64_t>>;
void collect(const Stack& stack, std::size_t device, const Spots& spots, bool usable,
             Numbers& numbers);
Numbers numbers_of(const Stack& stack, const Spots& spots, bool usable);

} // namespace model
