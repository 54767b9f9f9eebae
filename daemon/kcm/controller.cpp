// SPDX-License-Identifier: Apache-2.0
#include "kcm/controller.h"

#include <unistd.h>

#include <nlohmann/json.hpp>

namespace dek::kcm {

Controller::Controller(ControllerParts parts)
    : parts_(std::move(parts)), records_(parts_.options.run_dir + "/volumes") {}

Result<VolumePtr> Controller::switch_to(const std::string& name, const std::string& where) {
    const auto found = parts_.registry->find(name);
    if (!found)
        return fail(Errc::not_found, "no volume named " + name + " is attached");
    if (where == "endpoint")
        return found; // where this build's volumes always are
    if (where != "software")
        return fail(Errc::invalid_argument, "a volume is switched to endpoint or to software");
    if (found->shim == "kernel")
        return fail(
            Errc::unsupported,
            "volume " + name +
                " stays with the kernel shim: this kcmd does not hand volumes over to dm-crypt");
    const bool dm = ::access("/sys/class/misc/device-mapper", F_OK) == 0;
    return fail(
        Errc::unsupported,
        dm ? "volume " + name +
                 " is served by the userspace shim; dm-crypt can only take over from "
                 "the kernel shim"
           : std::string("this kernel has no device-mapper, so there is no dm-crypt to switch to"));
}

} // namespace dek::kcm
