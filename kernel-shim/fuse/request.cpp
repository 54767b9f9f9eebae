// SPDX-License-Identifier: Apache-2.0
#include "request.h"

#include <sys/mman.h>

namespace dek::shim {

// Memory that is there from the start. Inaccessible at first, so that huge pages can be asked for
// before a process with all its memory locked (mlockall) fills it.
void* RequestPool::map(std::size_t bytes) {
    void* memory = ::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return nullptr;
    ::madvise(memory, bytes, MADV_HUGEPAGE);
    if (::mprotect(memory, bytes, PROT_READ | PROT_WRITE) < 0) {
        ::munmap(memory, bytes);
        return nullptr;
    }
    auto* at = static_cast<volatile std::uint8_t*>(memory);
    for (std::size_t i = 0; i < bytes; i += 4096)
        at[i] = 0;
    return memory;
}

bool RequestPool::grow(unsigned requests, unsigned large) {
    const std::size_t bytes = std::size_t{requests} * kSmall + std::size_t{large} * kLarge;
    void* memory = map(bytes);
    if (!memory)
        return false;
    // A page fault while the kernel copies a request to a process that is being killed would fail
    // that request; memory that is there cannot fault. Best effort without the right to lock.
    ::mlock(memory, bytes);
    ::madvise(memory, bytes, MADV_DONTDUMP);
    Block block{std::make_unique<Request[]>(requests), requests, memory, bytes};
    large_total_ += large;
    large_.reserve(large_total_);
    auto* at = static_cast<std::uint8_t*>(memory);
    for (unsigned i = 0; i < large; i++, at += kLarge)
        large_.push_back(at);
    for (unsigned i = 0; i < requests; i++, at += kSmall) {
        block.requests[i].small = at;
        give(&block.requests[i]);
    }
    blocks_.push_back(std::move(block));
    return true;
}

RequestPool::~RequestPool() {
    for (const Block& block : blocks_)
        ::munmap(block.memory, block.bytes);
}

} // namespace dek::shim
