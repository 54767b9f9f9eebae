// SPDX-License-Identifier: Apache-2.0
#include "file_requests.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <sys/stat.h>

#include "connection.h"

namespace dek::shim {
namespace {

void answer_attributes(const Volume& volume, int fd, std::uint64_t unique) {
    fuse_attr_out out{};
    out.attr_valid = kForever;
    out.attr = root_attributes(S_IFREG | (volume.read_only ? 0400 : 0600),
                               volume.sectors.load(std::memory_order_relaxed) * 512);
    answer(fd, unique, 0, &out, sizeof(out));
}

// Times may be set (and are forgotten); size, owner and permissions may not.
bool may_set(const Volume& volume, const RequestHead& head, std::span<const std::uint8_t> rest) {
    fuse_setattr_in in{};
    const std::size_t in_head = sizeof(head.bytes);
    std::memcpy(&in, head.bytes, in_head);
    std::memcpy(reinterpret_cast<std::uint8_t*>(&in) + in_head, rest.data(),
                std::min(sizeof(in) - in_head, rest.size()));
    const bool resizes = (in.valid & FATTR_SIZE) && in.size != volume.sectors * 512;
    return !resizes && !(in.valid & (FATTR_MODE | FATTR_UID | FATTR_GID));
}

} // namespace

fuse_attr root_attributes(std::uint32_t mode, std::uint64_t bytes) {
    fuse_attr a{};
    a.ino = kRootNode;
    a.mode = mode;
    a.nlink = S_ISDIR(mode) ? 2 : 1;
    a.size = bytes;
    a.blocks = bytes / 512;
    a.blksize = 4096;
    return a;
}

void answer_file_request(const Volume& volume, Counters& counters, int fd, const RequestHead& head,
                         std::span<const std::uint8_t> rest) {
    const std::uint64_t unique = head.header.unique;
    switch (head.header.opcode) {
    case FUSE_GETATTR:
        return answer_attributes(volume, fd, unique);
    case FUSE_SETATTR:
        if (!may_set(volume, head, rest))
            return answer(fd, unique, -EPERM);
        return answer_attributes(volume, fd, unique);
    case FUSE_OPEN: {
        fuse_open_out out{};
        // Nothing is cached, so a close has nothing to wait for, not even a worker.
        out.open_flags = FOPEN_DIRECT_IO | FOPEN_NOFLUSH | kOpenParallelDirectWrites;
        return answer(fd, unique, 0, &out, sizeof(out));
    }
    case FUSE_STATFS: {
        const fuse_statfs_out out{};
        return answer(fd, unique, 0, &out, sizeof(out));
    }
    case FUSE_FLUSH:
    case FUSE_RELEASE:
    case FUSE_DESTROY:
        return answer(fd, unique, 0);
    case FUSE_FALLOCATE: // discards and zeroing: zeros on the device would read as garbage
        Counters::add(counters.refused);
        return answer(fd, unique, -EOPNOTSUPP);
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT: // as with any disk, I/O is not interrupted
        return;
    default:
        return answer(fd, unique, -ENOSYS);
    }
}

} // namespace dek::shim
