// SPDX-License-Identifier: Apache-2.0
// What the command line of dek-shimd says.
#pragma once

#include <cstdint>
#include <string>

namespace dek::shim {

struct Settings {
    std::string dir = "/run/dekstack/shim"; // made canonical at the start
    unsigned threads = 2;
    std::string engine = "auto";
    std::uint32_t recover_ms = 60000;
    bool fd_store = false; // systemd keeps the descriptors while we are not there
    bool resend = true;
    int worker = -1; // socket to the holder: this process is the worker

    std::string volumes() const { return dir + "/volumes"; }
    std::string control() const { return dir + "/control"; }
};

} // namespace dek::shim
