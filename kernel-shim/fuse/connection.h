// SPDX-License-Identifier: Apache-2.0
// A FUSE connection: mounted, its first exchange answered, its descriptors cloned, its
// notifications.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <sys/stat.h>

#include "base/fd.h"
#include "base/result.h"
#include "fuse_wire.h"

namespace dek::shim {

struct Mount {
    std::string path;                      // a directory or a regular file, as the root is
    mode_t root;                           // type and permissions of the root
    std::uint32_t transfer = kMaxTransfer; // bytes of the largest read or write
    bool everybody = false; // other users' requests arrive, too (and can be refused here)
    bool resend = true;     // ask for it, where the kernel has it
};

struct Connection {
    std::vector<Fd> fds; // descriptors of one connection, each with a queue of requests of its own
    bool resend = false; // the kernel sends unanswered requests again when asked
};

// Mounts, answers INIT and clones the descriptor until there are `fds`. The path must exist.
Result<Connection> mount_connection(const Mount& mount, unsigned fds);

// Unmounts what nobody uses. True when the connection `fd` belongs to is over: no request of it can
// come any more. False: something on it is open, or it lives on out of sight (unmounted lazily by
// somebody, or copied into another mount namespace).
bool unmount_idle(const std::string& path, int fd);
// Is the connection over, for whatever reason?
bool connection_over(int fd);
// Mounts of dek-shimd beneath `folder` (not itself), topmost first, as this process sees them.
std::vector<std::string> mounts_beneath(const std::string& folder);
void unmount_lazily(const std::string& path);

// Asks for every unanswered request again. False: the connection is dead, or knows no such thing.
bool notify_resend(int fd);
// The size changed: forget the attributes of the root.
bool notify_size(int fd);
// Wakes whoever polls under the kernel handle.
bool notify_poll(int fd, std::uint64_t kernel_handle);

// 0 for success or -errno; `body` may be empty. Answers nobody waits for any more are not an error.
void answer(int fd, std::uint64_t unique, int error, const void* body = nullptr,
            std::size_t size = 0);

} // namespace dek::shim
