// SPDX-License-Identifier: Apache-2.0
#include "kcm/controller.h"

namespace dek::kcm {

Controller::Controller(ControllerParts parts)
    : parts_(std::move(parts)), records_(parts_.options.run_dir + "/volumes"),
      legs_({parts_.options.state_dir, parts_.shims.of("kernel").shim.get(),
             [this](const std::string& identity) { return parts_.registry->on_device(identity); },
             parts_.kernel, parts_.lvm_files}),
      guard_(legs_, parts_.registry, parts_.shims.of("kernel").shim.get()) {}

} // namespace dek::kcm
