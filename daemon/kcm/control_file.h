// SPDX-License-Identifier: Apache-2.0
// The file a shim is called through, by a thread that may be left behind.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "kcm/shim.h"

namespace dek::kcm {

// A call that is not answered within `deadline` is given up (ETIMEDOUT), and whatever is called
// until its answer comes after all; what it does then is done.
class ControlFile : public ShimTransport {
  public:
    explicit ControlFile(std::string path, const char* hint = fuse_hint,
                         std::chrono::milliseconds deadline = std::chrono::seconds(60));
    ~ControlFile() override;
    ControlFile(const ControlFile&) = delete;
    ControlFile& operator=(const ControlFile&) = delete;
    int connect() override;
    int call(unsigned long request, void* argument) override;
    const char* hint() const override { return hint_; }

  private:
    struct Caller;
    Caller* caller();
    int in_time(std::function<int()> job);

    std::string path_;
    const char* hint_;
    std::chrono::milliseconds deadline_;
    std::shared_ptr<Caller> caller_;
};

} // namespace dek::kcm
