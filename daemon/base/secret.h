// SPDX-License-Identifier: Apache-2.0
// The one type that holds key material, passphrases and what is derived from them in userspace.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"

namespace dek {

// Move-only bytes in memory of its own that is locked (mlock), left out of core dumps and of fork
// (MADV_DONTDUMP, MADV_WIPEONFORK) and wiped when let go. Fixed size. No stream operator, no
// implicit copy, no conversion to string. Not thread-safe for writing; concurrent reading is fine.
class Secret {
  public:
    Secret() = default; // empty
    // Zeroed. Dies (std::bad_alloc) when memory cannot be had; a failing mlock is only tolerated
    // when RLIMIT_MEMLOCK forbids it to an unprivileged user.
    explicit Secret(std::size_t size);
    static Secret copy_of(std::span<const std::uint8_t> bytes);
    static Secret random(std::size_t size);
    Secret(Secret&& other) noexcept;
    Secret& operator=(Secret&& other) noexcept;
    Secret(const Secret&) = delete;
    Secret& operator=(const Secret&) = delete;
    ~Secret();

    Secret clone() const;
    void wipe() noexcept;                     // and become empty
    void truncate(std::size_t size) noexcept; // size <= size(); the rest is wiped

    std::span<const std::uint8_t> bytes() const { return {data_, size_}; }
    std::span<std::uint8_t> bytes() { return {data_, size_}; }
    std::size_t size() const { return size_; }
    bool empty() const { return size_ == 0; }
    // Constant time for equal sizes.
    bool equals(std::span<const std::uint8_t> other) const;

  private:
    std::uint8_t* data_ = nullptr;
    std::size_t size_ = 0;
    std::size_t mapped_ = 0;
};

// Everything from a file descriptor up to `max` bytes, read straight into locked memory.
// invalid_argument when there is more than max, or nothing.
Result<Secret> read_secret(int fd, std::size_t max, const std::string& what);
Result<Secret> read_secret_file(const std::string& path, std::size_t max, const std::string& what);

// For processes that hold keys: no core dumps, not ptraceable by peers (PR_SET_DUMPABLE 0),
// mlockall best effort. Call first in main.
void harden_process() noexcept;

} // namespace dek
