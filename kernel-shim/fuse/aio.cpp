// SPDX-License-Identifier: Apache-2.0
#include "aio.h"

#include <atomic>
#include <cerrno>
#include <utility>

#include <sys/eventfd.h>

namespace dek::shim {
namespace {

// The completion ring as the kernel maps it into the process; the handle is its address. The layout
// is marked by `magic` and has not changed since Linux 2.6; without the mark we ask by system call.
struct Ring {
    unsigned id, nr, head, tail, magic, compat_features, incompat_features, header_length;
    io_event events[1];
};
constexpr unsigned kRingMagic = 0xa10a10a1;

} // namespace

Result<Aio> Aio::create(unsigned depth) {
    Fd event_fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    if (!event_fd)
        return fail_errno(errno, "eventfd");
    io_context_t context = nullptr;
    const int error = ::io_setup(static_cast<int>(depth), &context);
    if (error < 0)
        return fail_errno(-error, "asynchronous I/O (fs.aio-max-nr?)");
    return Aio(context, std::move(event_fd));
}

Aio::Aio(Aio&& other) noexcept
    : context_(std::exchange(other.context_, nullptr)), event_fd_(std::move(other.event_fd_)) {}

Aio::~Aio() {
    if (context_)
        ::io_destroy(context_);
}

int Aio::submit(std::span<iocb*> operations) {
    const int n = ::io_submit(context_, static_cast<long>(operations.size()), operations.data());
    return n == -EAGAIN || n == -EINTR ? 0 : n;
}

unsigned Aio::reap(std::span<io_event> out) {
    auto* ring = reinterpret_cast<Ring*>(context_);
    if (ring->magic != kRingMagic) {
        timespec now{};
        const int n = ::io_getevents(context_, 0, static_cast<long>(out.size()), out.data(), &now);
        return n < 0 ? 0 : static_cast<unsigned>(n);
    }
    const std::atomic_ref<unsigned> tail(ring->tail), head(ring->head);
    unsigned at = head.load(std::memory_order_relaxed), n = 0;
    const unsigned end = tail.load(std::memory_order_acquire);
    while (n < out.size() && at != end) {
        out[n++] = ring->events[at];
        at = at + 1 == ring->nr ? 0 : at + 1;
    }
    head.store(at, std::memory_order_release);
    return n;
}

} // namespace dek::shim
