// SPDX-License-Identifier: Apache-2.0
// Device-mapper's ioctls, as they are: no library between the fuzzer and the kernel.
#pragma once

#include <cstdint>
#include <string>

struct dm_ioctl;

// One mapped device. Not thread-safe. Every call answers 0 or the errno; none throws.
class Mapper {
  public:
    // Opens /dev/mapper/control; throws std::runtime_error if there is none.
    explicit Mapper(std::string name);
    ~Mapper();
    Mapper(const Mapper&) = delete;
    Mapper& operator=(const Mapper&) = delete;

    int create();
    int remove();
    // A table of one target `dek`, START and LENGTH in sectors, into the inactive slot.
    int load(std::uint64_t start, std::uint64_t length, const std::string& parameters);
    int clear();
    int resume();
    // noflush: waiting I/O is pushed back.
    int suspend(bool noflush);
    int status(bool table);

    // "/dev/dm-N"; valid after create().
    [[nodiscard]] const std::string& node() const { return node_; }

  private:
    int call(unsigned long number, std::uint32_t flags, void* buffer, std::size_t size);
    int plain(unsigned long number, std::uint32_t flags);

    std::string name_;
    std::string node_;
    int control_;
};
