// SPDX-License-Identifier: Apache-2.0
#include "connection.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/uio.h>
#include <unistd.h>

namespace dek::shim {
namespace {

constexpr const char* kType = "fuse.dekshim";
constexpr std::uint16_t kMaxBackground = 512;

Result<Fd> mount_fuse(const Mount& mount) {
    Fd fd(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
    if (!fd)
        return fail_errno(errno, "/dev/fuse");
    std::array<char, 160> options{};
    std::snprintf(options.data(), options.size(),
                  "fd=%d,rootmode=%o,user_id=0,group_id=0,default_permissions,max_read=%u%s",
                  fd.get(), static_cast<unsigned>(mount.root), mount.transfer,
                  mount.everybody ? ",allow_other" : "");
    if (::mount("dek-shimd", mount.path.c_str(), kType, MS_NOSUID | MS_NODEV | MS_NOEXEC,
                options.data()) < 0)
        return fail_errno(errno, "mounting " + mount.path);
    return fd;
}

fuse_init_out agreement(const fuse_init_in& in, const Mount& mount) {
    std::uint64_t offered = in.flags;
    if (in.flags & FUSE_INIT_EXT)
        offered |= static_cast<std::uint64_t>(in.flags2) << 32;
    const std::uint64_t wanted = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_MAX_PAGES |
                                 FUSE_ASYNC_DIO | FUSE_HANDLE_KILLPRIV_V2 | FUSE_INIT_EXT |
                                 (mount.resend ? kInitHasResend : 0);
    const std::uint64_t flags = offered & wanted;
    fuse_init_out out{};
    out.major = FUSE_KERNEL_VERSION;
    out.minor =
        std::min<std::uint32_t>(in.minor, 40); // of the minor versions up to here we know all
    out.flags = static_cast<std::uint32_t>(flags);
    out.flags2 = static_cast<std::uint32_t>(flags >> 32);
    out.max_background = kMaxBackground;
    out.congestion_threshold = kMaxBackground * 3 / 4;
    out.max_write = mount.transfer;
    out.max_pages = static_cast<std::uint16_t>(mount.transfer / 4096);
    out.time_gran = 1;
    return out;
}

// The kernel queues INIT as part of mounting, so it is there already.
Result<bool> answer_init(int fd, const Mount& mount) {
    alignas(8) std::array<std::uint8_t, FUSE_MIN_READ_BUFFER> buffer;
    pollfd ready{fd, POLLIN, 0};
    if (::poll(&ready, 1, 10000) != 1)
        return fail(Errc::timeout, "the kernel does not begin the FUSE connection");
    const ssize_t n = ::read(fd, buffer.data(), buffer.size());
    if (n < 0)
        return fail_errno(errno, "reading the first FUSE request");
    fuse_in_header head;
    fuse_init_in in{};
    if (static_cast<std::size_t>(n) < sizeof(head))
        return fail(Errc::internal, "the first FUSE request is too short");
    std::memcpy(&head, buffer.data(), sizeof(head));
    if (head.opcode != FUSE_INIT)
        return fail(Errc::internal, "the first FUSE request is not INIT");
    std::memcpy(&in, buffer.data() + sizeof(head),
                std::min(sizeof(in), static_cast<std::size_t>(n) - sizeof(head)));
    if (in.major != FUSE_KERNEL_VERSION)
        return fail(Errc::unsupported, "the kernel speaks another major version of FUSE");
    const fuse_init_out out = agreement(in, mount);
    answer(fd, head.unique, 0, &out, sizeof(out));
    return (static_cast<std::uint64_t>(out.flags2) << 32 & kInitHasResend) != 0;
}

Result<Fd> clone_fuse(int original) {
    Fd fd(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
    if (!fd)
        return fail_errno(errno, "/dev/fuse");
    std::uint32_t from = static_cast<std::uint32_t>(original);
    if (::ioctl(fd.get(), FUSE_DEV_IOC_CLONE, &from) < 0)
        return fail_errno(errno, "cloning a FUSE descriptor");
    return fd;
}

bool notify(int fd, std::uint32_t code, const void* body, std::size_t size) {
    fuse_out_header head{};
    head.len = static_cast<std::uint32_t>(sizeof(head) + size);
    head.error = static_cast<std::int32_t>(code);
    const iovec parts[2] = {{&head, sizeof(head)}, {const_cast<void*>(body), size}};
    return ::writev(fd, parts, size ? 2 : 1) >= 0;
}

// mountinfo writes space, tab, newline and backslash as \ooo.
std::string unescape(const std::string& text) {
    std::string plain;
    for (std::size_t i = 0; i < text.size(); i++) {
        if (text[i] == '\\' && i + 3 < text.size()) {
            plain += static_cast<char>(std::stoi(text.substr(i + 1, 3), nullptr, 8));
            i += 3;
        } else {
            plain += text[i];
        }
    }
    return plain;
}

} // namespace

Result<Connection> mount_connection(const Mount& mount, unsigned fds) {
    auto first = mount_fuse(mount);
    if (!first)
        return tl::unexpected(first.error());
    auto resend = answer_init(first->get(), mount);
    if (!resend) {
        unmount_lazily(mount.path);
        return tl::unexpected(resend.error());
    }
    Connection connection;
    connection.resend = *resend;
    connection.fds.push_back(std::move(*first));
    while (connection.fds.size() < fds) {
        auto clone = clone_fuse(connection.fds.front().get());
        if (!clone) {
            unmount_lazily(mount.path);
            return tl::unexpected(clone.error());
        }
        connection.fds.push_back(std::move(*clone));
    }
    for (const Fd& fd : connection.fds)
        ::fcntl(fd.get(), F_SETFL, O_NONBLOCK);
    return connection;
}

bool connection_over(int fd) {
    pollfd state{fd, 0, 0};
    return ::poll(&state, 1, 0) < 0 || (state.revents & (POLLERR | POLLNVAL));
}

bool unmount_idle(const std::string& path, int fd) {
    const bool away = ::umount2(path.c_str(), UMOUNT_NOFOLLOW) == 0 || errno == EINVAL ||
                      errno == ENOENT; // the last two: somebody else has unmounted it
    return away && connection_over(fd);
}

void unmount_lazily(const std::string& path) {
    ::umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW);
}

std::vector<std::string> mounts_beneath(const std::string& folder) {
    std::vector<std::string> found;
    std::ifstream table("/proc/self/mountinfo");
    for (std::string line; std::getline(table, line);) {
        std::istringstream fields(line);
        std::string skipped, path, field;
        for (int i = 0; i < 4; i++)
            fields >> skipped;
        fields >> path;
        while (fields >> field && field != "-") {
        }
        fields >> field;
        path = unescape(path);
        if (field == kType && path.starts_with(folder + "/"))
            found.push_back(path);
    }
    std::reverse(found.begin(), found.end());
    return found;
}

bool notify_resend(int fd) {
    return notify(fd, kNotifyResend, nullptr, 0);
}

bool notify_size(int fd) {
    fuse_notify_inval_inode_out body{};
    body.ino = kRootNode;
    body.off = -1; // attributes alone
    return notify(fd, FUSE_NOTIFY_INVAL_INODE, &body, sizeof(body));
}

bool notify_poll(int fd, std::uint64_t kernel_handle) {
    fuse_notify_poll_wakeup_out body{};
    body.kh = kernel_handle;
    return notify(fd, FUSE_NOTIFY_POLL, &body, sizeof(body));
}

void answer(int fd, std::uint64_t unique, int error, const void* body, std::size_t size) {
    fuse_out_header head{};
    head.len = static_cast<std::uint32_t>(sizeof(head) + size);
    head.error = error;
    head.unique = unique;
    const iovec parts[2] = {{&head, sizeof(head)}, {const_cast<void*>(body), size}};
    // ENOENT: the request was aborted meanwhile; ENODEV: the mount is gone. Nobody waits then.
    if (::writev(fd, parts, size ? 2 : 1) < 0)
        return;
}

} // namespace dek::shim
