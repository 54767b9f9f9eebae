// SPDX-License-Identifier: Apache-2.0
// The must-encrypt map of a leg that several volumes may share. LBAs are the leg's device's.
#pragma once

#include <dek/lunmap.hpp>

#include "kcm/shim.h"

namespace dek::kcm {

// Nothing of the map passes in plain from now on. Where it is not keyed it is fenced. What others
// have there stays as it is; what had been yielded of the map is no longer.
Result<void> cover(Shim& shim, const Uuid& leg, const LunMap& map);
// The same, but ciphertext of somebody above passes. Nothing of the map may be keyed.
Result<void> cover_yielded(Shim& shim, const Uuid& leg, const LunMap& map);
// The map is plain again. Nothing of it may be keyed.
Result<void> uncover(Shim& shim, const Uuid& leg, const LunMap& map);
// `closed` is fenced where it is not keyed, `opened` is plain: at once. Nothing of `opened` may be
// keyed.
Result<void> replace_cover(Shim& shim, const Uuid& leg, const LunMap& closed, const LunMap& opened);

} // namespace dek::kcm
