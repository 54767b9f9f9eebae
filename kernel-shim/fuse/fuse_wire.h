// SPDX-License-Identifier: Apache-2.0
// The FUSE protocol's messages: the kernel's header, and the constants newer than Debian 12's.
#pragma once

#include <cstddef>
#include <cstdint>

#include <linux/fuse.h>

namespace dek::shim {

// INIT flags, as one 64-bit number (flags | flags2 << 32).
constexpr std::uint64_t kInitHasResend = 1ull << 39; // kernel 6.9: unanswered requests come again
constexpr std::uint32_t kNotifyResend = 7;
// A request that came again carries this bit in `unique`, and so does its answer.
constexpr std::uint64_t kUniqueResent = 1ull << 63;

constexpr std::uint32_t kOpenParallelDirectWrites = 1u << 6;

constexpr std::uint64_t kRootNode = 1;
// Attributes change by our notification only, so the kernel may keep them.
constexpr std::uint64_t kForever = 1u << 30;

// The largest read or write the kernel is told to send, in bytes.
constexpr std::uint32_t kMaxTransfer = 1u << 20;

// What precedes the data of a WRITE; a READ's whole request is as long.
struct RequestHead {
    fuse_in_header header;
    union {
        fuse_read_in read;
        fuse_write_in write;
        std::uint8_t bytes[40];
    };
};
static_assert(sizeof(RequestHead) == 80);
static_assert(sizeof(fuse_read_in) == 40 && sizeof(fuse_write_in) == 40);

} // namespace dek::shim
