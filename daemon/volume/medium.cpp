// SPDX-License-Identifier: Apache-2.0
// pread, pwrite and fdatasync, with alignment, short counts and errors dealt with.
#include "volume/medium.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <string>
#include <vector>

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/stat.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace dek::volume {
namespace {

constexpr std::size_t alignment = 4096;

constexpr std::uint64_t round_up(std::uint64_t value) {
    return (value + alignment - 1) / alignment * alignment;
}

// What direct I/O to a file has to be aligned to; 4096 where the filesystem does not say. By the
// system call: the C library's struct statx is older than these members.
std::size_t direct_alignment(int fd) {
    struct statx answer {};
    if (::syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &answer) == 0 &&
        (answer.stx_mask & STATX_DIOALIGN) != 0 && answer.stx_dio_offset_align != 0)
        return std::max<std::size_t>(answer.stx_dio_offset_align, 512);
    return alignment;
}

// As much as there is from an aligned place on.
Result<std::size_t> read_aligned(int fd, std::uint64_t byte, std::span<std::uint8_t> into) {
    std::size_t have = 0;
    while (have < into.size()) {
        const ssize_t got =
            ::pread(fd, into.data() + have, into.size() - have, static_cast<off_t>(byte + have));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail_errno(errno, "the header cannot be read");
        have += static_cast<std::size_t>(got);
        if (got == 0 || have % 512 != 0) // the end, even where O_DIRECT would not be asked again
            break;
    }
    return have;
}

} // namespace

AlignedBytes::AlignedBytes(std::size_t size)
    : size_(round_up(size)),
      data_(static_cast<std::uint8_t*>(std::aligned_alloc(alignment, round_up(size)))) {
    if (!data_)
        throw std::bad_alloc();
    std::memset(data_.get(), 0, size_);
}

Fd direct_again(int fd, std::uint64_t byte, int access) {
    const std::string self = "/proc/thread-self/fd/" + std::to_string(fd);
    Fd direct(::open(self.c_str(), access | O_DIRECT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    if (!direct)
        return direct;
    const auto block = atomic_bytes(direct.get());
    return block && *block <= alignment && byte % *block == 0 ? std::move(direct) : Fd();
}

Result<std::size_t> atomic_bytes(int fd) {
    struct stat info {};
    if (::fstat(fd, &info) != 0)
        return fail_errno(errno, "the header's place cannot be looked at");
    if (S_ISBLK(info.st_mode)) {
        int size = 0;
        if (::ioctl(fd, BLKSSZGET, &size) != 0)
            return fail_errno(errno, "the device does not tell its block size");
        return static_cast<std::size_t>(size);
    }
    const int flags = ::fcntl(fd, F_GETFL);
    return flags >= 0 && (flags & O_DIRECT) != 0 ? direct_alignment(fd) : 512;
}

Result<std::vector<std::uint8_t>> read_bytes(int fd, std::uint64_t byte, std::size_t size) {
    const std::uint64_t from = byte / alignment * alignment;
    const std::size_t before = static_cast<std::size_t>(byte - from);
    AlignedBytes buffer(before + size);
    if (auto got = read_aligned(fd, from, buffer.span()); !got)
        return tl::unexpected<Error>(got.error());
    const auto wanted = buffer.span().subspan(before, size);
    return std::vector<std::uint8_t>(wanted.begin(), wanted.end());
}

Result<void> write_bytes(int fd, std::uint64_t byte, std::span<const std::uint8_t> bytes) {
    AlignedBytes buffer(bytes.size());
    std::copy(bytes.begin(), bytes.end(), buffer.span().begin());
    std::size_t done = 0;
    while (done < bytes.size()) {
        const ssize_t put = ::pwrite(fd, buffer.span().data() + done, bytes.size() - done,
                                     static_cast<off_t>(byte + done));
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return fail_errno(errno, "the header cannot be written");
        if (put == 0)
            return fail(Errc::no_space, "the header cannot be written: its place ends too early");
        done += static_cast<std::size_t>(put);
    }
    return {};
}

Result<void> write_zeros(int fd, std::uint64_t byte, std::size_t size) {
    struct stat info {};
    if (::fstat(fd, &info) != 0)
        return fail_errno(errno, "the header's place cannot be looked at");
    if (S_ISREG(info.st_mode)) {
        const std::uint64_t end = static_cast<std::uint64_t>(info.st_size);
        size = static_cast<std::size_t>(std::min<std::uint64_t>(size, end - std::min(end, byte)));
    }
    return write_bytes(fd, byte, std::vector<std::uint8_t>(size));
}

Result<void> make_durable(int fd) {
    if (::fdatasync(fd) != 0)
        return fail_errno(errno, "the header cannot be made durable");
    return {};
}

} // namespace dek::volume
