// SPDX-License-Identifier: Apache-2.0
#include "kcm/device.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/stat.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

namespace dek::kcm {
namespace {

Result<std::string> canonical(const std::string& path) {
    const std::unique_ptr<char, void (*)(void*)> real(::realpath(path.c_str(), nullptr), std::free);
    if (!real)
        return fail_errno(errno, path);
    return std::string(real.get());
}

Result<void> fill_block(Device& device) {
    std::uint64_t bytes = 0;
    int logical = 0;
    int read_only = 0;
    if (::ioctl(device.fd.get(), BLKGETSIZE64, &bytes) != 0 ||
        ::ioctl(device.fd.get(), BLKSSZGET, &logical) != 0 ||
        ::ioctl(device.fd.get(), BLKROGET, &read_only) != 0)
        return fail_errno(errno, device.path + " does not tell its size");
    device.lbas = bytes / 512;
    device.logical_block = static_cast<std::uint32_t>(logical);
    device.read_only = read_only != 0;
    return {};
}

// The alignment that direct I/O to the file needs, 512 where the filesystem does not say. By the
// system call: the C library's struct statx is older than these members.
std::uint32_t direct_alignment(int fd) {
    struct statx answer;
    std::memset(&answer, 0, sizeof answer);
    if (::syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &answer) != 0 ||
        !(answer.stx_mask & STATX_DIOALIGN))
        return 512;
    return std::max<std::uint32_t>(512, answer.stx_dio_offset_align);
}

Result<void> fill(Device& device) {
    struct stat st;
    if (::fstat(device.fd.get(), &st) != 0)
        return fail_errno(errno, device.path);
    device.block = S_ISBLK(st.st_mode);
    if (device.block) {
        device.number = st.st_rdev;
        return fill_block(device);
    }
    if (!S_ISREG(st.st_mode))
        return fail(Errc::invalid_argument,
                    device.path + " is neither a block device nor a regular file");
    device.number = st.st_dev;
    device.inode = st.st_ino;
    device.lbas = static_cast<std::uint64_t>(st.st_size) / 512;
    device.logical_block = direct_alignment(device.fd.get());
    return {};
}

} // namespace

std::string number_text(dev_t number) {
    return std::to_string(major(number)) + ":" + std::to_string(minor(number));
}

std::string node_of(const std::string& number) {
    std::error_code none;
    std::string name = std::filesystem::read_symlink("/sys/dev/block/" + number, none).filename();
    std::replace(name.begin(), name.end(), '!', '/');
    return name.empty() ? name : "/dev/" + name;
}

bool Device::same_as(const Device& other) const {
    return block == other.block && number == other.number && inode == other.inode;
}

std::string Device::identity() const {
    const std::string at = number_text(number);
    return block ? "block " + at : "file " + at + " inode " + std::to_string(inode);
}

Result<Device> open_device(const std::string& path, Access access) {
    if (path.empty() || path[0] != '/')
        return fail(Errc::invalid_argument, "\"" + path + "\" is not an absolute path");
    auto real = canonical(path);
    if (!real)
        return tl::unexpected(real.error());
    struct stat st; // before the open, which would block on a FIFO or rewind a tape
    if (::stat(real->c_str(), &st) != 0)
        return fail_errno(errno, *real);
    if (!S_ISBLK(st.st_mode) && !S_ISREG(st.st_mode))
        return fail(Errc::invalid_argument,
                    *real + " is neither a block device nor a regular file");
    Device device;
    device.path = *real;
    const int flags =
        (access == Access::write ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    device.fd = Fd(::open(real->c_str(), flags));
    if (!device.fd)
        return fail_errno(errno, *real + " cannot be opened");
    if (auto filled = fill(device); !filled)
        return tl::unexpected(filled.error());
    if (device.lbas == 0)
        return fail(Errc::invalid_argument, *real + " is empty");
    return device;
}

Result<std::vector<std::uint8_t>> read_bytes(const Device& device, std::uint64_t byte,
                                             std::size_t n) {
    std::vector<std::uint8_t> bytes(n);
    for (std::size_t done = 0; done < n;) {
        const ssize_t got = ::pread(device.fd.get(), bytes.data() + done, n - done,
                                    static_cast<off_t>(byte + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail_errno(errno, device.path + " cannot be read");
        if (got == 0)
            return fail(Errc::io, device.path + " ends before byte " + std::to_string(byte + n));
        done += static_cast<std::size_t>(got);
    }
    return bytes;
}

Result<bool> is_zero(const Device& device, std::uint64_t byte, std::uint64_t n) {
    const std::uint64_t end = byte + n;
    while (byte < end) {
        if (!device.block) {
            const off_t data = ::lseek(device.fd.get(), static_cast<off_t>(byte), SEEK_DATA);
            if (data < 0 && errno == ENXIO)
                return true; // only a hole until the end
            if (data >= 0)
                byte = std::max(byte, static_cast<std::uint64_t>(data));
            if (byte >= end)
                return true;
        }
        const auto piece = std::min<std::uint64_t>(end - byte, 1 << 20);
        auto bytes = read_bytes(device, byte, piece);
        if (!bytes)
            return tl::unexpected(bytes.error());
        if (std::any_of(bytes->begin(), bytes->end(), [](std::uint8_t b) { return b != 0; }))
            return false;
        byte += piece;
    }
    return true;
}

} // namespace dek::kcm
