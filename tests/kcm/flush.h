// SPDX-License-Identifier: Apache-2.0
// Looks in at every write and flush of this process, and can make them fail.
#pragma once

#include <functional>

namespace kcmtest {

// Before the call; 0 lets it happen, an errno fails it. Empty: nobody looks.
extern std::function<int(int fd)> on_flush; // fsync, fdatasync
extern std::function<int(int fd)> on_write; // pwrite

// Somebody looks as long as this lives.
class Looking {
  public:
    Looking(std::function<int(int fd)>& at, std::function<int(int fd)> look) : at_(at) {
        at_ = std::move(look);
    }
    ~Looking() { at_ = nullptr; }
    Looking(const Looking&) = delete;
    Looking& operator=(const Looking&) = delete;

  private:
    std::function<int(int fd)>& at_;
};

} // namespace kcmtest
