// SPDX-License-Identifier: Apache-2.0
// The way to kcmd: D-Bus on the system bus, or peer to peer on its private socket (docs/dbus.md).
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

struct sd_bus;

namespace dek::ctl {

inline constexpr const char* default_socket = "/run/dekstack/bus";

// One connection. Not thread-safe. Errors of the controller keep their code; everything that goes
// wrong on the way is `unavailable` (nobody there, or it went away), `permission`, `timeout`, or
// `internal` (the two programs do not understand each other).
class Controller {
  public:
    using Seconds = std::chrono::seconds;

    // `socket` empty: the system bus if org.dekstack has an owner there, else default_socket.
    static Result<Controller> connect(const std::string& socket);
    Controller(Controller&&) noexcept;
    ~Controller();

    // The answer's text. Waits at most `timeout` (zero: for ever); `waiting` is called about five
    // times a second meanwhile. The descriptors stay the caller's.
    Result<std::string> call(const std::string& method, const std::string& arguments,
                             const std::vector<Fd>& descriptors, Seconds timeout,
                             const std::function<void()>& waiting);

    // Hands over the text of each event until `stop` returns true (asked about five times a
    // second), or the controller goes away: `unavailable`. `ready` is called once, when no later
    // event can be missed.
    Result<void> follow(const std::function<Result<void>()>& ready,
                        const std::function<void(const std::string&)>& event,
                        const std::function<bool()>& stop);

  private:
    struct Close {
        void operator()(sd_bus* bus) const noexcept;
    };
    explicit Controller(sd_bus* bus) : bus_(bus) {}
    static Result<Controller> connect_socket(const std::string& path);
    std::unique_ptr<sd_bus, Close> bus_;
};

} // namespace dek::ctl
