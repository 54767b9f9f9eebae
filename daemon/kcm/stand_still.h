// SPDX-License-Identifier: Apache-2.0
// A volume, and the mirrors beneath it, stand still while the state of its legs changes. A mirror
// that copies by itself would carry what one leg has decrypted to another that no longer encrypts.
#pragma once

#include "kcm/layers/stack.h"
#include "kcm/shim.h"

namespace dek::kcm {

// Not undone by its end: a volume whose legs could not be brought into order goes on standing.
// Operations thread only (libdevmapper).
class StandStill {
  public:
    // `volume`: device-mapper's name of it.
    StandStill(std::string volume, const layers::Stack& stack);
    // Errc::timeout where I/O does not end, Errc::busy where somebody is changing a mirror: then
    // nothing stands still.
    Result<void> begin();
    // Whoever began it, also a controller that was killed. The volume's loaded table comes live.
    Result<void> end();

  private:
    Result<void> resume_mirrors();

    std::string volume_;
    std::vector<std::string> mirrors_; // the topmost first
};

// "/dev/mapper/mpatha" is mpatha to device-mapper.
std::string dm_name_of(const layers::Device& device);

} // namespace dek::kcm
