// SPDX-License-Identifier: Apache-2.0
// The core's memory under the tests' control: the linker sends its aligned_alloc() and free() here.
#pragma once

#include <cstddef>

namespace allocator {

// Blocks alive.
long live();
// The n-th allocation from now fails, once; 0: none does. Thread-safe only while nothing allocates.
void fail_at(long n);
// Did it come to that?
bool failed();

// From now on looks at `size` bytes at `offset` of `block` when that is freed.
void watch(const void* block, std::size_t offset, std::size_t size);
// Watched blocks freed so far with nothing but zeros there, and with anything else.
long freed_wiped();
long freed_unwiped();

} // namespace allocator
