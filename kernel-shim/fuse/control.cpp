// SPDX-License-Identifier: Apache-2.0
#include "control.h"

#include <array>
#include <cerrno>
#include <cstring>

#include <dirent.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "file_requests.h"

namespace dek::shim {
namespace {

constexpr std::uint64_t kFileNode = 2;
constexpr const char kFileName[] = "control";
constexpr std::uint32_t kTransfer = 65536;

template <class T>
bool take(std::span<const std::uint8_t>& body, T& out) {
    if (body.size() < sizeof(T))
        return false;
    std::memcpy(&out, body.data(), sizeof(T));
    body = body.subspan(sizeof(T));
    return true;
}

fuse_attr attributes_of(std::uint64_t node) {
    fuse_attr a = root_attributes(node == kRootNode ? S_IFDIR | 0700 : S_IFREG | 0600, 0);
    a.ino = node;
    return a;
}

} // namespace

Result<std::unique_ptr<Control>> Control::mount(const std::string& folder) {
    unmount_lazily(folder);
    Mount mount;
    mount.path = folder;
    mount.root = S_IFDIR | 0700;
    mount.transfer = kTransfer;
    mount.everybody = true; // a caller that is not root is to hear EPERM, from us
    auto connection = mount_connection(mount, 1);
    if (!connection)
        return tl::unexpected(connection.error());
    return std::unique_ptr<Control>(
        new Control(std::move(connection->fds.front()), connection->resend));
}

Control::Control(Fd fd, bool resend)
    : fd_(std::move(fd)), resend_(resend), buffer_(kTransfer + 4096) {}

bool Control::serve(Dispatcher& dispatcher) {
    for (;;) {
        const ssize_t n = ::read(fd_.get(), buffer_.data(), buffer_.size());
        if (n < 0 && (errno == EINTR || errno == ENOENT))
            continue;
        if (n < 0)
            return errno == EAGAIN;
        const auto size = static_cast<std::size_t>(n);
        if (size >= sizeof(fuse_in_header))
            handle(dispatcher, {buffer_.data(), size});
        dek_wipe(buffer_.data(), size); // there may have been a key in it
    }
}

void Control::handle(Dispatcher& dispatcher, std::span<const std::uint8_t> request) {
    fuse_in_header head{};
    take(request, head);
    switch (head.opcode) {
    case FUSE_LOOKUP:
        return look_up(head, request);
    case FUSE_GETATTR:
        return attributes(head);
    case FUSE_OPEN: {
        const fuse_open_out out{next_file_++, FOPEN_DIRECT_IO, 0};
        return answer(fd_.get(), head.unique, 0, &out, sizeof(out));
    }
    case FUSE_OPENDIR: {
        const fuse_open_out out{};
        return answer(fd_.get(), head.unique, 0, &out, sizeof(out));
    }
    case FUSE_READDIR:
        return read_folder(head, request);
    case FUSE_IOCTL:
        return ioctl(dispatcher, head, request);
    case FUSE_POLL:
        return poll(dispatcher, head, request);
    case FUSE_RELEASE: {
        fuse_release_in in{};
        take(request, in);
        pollers_.erase(in.fh);
        dispatcher.closed(in.fh);
        return answer(fd_.get(), head.unique, 0);
    }
    case FUSE_INTERRUPT: {
        fuse_interrupt_in in{};
        if (take(request, in))
            dispatcher.interrupt(in.unique);
        return;
    }
    case FUSE_STATFS: {
        const fuse_statfs_out out{};
        return answer(fd_.get(), head.unique, 0, &out, sizeof(out));
    }
    case FUSE_FLUSH:
    case FUSE_RELEASEDIR:
    case FUSE_DESTROY:
        return answer(fd_.get(), head.unique, 0);
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
        return;
    default:
        return answer(fd_.get(), head.unique, -ENOSYS);
    }
}

void Control::look_up(const fuse_in_header& head, std::span<const std::uint8_t> body) {
    if (head.nodeid != kRootNode || body.size() != sizeof(kFileName) ||
        std::memcmp(body.data(), kFileName, sizeof(kFileName)) != 0)
        return answer(fd_.get(), head.unique, -ENOENT);
    fuse_entry_out out{};
    out.nodeid = kFileNode;
    out.entry_valid = out.attr_valid = kForever;
    out.attr = attributes_of(kFileNode);
    answer(fd_.get(), head.unique, 0, &out, sizeof(out));
}

void Control::attributes(const fuse_in_header& head) {
    fuse_attr_out out{};
    out.attr_valid = kForever;
    out.attr = attributes_of(head.nodeid);
    answer(fd_.get(), head.unique, 0, &out, sizeof(out));
}

void Control::read_folder(const fuse_in_header& head, std::span<const std::uint8_t> body) {
    fuse_read_in in{};
    std::array<std::uint8_t, FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + sizeof(kFileName) - 1)> entry{};
    if (!take(body, in) || in.offset || in.size < entry.size())
        return answer(fd_.get(), head.unique, 0);
    fuse_dirent d{};
    d.ino = kFileNode;
    d.off = 1;
    d.namelen = sizeof(kFileName) - 1;
    d.type = DT_REG;
    std::memcpy(entry.data(), &d, FUSE_NAME_OFFSET);
    std::memcpy(entry.data() + FUSE_NAME_OFFSET, kFileName, d.namelen);
    answer(fd_.get(), head.unique, 0, entry.data(), entry.size());
}

