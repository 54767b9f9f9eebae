// SPDX-License-Identifier: Apache-2.0
#include "backing.h"

#include <algorithm>
#include <cerrno>

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#ifndef STATX_DIOALIGN // Linux 6.1; Debian 12's libc does not know it
#define STATX_DIOALIGN 0x00002000U
#endif

namespace dek::shim {
namespace {

// struct statx of Linux 6.1 has two numbers where the libc's has spare ones.
std::uint32_t file_alignment(int fd) {
    constexpr std::size_t kDioOffsetAlign = 0x9c;
    struct statx info {};
    static_assert(sizeof(info) >= kDioOffsetAlign + 4);
    if (::statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &info) < 0 ||
        !(info.stx_mask & STATX_DIOALIGN))
        return 512;
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(&info);
    return std::max<std::uint32_t>(512, dek_get_le32(bytes + kDioOffsetAlign));
}

int describe_block_device(int fd, Backing& out) {
    std::uint64_t bytes = 0;
    int logical = 0;
    if (::ioctl(fd, BLKGETSIZE64, &bytes) < 0 || ::ioctl(fd, BLKSSZGET, &logical) < 0)
        return errno;
    out.sectors = bytes / 512;
    out.logical_block = static_cast<std::uint32_t>(logical);
    return 0;
}

} // namespace

int describe_backing(int fd, Backing& out) {
    struct stat info {};
    if (::fstat(fd, &info) < 0)
        return errno;
    if (S_ISBLK(info.st_mode)) {
        out.block_device = true;
        out.identity = {info.st_rdev, 0};
        return describe_block_device(fd, out);
    }
    if (!S_ISREG(info.st_mode))
        return ENOTBLK;
    out.block_device = false;
    out.identity = {info.st_dev, info.st_ino};
    out.sectors = static_cast<std::uint64_t>(info.st_size) / 512;
    out.logical_block = file_alignment(fd);
    return 0;
}

int open_backing(const std::string& path, bool read_only, Backing& out) {
    struct stat info {};
    if (::stat(path.c_str(), &info) < 0)
        return errno;
    if (!S_ISBLK(info.st_mode) && !S_ISREG(info.st_mode))
        return ENOTBLK;
    // Without O_CREAT, O_EXCL means something for block devices only: a claim, as of a mount.
    const int flags = (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK |
                      (S_ISBLK(info.st_mode) ? O_EXCL : 0);
    int fd = ::open(path.c_str(), flags | O_DIRECT);
    // A file system without direct I/O (a tmpfs before Linux 6.6) works through the page cache.
    if (fd < 0 && errno == EINVAL && S_ISREG(info.st_mode))
        fd = ::open(path.c_str(), flags);
    if (fd < 0)
        return errno;
    out.fd.reset(fd);
    // O_NONBLOCK was for the open alone (no waiting for a drive's door).
    ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    // A file knows no exclusive opening. The lock belongs to what was opened, not to this process:
    // the holder's descriptor of it keeps it while workers come and go.
    if (S_ISREG(info.st_mode) && ::flock(fd, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK ? EBUSY : errno;
    return describe_backing(fd, out);
}

void close_backing(Backing& backing) {
    if (backing.fd && !backing.block_device)
        ::flock(backing.fd.get(), LOCK_UN);
    backing.fd.reset();
}

} // namespace dek::shim
