// SPDX-License-Identifier: Apache-2.0
// Block devices that come, go and change, as the kernel tells it: works without udevd, and before
// it has done its part.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <thread>

#include "base/fd.h"

struct udev_monitor;

namespace dek::kcm {

// When to tell, where events come in bursts: the first at once, and then at most once in an
// interval. Nothing that was noted goes untold.
class Burst {
  public:
    using Clock = std::chrono::steady_clock;
    explicit Burst(std::chrono::milliseconds interval) : interval_(interval) {}

    void note() { noted_ = true; }
    // How long to wait; 0: tell now. None: there is nothing to tell.
    std::optional<std::chrono::milliseconds> wait(Clock::time_point now) const;
    void told(Clock::time_point now);

  private:
    std::chrono::milliseconds interval_;
    std::optional<Clock::time_point> last_;
    bool noted_ = false;
};

// A thread that calls `changed`, from itself, at most every 200 ms: after an add, remove or change
// of any block device (device-mapper tells so of its paths, renames and resumes too), and after
// events were lost. What comes while the callback runs is told after it. The callback must not
// throw, and not destroy the watch.
class BlockWatch {
  public:
    explicit BlockWatch(std::function<void()> changed);
    ~BlockWatch();
    BlockWatch(const BlockWatch&) = delete;
    BlockWatch& operator=(const BlockWatch&) = delete;

  private:
    void run();
    bool serve(udev_monitor* monitor); // false: the monitor is of no use any more

    std::function<void()> changed_;
    Burst burst_{std::chrono::milliseconds(200)};
    Fd stop_;
    std::thread thread_;
};

} // namespace dek::kcm
