// SPDX-License-Identifier: Apache-2.0
#include "events.h"

#include <algorithm>
#include <ctime>

namespace dek::shim {

void EventRing::add(dek_event event) {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    event.time_ns = static_cast<std::uint64_t>(now.tv_sec) * 1000000000ull +
                    static_cast<std::uint64_t>(now.tv_nsec);
    const std::lock_guard guard(lock_);
    event.sequence = ++newest_;
    ring_[newest_ % kKept] = event;
}

std::size_t EventRing::read(std::uint64_t cursor, std::span<dek_event> out, bool& more) const {
    const std::lock_guard guard(lock_);
    const std::uint64_t oldest = newest_ > kKept ? newest_ - kKept + 1 : 1;
    std::uint64_t next = std::max(cursor >= newest_ ? newest_ + 1 : cursor + 1, oldest);
    std::size_t n = 0;
    for (; n < out.size() && next <= newest_; n++, next++)
        out[n] = ring_[next % kKept];
    more = next <= newest_;
    return n;
}

std::uint64_t EventRing::newest() const {
    const std::lock_guard guard(lock_);
    return newest_;
}

} // namespace dek::shim
