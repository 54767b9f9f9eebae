// SPDX-License-Identifier: Apache-2.0
#include "handover.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include <poll.h>
#include <sys/socket.h>

namespace dek::shim {
namespace {

struct Wire {
    Word word;
    std::uint32_t slot;
};

using Ancillary = std::array<std::uint8_t, CMSG_SPACE(kMaxFds * sizeof(int))>;

} // namespace

Result<void> send_message(int socket, Word word, std::uint32_t slot, const std::vector<int>& fds) {
    if (fds.size() > kMaxFds)
        return fail(Errc::internal, "too many descriptors in one message");
    Wire wire{word, slot};
    iovec data{&wire, sizeof(wire)};
    alignas(cmsghdr) Ancillary room{};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    if (!fds.empty()) {
        message.msg_control = room.data();
        message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
        cmsghdr* head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
        std::memcpy(CMSG_DATA(head), fds.data(), fds.size() * sizeof(int));
    }
    while (::sendmsg(socket, &message, MSG_NOSIGNAL) < 0)
        if (errno != EINTR)
            return fail_errno(errno, "the other half of dek-shimd");
    return {};
}

Result<Message> receive_message(int socket, int timeout_ms) {
    pollfd ready{socket, POLLIN, 0};
    int n;
    while ((n = ::poll(&ready, 1, timeout_ms)) < 0 && errno == EINTR) {
    }
    if (n == 0)
        return fail(Errc::timeout, "the other half of dek-shimd does not answer");
    Wire wire{};
    iovec data{&wire, sizeof(wire)};
    alignas(cmsghdr) Ancillary room{};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = room.data();
    message.msg_controllen = room.size();
    ssize_t got;
    while ((got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR) {
    }
    if (got < 0)
        return fail_errno(errno, "the other half of dek-shimd");
    Message out{wire.word, wire.slot, {}};
    for (cmsghdr* c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        for (std::size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
            int fd;
            std::memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            out.fds.emplace_back(fd);
        }
    }
    if (got != sizeof(wire))
        return fail(Errc::unavailable, "the other half of dek-shimd is gone");
    return out;
}

} // namespace dek::shim
