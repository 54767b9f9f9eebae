// SPDX-License-Identifier: Apache-2.0
// Asynchronous I/O on the devices beneath: the kernel's AIO. Chosen because a process that is
// killed is not gone before its I/O has ended, so no old write can land after a newer one.
#pragma once

#include <span>

#include <libaio.h>

#include "base/fd.h"
#include "base/result.h"

namespace dek::shim {

// Threading: one lane's own.
class Aio {
  public:
    // Up to `depth` operations at a time.
    static Result<Aio> create(unsigned depth);
    Aio(Aio&& other) noexcept;
    Aio& operator=(Aio&&) = delete;
    ~Aio();

    // Becomes readable with each completion; nonblocking.
    int event_fd() const { return event_fd_.get(); }
    // One system call. Returns how many of them were taken (the others may be tried again after
    // completions), or -errno when the first cannot be taken ever.
    int submit(std::span<iocb*> operations);
    // Completions that are there, without waiting; no system call when there is none.
    unsigned reap(std::span<io_event> out);

  private:
    Aio(io_context_t context, Fd event_fd) : context_(context), event_fd_(std::move(event_fd)) {}

    io_context_t context_;
    Fd event_fd_;
};

} // namespace dek::shim
