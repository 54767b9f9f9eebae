// SPDX-License-Identifier: Apache-2.0
// Changes whose answer waits for I/O begun before them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "volume.h"

namespace dek::shim {

// Who waits for a drain: the caller's ticket, and its argument, which becomes the answer. A
// command's carries its key until then, so it is wiped.
class Waiter {
  public:
    Waiter(std::uint64_t ticket, std::uint32_t command, std::span<const std::uint8_t> argument)
        : ticket_(ticket), command_(command), argument_(argument.begin(), argument.end()) {}
    Waiter(Waiter&&) = default;
    Waiter& operator=(Waiter&&) = default;
    Waiter(const Waiter&) = delete;
    Waiter& operator=(const Waiter&) = delete;
    ~Waiter() {
        if (!argument_.empty())
            dek_wipe(argument_.data(), argument_.size());
    }
    std::uint64_t ticket() const { return ticket_; }
    std::uint32_t command() const { return command_; }
    std::span<std::uint8_t> argument() { return argument_; }

  private:
    std::uint64_t ticket_;
    std::uint32_t command_;
    std::vector<std::uint8_t> argument_;
};

struct Drain {
    std::shared_ptr<Volume> volume;
    std::uint64_t hold = 0;
    std::uint64_t epoch = 0;       // I/O looked up before it counts
    std::vector<dek_range> ranges; // what to wait for
    Clock::time_point deadline{};  // of the waiter
    std::optional<Waiter> waiter;  // none: it gave up; the hold is lifted when the I/O has gone
};

} // namespace dek::shim
