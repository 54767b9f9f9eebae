// SPDX-License-Identifier: Apache-2.0
// The block device or image file a volume lies on.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <sys/types.h>

#include "base/fd.h"
#include "base/result.h"

namespace dek::kcm {

// An open device. Not thread-safe; closes it when it goes.
struct Device {
    Fd fd;
    std::string path;   // canonical: no symbolic link is left in it
    bool block = false; // otherwise a regular file
    bool read_only = false;
    std::uint64_t lbas = 0;            // whole 512-byte sectors
    std::uint32_t logical_block = 512; // bytes; for a file what direct I/O demands
    dev_t number = 0;                  // of a block device; for a file, of the filesystem it is on
    ino_t inode = 0;                   // of a file

    bool same_as(const Device& other) const;
    std::string
    identity() const; // "block 8:16" or "file 254:1 inode 77": equal for the same device
};

std::string number_text(dev_t number); // "8:16", as in tables and below /sys/dev/block

// "/dev/loop3", by what the kernel calls it; empty: it is gone.
std::string node_of(const std::string& number);

enum class Access { read, write };
// Errc::not_found, invalid_argument (neither a block device nor a regular file, or empty),
// permission, io.
Result<Device> open_device(const std::string& path, Access access);

// n bytes from `byte`; io when they cannot all be read.
Result<std::vector<std::uint8_t>> read_bytes(const Device& device, std::uint64_t byte,
                                             std::size_t n);
// True when [byte, byte + n) reads as zeros. Holes of a file are not read.
Result<bool> is_zero(const Device& device, std::uint64_t byte, std::uint64_t n);

} // namespace dek::kcm
