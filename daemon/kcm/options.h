// SPDX-License-Identifier: Apache-2.0
// What kcmd was told on its command line.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>

#include "base/log.h"

namespace dek::kcm {

enum class ShimChoice { automatic, kernel, fuse };
std::optional<ShimChoice> shim_choice_of(std::string_view text); // "auto", "kernel", "fuse"

struct Options {
    std::string state_dir = "/var/lib/dekstack"; // the keystore
    std::string run_dir = "/run/dekstack"; // the lock, the socket, records of attached volumes
    std::string dev_dir = "/dev/dek";      // links for people
    std::string shim_dir;                  // dek-shimd's; empty: RUN/shim
    ShimChoice shim = ShimChoice::automatic;
    bool endpoints_only = false; // makes the configured legs, and ends
    std::string endpoint_of;     // tells udev whose this device is, and ends
    bool system_bus = false;     // asked for; neither this nor a socket: whichever there is
    std::string socket;          // asked for; empty: RUN/bus where it is needed
    std::chrono::seconds cache_lifetime{300};
    std::size_t cache_keys = 64;
    std::chrono::milliseconds provider_timeout{10000};
    std::chrono::milliseconds recover{
        60000}; // how long encrypted I/O waits for its keys after a shim restart
    std::chrono::milliseconds switch_back{
        30000}; // how long an endpoint has to be well before a volume goes back to it
    Level log_level = Level::info;

    std::string shim_path() const { return shim_dir.empty() ? run_dir + "/shim" : shim_dir; }
    std::string kernel_control = "/dev/dek-control";
    std::string control_file() const { return shim_path() + "/control/control"; }
    std::string socket_path() const { return socket.empty() ? run_dir + "/bus" : socket; }
};

// The options, or the exit code when there is nothing to run: 0 after --help or --version, 2 for a
// usage error; both have printed.
struct Usage {
    int exit_code;
};
tl::expected<Options, Usage> parse_options(int argc, char** argv);

} // namespace dek::kcm
