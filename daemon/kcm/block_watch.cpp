// SPDX-License-Identifier: Apache-2.0
#include "kcm/block_watch.h"

#include <cerrno>
#include <csignal>
#include <memory>

#include <libudev.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"

namespace dek::kcm {
namespace {

using std::chrono::milliseconds;

struct Unref {
    void operator()(udev* u) const { udev_unref(u); }
    void operator()(udev_monitor* m) const { udev_monitor_unref(m); }
    void operator()(udev_device* d) const { udev_device_unref(d); }
};
template <class T>
using Ref = std::unique_ptr<T, Unref>;

// The kernel's own messages: udevd's come after its rules, and only where it runs.
Ref<udev_monitor> listen(udev* context) {
    Ref<udev_monitor> monitor(udev_monitor_new_from_netlink(context, "kernel"));
    if (!monitor ||
        udev_monitor_filter_add_match_subsystem_devtype(monitor.get(), "block", nullptr) < 0)
        return nullptr;
    udev_monitor_set_receive_buffer_size(monitor.get(), 1 << 20); // what does not fit is lost
    if (udev_monitor_enable_receiving(monitor.get()) < 0)
        return nullptr;
    return monitor;
}

enum class Received { block_event, nothing, lost, broken };

Received receive(udev_monitor* monitor) {
    errno = 0;
    const Ref<udev_device> device(udev_monitor_receive_device(monitor));
    if (device)
        return Received::block_event;
    if (errno == EAGAIN || errno == EINTR || errno == 0)
        return Received::nothing;
    // One message that cannot be read may have been about anything.
    return errno == ENOBUFS || errno == EBADMSG || errno == EINVAL || errno == ENODEV
               ? Received::lost
               : Received::broken;
}

} // namespace

std::optional<milliseconds> Burst::wait(Clock::time_point now) const {
    if (!noted_)
        return std::nullopt;
    if (!last_ || now - *last_ >= interval_)
        return milliseconds(0);
    return std::chrono::ceil<milliseconds>(*last_ + interval_ - now);
}

void Burst::told(Clock::time_point now) {
    last_ = now;
    noted_ = false;
}

BlockWatch::BlockWatch(std::function<void()> changed)
    : changed_(std::move(changed)), stop_(::eventfd(0, EFD_CLOEXEC)), thread_([this] { run(); }) {
    ::pthread_setname_np(thread_.native_handle(), "block-watch");
}

BlockWatch::~BlockWatch() {
    const std::uint64_t one = 1;
    if (::write(stop_.get(), &one, sizeof one) == sizeof one)
        thread_.join();
    else
        thread_.detach();
}

bool BlockWatch::serve(udev_monitor* monitor) {
    for (;;) {
        const auto wait = burst_.wait(Burst::Clock::now());
        if (wait && wait->count() == 0) {
            burst_.told(Burst::Clock::now()); // first: what comes during the call is new
            changed_();
            continue;
        }
        pollfd p[2] = {{udev_monitor_get_fd(monitor), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
        if (::poll(p, 2, wait ? static_cast<int>(wait->count()) : -1) < 0 && errno != EINTR)
            return false;
        if (p[1].revents)
            return true;
        if (!p[0].revents)
            continue;
        const auto what = receive(monitor);
        if (what != Received::nothing)
            burst_.note();
        if (what == Received::lost)
            log(Level::warning, "block-events-lost");
        if (what == Received::broken)
            return false;
    }
}

void BlockWatch::run() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
    const Ref<udev> context(udev_new());
    pollfd stop{stop_.get(), POLLIN, 0};
    do {
        const auto monitor = context ? listen(context.get()) : nullptr;
        if (monitor && serve(monitor.get()))
            return;
        burst_.note(); // nobody listened for a while
        log(Level::warning, "block-events-not-heard");
    } while (::poll(&stop, 1, 2000) == 0);
}

} // namespace dek::kcm
