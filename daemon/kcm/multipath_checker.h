// SPDX-License-Identifier: Apache-2.0
// Can the disks behind the paths of a multipath be read? One block each, straight from the device,
// every few seconds.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <sys/types.h>

namespace dek::kcm {

struct CheckedPath {
    std::string name; // the leg's
    std::string node; // "/dev/sdb"
    dev_t number = 0; // of what that has to be
    bool operator==(const CheckedPath&) const = default;
};

enum class Verdict { unknown, works, fails };

// A thread for each path, since a read may hang for as long as it likes, and one that calls
// `round`: every `interval`, and when a verdict has changed. A read that does not come back within
// the deadline is a failure, and goes on being one until it does. Members may be called from any
// thread.
class PathChecker {
  public:
    using Milliseconds = std::chrono::milliseconds;
    explicit PathChecker(std::function<void()> round, Milliseconds interval = Milliseconds(2000),
                         Milliseconds deadline = Milliseconds(5000));
    ~PathChecker(); // waits for no read
    PathChecker(const PathChecker&) = delete;
    PathChecker& operator=(const PathChecker&) = delete;

    void watch(const std::vector<CheckedPath>& paths); // in the place of the old
    std::map<std::string, Verdict> verdicts() const;   // by name

    struct Probe;
    struct Shared;

  private:
    void run();

    const std::function<void()> round_;
    const std::shared_ptr<Shared> shared_; // with the paths' threads
    std::thread thread_;                   // last: starts when the rest is there
};

} // namespace dek::kcm
