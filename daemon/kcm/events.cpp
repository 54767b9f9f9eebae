// SPDX-License-Identifier: Apache-2.0
#include "kcm/events.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

namespace dek::kcm {
namespace {

bool answers(int fd, dek_ioc_version& version) {
    std::memset(&version, 0, sizeof version);
    return ::ioctl(fd, DEK_IOC_VERSION, &version) == 0 && version.abi == DEK_ABI_VERSION;
}

} // namespace

const char* event_name(std::uint32_t type) {
    switch (type) {
    case DEK_EVENT_ENDPOINT_UP:
        return "endpoint-up";
    case DEK_EVENT_ENDPOINT_DOWN:
        return "endpoint-down";
    case DEK_EVENT_ASSOCIATION_MADE:
        return "association-made";
    case DEK_EVENT_ASSOCIATION_CHANGED:
        return "association-changed";
    case DEK_EVENT_ASSOCIATION_LOST:
        return "association-lost";
    case DEK_EVENT_FENCE_HIT:
        return "fence-hit";
    case DEK_EVENT_ENGINE_ERROR:
        return "engine-error";
    default:
        return nullptr;
    }
}

ShimWatch::ShimWatch(std::string control, Callbacks callbacks)
    : control_(std::move(control)), callbacks_(std::move(callbacks)),
      stop_(::eventfd(0, EFD_CLOEXEC)), thread_([this] { run(); }) {
    ::pthread_setname_np(thread_.native_handle(), "shim-watch");
}

ShimWatch::~ShimWatch() {
    const std::uint64_t one = 1;
    if (::write(stop_.get(), &one, sizeof one) == sizeof one)
        thread_.join();
    else
        thread_.detach();
}

bool ShimWatch::ended_after(int milliseconds) {
    pollfd p{stop_.get(), POLLIN, 0};
    return ::poll(&p, 1, milliseconds) > 0;
}

void ShimWatch::run() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
    int pause = 50;
    std::uint64_t life = 0, cursor = 0;
    bool first = true;
    do {
        const Fd fd(::open(control_.c_str(), O_RDWR | O_CLOEXEC));
        dek_ioc_version version;
        if (fd && answers(fd.get(), version)) {
            pause = 50;
            // What came before this program is not news; what a new life of the shim brought before
            // we found it is, and its numbers begin anew.
            if (first)
                read_events(fd.get(), cursor, false);
            else if (version.life != life)
                cursor = 0;
            life = version.life;
            callbacks_.up();
            serve(fd.get(), cursor);
            if (ended_after(0))
                return;
            callbacks_.down();
        }
        first = false;
        pause = std::min(pause * 2, 1000);
    } while (!ended_after(pause));
}

bool ShimWatch::read_events(int fd, std::uint64_t& cursor, bool announce) {
    const auto page = std::make_unique<dek_ioc_events>();
    do {
        std::memset(page.get(), 0, sizeof *page);
        page->cursor = cursor;
        if (::ioctl(fd, DEK_IOC_EVENTS, page.get()) != 0)
            return errno == EINTR || errno == ENOTTY;
        const auto n = std::min(page->count, DEK_EVENTS_PAGE);
        for (std::uint32_t i = 0; i < n; i++) {
            cursor = std::max<std::uint64_t>(cursor, page->event[i].sequence);
            if (announce)
                callbacks_.event(page->event[i]);
        }
        if (n == 0)
            break;
    } while (page->more);
    return true;
}

void ShimWatch::serve(int fd, std::uint64_t& cursor) {
    if (!read_events(fd, cursor, true))
        return;
    for (;;) {
        pollfd p[2] = {{fd, POLLIN, 0}, {stop_.get(), POLLIN, 0}};
        const int ready = ::poll(p, 2, 2000);
        if (p[1].revents || (ready < 0 && errno != EINTR))
            return;
        if (p[0].revents & (POLLERR | POLLHUP | POLLNVAL))
            return;
        dek_ioc_version version;
        if (!read_events(fd, cursor, true) || (ready == 0 && !answers(fd, version)))
            return;
    }
}

} // namespace dek::kcm
