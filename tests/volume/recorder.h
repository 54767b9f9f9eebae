// SPDX-License-Identifier: Apache-2.0
// Stands between the code under test and the kernel: records what is written and where the barriers
// are, makes a call fail, or ends the process before one. It replaces pwrite, write, fsync,
// fdatasync, rename and renameat2 of the test program it is linked into.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include <sys/types.h>

namespace dek::test {

struct Event {
    bool barrier = false;
    std::uint64_t byte = 0;
    std::vector<std::uint8_t> data;
};

// What pwrite and fdatasync were asked while `work` ran.
std::vector<Event> record(const std::function<void()>& work);

// The `index`-th call (from 0) that `work` makes fails with `error`. False when it made fewer.
bool run_failing(int index, int error, const std::function<void()>& work);

// `work` in a child process that ends, as by kill -9, just before its `index`-th call. False when
// it made fewer.
bool run_killed(int index, const std::function<void()>& work);

// Every state the medium may be in when the power fails at some moment of `events`: what was
// written before the last barrier is there, of what came after any 512-byte sectors may be. Not all
// subsets: all prefixes, all suffixes, all but one, one alone, and random ones. `visit` gets the
// whole medium.
void for_each_crash(const std::vector<std::uint8_t>& before, const std::vector<Event>& events,
                    const std::function<void(const std::vector<std::uint8_t>&)>& visit);

} // namespace dek::test
