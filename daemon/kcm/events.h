// SPDX-License-Identifier: Apache-2.0
// What the shim tells by itself: its events, that it has gone, that it is back.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <thread>

#include <dek/ioctl.h>

#include "base/fd.h"

namespace dek::kcm {

const char* event_name(std::uint32_t type); // "endpoint-up", ...; NULL for one that is not known

// A thread that waits on a control file of its own. The callbacks come from that thread and must
// not block.
class ShimWatch {
  public:
    struct Callbacks {
        std::function<void(const dek_event&)> event;
        std::function<void()> up;   // once a shim answers, and again after every reconnection
        std::function<void()> down; // it does not any more
    };
    ShimWatch(std::string control, Callbacks callbacks);
    ~ShimWatch();
    ShimWatch(const ShimWatch&) = delete;
    ShimWatch& operator=(const ShimWatch&) = delete;

  private:
    void run();
    void serve(int fd, std::uint64_t& cursor); // until the shim has gone or the watch ends
    bool read_events(int fd, std::uint64_t& cursor, bool announce); // false: gone
    bool ended_after(int milliseconds);

    std::string control_;
    Callbacks callbacks_;
    Fd stop_;
    std::thread thread_;
};

} // namespace dek::kcm
