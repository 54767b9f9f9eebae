// SPDX-License-Identifier: Apache-2.0
// The ring of events that DEK_IOC_EVENTS hands out.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <span>

#include <dek/ioctl.h>

namespace dek::shim {

// Threading: any thread may add and read. Rare: never on the way of an ordinary request.
class EventRing {
  public:
    static constexpr std::size_t kKept = 1024;

    // `sequence` and `time_ns` are filled in.
    void add(dek_event event);
    // Up to out.size() events newer than `cursor`, oldest first; returns how many. `more`: there
    // are others.
    std::size_t read(std::uint64_t cursor, std::span<dek_event> out, bool& more) const;
    // Of the newest event; 0: there was none.
    std::uint64_t newest() const;

  private:
    mutable std::mutex lock_;
    std::array<dek_event, kKept> ring_{};
    std::uint64_t newest_ = 0;
};

} // namespace dek::shim