void Control::ioctl(Dispatcher& dispatcher, const fuse_in_header& head,
                    std::span<const std::uint8_t> body) {
    fuse_ioctl_in in{};
    if (head.nodeid != kFileNode || !take(body, in))
        return answer(fd_.get(), head.unique, -ENOTTY);
    const std::size_t size = _IOC_SIZE(in.cmd);
    const bool brings = _IOC_DIR(in.cmd) & _IOC_WRITE;
    if (brings && body.size() != size)
        return answer(fd_.get(), head.unique, -ENOTTY);
    alignas(8) std::array<std::uint8_t, 1u << _IOC_SIZEBITS> argument{};
    if (brings)
        std::memcpy(argument.data(), body.data(), size);
    pending_[head.unique] = in.cmd;
    const int error =
        dispatcher.call({head.uid, in.fh, head.unique}, in.cmd, {argument.data(), size});
    if (error != Dispatcher::kLater)
        complete(head.unique, error, {argument.data(), size});
    dek_wipe(argument.data(), size);
}

void Control::complete(std::uint64_t ticket, int error, std::span<const std::uint8_t> argument) {
    const auto call = pending_.find(ticket);
    if (call == pending_.end())
        return;
    const bool takes = _IOC_DIR(call->second) & _IOC_READ;
    pending_.erase(call);
    if (error)
        return answer(fd_.get(), ticket, -error);
    answer_ioctl(ticket, takes ? argument : std::span<const std::uint8_t>());
}

void Control::answer_ioctl(std::uint64_t unique, std::span<const std::uint8_t> argument) {
    const fuse_ioctl_out result{};
    fuse_out_header head{};
    head.len = static_cast<std::uint32_t>(sizeof(head) + sizeof(result) + argument.size());
    head.unique = unique;
    const iovec parts[3] = {{&head, sizeof(head)},
                            {const_cast<fuse_ioctl_out*>(&result), sizeof(result)},
                            {const_cast<std::uint8_t*>(argument.data()), argument.size()}};
    if (::writev(fd_.get(), parts, argument.empty() ? 2 : 3) < 0)
        return; // the caller is gone
}

void Control::poll(Dispatcher& dispatcher, const fuse_in_header& head,
                   std::span<const std::uint8_t> body) {
    fuse_poll_in in{};
    if (!take(body, in))
        return answer(fd_.get(), head.unique, -EINVAL);
    fuse_poll_out out{};
    if (dispatcher.has_news(in.fh))
        out.revents = POLLIN;
    else if (in.flags & FUSE_POLL_SCHEDULE_NOTIFY)
        pollers_[in.fh] = in.kh;
    answer(fd_.get(), head.unique, 0, &out, sizeof(out));
}

void Control::spread_news(const Dispatcher& dispatcher) {
    std::erase_if(pollers_, [&](const auto& poller) {
        const bool news = dispatcher.has_news(poller.first);
        if (news)
            notify_poll(fd_.get(), poller.second);
        return news;
    });
}

} // namespace dek::shim
