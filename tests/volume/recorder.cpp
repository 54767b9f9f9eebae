// SPDX-License-Identifier: Apache-2.0
// The calls that change a medium, watched.
#include "recorder.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <random>
#include <stdexcept>

#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace dek::test {
namespace {

struct Watch {
    std::vector<Event>* events = nullptr;
    int countdown = -1; // calls until the one that is struck; -1: none
    int error = 0;      // 0: the process ends
    bool struck = false;
} watch;

// True when the call is to fail, errno set.
bool strike() {
    if (watch.countdown < 0 || watch.countdown-- != 0)
        return false;
    watch.struck = true;
    if (watch.error == 0)
        ::raise(SIGKILL);
    errno = watch.error;
    return true;
}

using Sector = std::pair<std::uint64_t, const std::uint8_t*>; // byte on the medium, 512 bytes

std::vector<Sector> sectors_of(const std::vector<Event>& events, std::size_t from, std::size_t to) {
    std::vector<Sector> sectors;
    for (std::size_t i = from; i < to; ++i)
        for (std::size_t at = 0; at < events[i].data.size(); at += 512)
            sectors.emplace_back(events[i].byte + at, events[i].data.data() + at);
    return sectors;
}

class Crashes {
  public:
    Crashes(std::vector<std::uint8_t>& durable, const std::vector<Sector>& pending,
            const std::function<void(const std::vector<std::uint8_t>&)>& visit)
        : durable_(durable), pending_(pending), visit_(visit) {}

    void all() {
        const std::size_t n = pending_.size();
        std::mt19937 random(static_cast<unsigned>(n));
        for (std::size_t i = 0; i <= n; ++i) {
            state([i](std::size_t s) { return s < i; });
            state([i](std::size_t s) { return s >= i; });
            state([i](std::size_t s) { return s != i; });
            state([i](std::size_t s) { return s == i; });
        }
        for (int i = 0; i < 50; ++i)
            state([&random](std::size_t) { return random() % 2 == 0; });
    }

    void settle() {
        apply(durable_, [](std::size_t) { return true; });
    }

  private:
    template <class Chosen>
    void state(Chosen chosen) {
        std::vector<std::uint8_t> medium = durable_;
        apply(medium, chosen);
        visit_(medium);
    }

    template <class Chosen>
    void apply(std::vector<std::uint8_t>& medium, Chosen chosen) {
        for (std::size_t s = 0; s < pending_.size(); ++s)
            if (chosen(s))
                std::copy(pending_[s].second, pending_[s].second + 512,
                          medium.begin() + static_cast<std::ptrdiff_t>(pending_[s].first));
    }

    std::vector<std::uint8_t>& durable_;
    const std::vector<Sector>& pending_;
    const std::function<void(const std::vector<std::uint8_t>&)>& visit_;
};

} // namespace

std::vector<Event> record(const std::function<void()>& work) {
    std::vector<Event> events;
    watch.events = &events;
    work();
    watch.events = nullptr;
    return events;
}

bool run_failing(int index, int error, const std::function<void()>& work) {
    watch = {nullptr, index, error, false};
    work();
    const bool struck = watch.struck;
    watch = {};
    return struck;
}

bool run_killed(int index, const std::function<void()>& work) {
    const pid_t child = ::fork();
    if (child < 0)
        throw std::runtime_error("no child");
    if (child == 0) {
        watch = {nullptr, index, 0, false};
        work();
        ::_exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
        throw std::runtime_error("the child failed by itself");
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

void for_each_crash(const std::vector<std::uint8_t>& before, const std::vector<Event>& events,
                    const std::function<void(const std::vector<std::uint8_t>&)>& visit) {
    std::vector<std::uint8_t> durable = before;
    std::size_t from = 0;
    while (from < events.size()) {
        std::size_t to = from;
        while (to < events.size() && !events[to].barrier)
            ++to;
        const auto pending = sectors_of(events, from, to);
        Crashes crashes(durable, pending, visit);
        crashes.all();
        if (to < events.size())
            crashes.settle();
        from = to + 1;
    }
    visit(durable);
}

} // namespace dek::test

using dek::test::strike;
using dek::test::watch;

extern "C" {

ssize_t pwrite(int fd, const void* data, size_t size, off_t at) {
    if (strike())
        return -1;
    const auto* bytes = static_cast<const std::uint8_t*>(data);
    if (watch.events)
        watch.events->push_back({false, static_cast<std::uint64_t>(at), {bytes, bytes + size}});
    return ::syscall(SYS_pwrite64, fd, data, size, at);
}

ssize_t pwrite64(int fd, const void* data, size_t size, off_t at) {
    return pwrite(fd, data, size, at);
}

ssize_t write(int fd, const void* data, size_t size) {
    return strike() ? -1 : ::syscall(SYS_write, fd, data, size);
}

int fdatasync(int fd) {
    if (strike())
        return -1;
    if (watch.events)
        watch.events->push_back({true, 0, {}});
    return static_cast<int>(::syscall(SYS_fdatasync, fd));
}

int fsync(int fd) {
    return strike() ? -1 : static_cast<int>(::syscall(SYS_fsync, fd));
}

int rename(const char* from, const char* to) {
    return strike() ? -1 : static_cast<int>(::syscall(SYS_rename, from, to));
}

int renameat2(int from_at, const char* from, int to_at, const char* to, unsigned flags) {
    return strike() ? -1
                    : static_cast<int>(::syscall(SYS_renameat2, from_at, from, to_at, to, flags));
}
}
