// SPDX-License-Identifier: Apache-2.0
#include "kcm/controller.h"

namespace dek::kcm {

Controller::Controller(ControllerParts parts)
    : parts_(std::move(parts)), records_(parts_.options.run_dir + "/volumes") {}

} // namespace dek::kcm
