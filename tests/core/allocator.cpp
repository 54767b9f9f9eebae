// SPDX-License-Identifier: Apache-2.0
#include "allocator.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>

extern "C" {
void* __real_aligned_alloc(std::size_t align, std::size_t size);
void __real_free(void* p);
void* __wrap_aligned_alloc(std::size_t align, std::size_t size);
void __wrap_free(void* p);
}

namespace {

struct Watched {
    std::size_t offset;
    std::size_t size;
};

std::atomic<long> live_blocks;
std::atomic<long> countdown;
std::atomic<bool> has_failed;
std::atomic<long> wiped;
std::atomic<long> unwiped;
std::atomic<bool> watching;
std::mutex watch_lock;
std::map<const void*, Watched> watched;

void inspect(const void* p) {
    const std::lock_guard lock(watch_lock);
    const auto found = watched.find(p);
    if (found == watched.end())
        return;
    const auto* bytes = static_cast<const unsigned char*>(p) + found->second.offset;
    const bool clean =
        std::all_of(bytes, bytes + found->second.size, [](unsigned char b) { return b == 0; });
    ++(clean ? wiped : unwiped);
    watched.erase(found);
}

} // namespace

void* __wrap_aligned_alloc(std::size_t align, std::size_t size) {
    if (countdown > 0 && --countdown == 0) {
        has_failed = true;
        return nullptr;
    }
    void* p = __real_aligned_alloc(align, size);
    live_blocks += p != nullptr;
    return p;
}

void __wrap_free(void* p) {
    if (p && watching)
        inspect(p);
    live_blocks -= p != nullptr;
    __real_free(p);
}

namespace allocator {

long live() {
    return live_blocks;
}
void fail_at(long n) {
    has_failed = false;
    countdown = n;
}
bool failed() {
    return has_failed;
}
void watch(const void* block, std::size_t offset, std::size_t size) {
    const std::lock_guard lock(watch_lock);
    watched[block] = {offset, size};
    watching = true;
}
long freed_wiped() {
    return wiped;
}
long freed_unwiped() {
    return unwiped;
}

} // namespace allocator
