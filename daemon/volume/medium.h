// SPDX-License-Identifier: Apache-2.0
// Reading and writing around a Location: all of it or an error, aligned for O_DIRECT.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "volume/header.h"

namespace dek::volume {

// Memory that any device takes under O_DIRECT. Zeroed.
class AlignedBytes {
  public:
    explicit AlignedBytes(std::size_t size); // rounded up to 4096
    std::span<std::uint8_t> span() { return {data_.get(), size_}; }

  private:
    struct Free {
        void operator()(std::uint8_t* bytes) const { std::free(bytes); }
    };
    std::size_t size_;
    std::unique_ptr<std::uint8_t, Free> data_;
};

// The same file or device once more, past the page cache: a page that is written back takes its
// older neighbours along, over what a shim has written beside the header since. Empty where the
// medium has no direct I/O, or none that can begin at `byte`.
Fd direct_again(int fd, std::uint64_t byte, int access); // O_RDONLY, O_RDWR
// What the descriptor writes at once or not at all: a device's logical block, 512 bytes of a file,
// or more where O_DIRECT asks for it.
Result<std::size_t> atomic_bytes(int fd);
// `size` bytes from `byte` on, zeros where the file or device ends.
Result<std::vector<std::uint8_t>> read_bytes(int fd, std::uint64_t byte, std::size_t size);
Result<void> write_bytes(int fd, std::uint64_t byte, std::span<const std::uint8_t> bytes);
// As far as the file has bytes there: what does not exist need not become zero.
Result<void> write_zeros(int fd, std::uint64_t byte, std::size_t size);
// Barrier: what was written before is on the medium when it returns.
Result<void> make_durable(int fd);

} // namespace dek::volume
