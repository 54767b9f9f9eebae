// SPDX-License-Identifier: Apache-2.0
// The control file: a small FUSE file system of its own (a directory with one file, `control`) that
// brings ioctls to the dispatcher and answers back. It ends with its worker; callers open it again.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "connection.h"
#include "dispatcher.h"

namespace dek::shim {

// Threading: the control thread's.
class Control {
  public:
    // A dead mount of an earlier worker on `folder` is taken away first. The folder must exist.
    static Result<std::unique_ptr<Control>> mount(const std::string& folder);

    int fd() const { return fd_.get(); }
    bool kernel_has_resend() const { return resend_; }
    // Serves what is there, without waiting. False: unmounted.
    bool serve(Dispatcher& dispatcher);
    // The late answer to a call. `argument` is sent when error is 0.
    void complete(std::uint64_t ticket, int error, std::span<const std::uint8_t> argument);
    // Wakes those who poll and have news.
    void spread_news(const Dispatcher& dispatcher);

  private:
    Control(Fd fd, bool resend);
    void handle(Dispatcher& dispatcher, std::span<const std::uint8_t> request);
    void look_up(const fuse_in_header& head, std::span<const std::uint8_t> body);
    void attributes(const fuse_in_header& head);
    void read_folder(const fuse_in_header& head, std::span<const std::uint8_t> body);
    void ioctl(Dispatcher& dispatcher, const fuse_in_header& head,
               std::span<const std::uint8_t> body);
    void poll(Dispatcher& dispatcher, const fuse_in_header& head,
              std::span<const std::uint8_t> body);
    void answer_ioctl(std::uint64_t unique, std::span<const std::uint8_t> argument);

    Fd fd_;
    const bool resend_; // INIT said so; this mount makes no use of it
    std::vector<std::uint8_t> buffer_;
    std::uint64_t next_file_ = 1;
    std::map<std::uint64_t, std::uint64_t> pollers_; // file -> kernel handle to wake
    std::map<std::uint64_t, std::uint32_t> pending_; // ticket -> command
};

} // namespace dek::shim
