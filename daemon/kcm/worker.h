// SPDX-License-Identifier: Apache-2.0
// A thread that does what it is given, in order.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace dek::kcm {

// post() may be called from any thread. What is posted must not throw.
class Worker {
  public:
    explicit Worker(const char* name); // of the thread, at most 15 characters
    ~Worker();                         // does what is queued, then ends
    Worker(const Worker&) = delete;
    Worker& operator=(const Worker&) = delete;
    void post(std::function<void()> job);

  private:
    void run();

    std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<std::function<void()>> jobs_;
    bool ending_ = false;
    std::thread thread_; // last: starts when the rest is there
};

} // namespace dek::kcm
