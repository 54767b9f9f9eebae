// SPDX-License-Identifier: Apache-2.0
// What holder and worker tell each other over their socket pair (SOCK_SEQPACKET), descriptors with
// it.
//
// holder -> worker at its start: `table` (memfd, lock), one `held` for each volume kept, `begin`.
// worker -> holder: `keep` or `drop` (answered by `done`), and `ready` once it serves.
#pragma once

#include <cstdint>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace dek::shim {

enum class Word : std::uint32_t { table = 1, held, begin, keep, drop, done, ready };

struct Message {
    Word word;
    std::uint32_t slot = 0;
    std::vector<Fd> fds; // of a volume: the device beneath, then the FUSE descriptors
};

constexpr unsigned kMaxFds = 16;

// The descriptors stay the caller's.
Result<void> send_message(int socket, Word word, std::uint32_t slot = 0,
                          const std::vector<int>& fds = {});
// Waits for one. unavailable: the other side is gone. timeout_ms -1: as long as it takes.
Result<Message> receive_message(int socket, int timeout_ms);

} // namespace dek::shim
