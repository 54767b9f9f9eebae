// SPDX-License-Identifier: Apache-2.0
// The way from the layers to one endpoint of a shim.
#pragma once

#include "kcm/layers/tree.h"
#include "kcm/shim.h"

namespace dek::kcm {

// What an endpoint holds already is taken over, not made a second time: a restarted controller has
// new layers, and so new handles, above legs that still encrypt. An Associate of what one of the
// endpoint's associations is to the letter becomes a refresh of that one; others under the same key
// ID that it overlaps are replaced: one by an Update, several while I/O to that endpoint waits.
class ShimPort final : public layers::Port {
  public:
    // The shim outlives it.
    ShimPort(Shim& shim, const Uuid& uuid) : shim_(&shim), uuid_(uuid) {}
    Result<void> send(layers::Block block) override;

  private:
    struct Wanted;
    Result<void> take_over(const Wanted& wanted, layers::Block block);
    Result<void> send_for(const Wanted& wanted, dek_opcode opcode, std::uint64_t handle,
                          layers::Block block);
    Result<void> replace(const Wanted& wanted, const std::vector<std::uint64_t>& stale,
                         layers::Block block);

    Shim* shim_;
    Uuid uuid_;
};

} // namespace dek::kcm
