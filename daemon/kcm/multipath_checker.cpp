// SPDX-License-Identifier: Apache-2.0
#include "kcm/multipath_checker.h"

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <optional>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>

#include "base/fd.h"

namespace dek::kcm {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t block_bytes = 4096; // whatever a disk's logical block is

bool reads(int fd) {
    const std::unique_ptr<void, void (*)(void*)> buffer(
        std::aligned_alloc(block_bytes, block_bytes), std::free);
    return buffer && ::pread(fd, buffer.get(), block_bytes, 0) == static_cast<ssize_t>(block_bytes);
}

Fd open_path(const CheckedPath& path) {
    Fd fd(::open(path.node.c_str(), O_RDONLY | O_DIRECT | O_NONBLOCK | O_CLOEXEC));
    struct stat st;
    if (fd && (::fstat(fd.get(), &st) != 0 || st.st_rdev != path.number))
        return Fd();
    return fd;
}

void block_signals() { // they are the main thread's
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

} // namespace

// All members under Shared::mutex.
struct PathChecker::Probe {
    CheckedPath path;
    bool wanted = true;
    std::optional<Clock::time_point> since; // a read is under way
    Verdict verdict = Verdict::unknown;
};

struct PathChecker::Shared {
    Shared(Milliseconds i, Milliseconds d) : interval(i), deadline(d) {}

    const Milliseconds interval;
    const Milliseconds deadline;
    std::mutex mutex;
    std::condition_variable wake;
    bool ending = false;
    bool news = false;
    std::vector<std::shared_ptr<Probe>> probes;

    void judge() {
        for (const auto& probe : probes)
            if (probe->since && Clock::now() - *probe->since >= deadline)
                probe->verdict = Verdict::fails;
    }

    static void probe_path(std::shared_ptr<Shared> shared, std::shared_ptr<Probe> probe);
};

// One path's thread. It keeps what it uses alive, so nobody has to wait for it.
void PathChecker::Shared::probe_path(std::shared_ptr<Shared> shared, std::shared_ptr<Probe> probe) {
    block_signals();
    Fd fd;
    std::unique_lock lock(shared->mutex);
    while (probe->wanted && !shared->ending) {
        probe->since = Clock::now();
        lock.unlock();
        if (!fd)
            fd = open_path(probe->path);
        const bool works = fd && reads(fd.get());
        if (!works)
            fd.reset();
        lock.lock();
        probe->since.reset();
        const Verdict verdict = works ? Verdict::works : Verdict::fails;
        shared->news = shared->news || verdict != probe->verdict;
        probe->verdict = verdict;
        if (shared->news)
            shared->wake.notify_all();
        shared->wake.wait_for(lock, shared->interval,
                              [&] { return !probe->wanted || shared->ending; });
    }
}

PathChecker::PathChecker(std::function<void()> round, Milliseconds interval, Milliseconds deadline)
    : round_(std::move(round)), shared_(std::make_shared<Shared>(interval, deadline)),
      thread_([this] { run(); }) {
    ::pthread_setname_np(thread_.native_handle(), "paths");
}

PathChecker::~PathChecker() {
    {
        const std::lock_guard lock(shared_->mutex);
        shared_->ending = true;
        shared_->wake.notify_all();
    }
    thread_.join();
}

void PathChecker::watch(const std::vector<CheckedPath>& paths) {
    const std::lock_guard lock(shared_->mutex);
    std::vector<std::shared_ptr<Probe>> next;
    for (const auto& path : paths) {
        const auto known = std::find_if(shared_->probes.begin(), shared_->probes.end(),
                                        [&](const auto& p) { return p->path == path; });
        if (known != shared_->probes.end()) {
            next.push_back(*known);
            continue;
        }
        next.push_back(std::make_shared<Probe>(Probe{path, true, std::nullopt, Verdict::unknown}));
        std::thread(Shared::probe_path, shared_, next.back()).detach();
    }
    for (const auto& probe : shared_->probes)
        probe->wanted = std::find(next.begin(), next.end(), probe) != next.end();
    shared_->probes = std::move(next);
    shared_->wake.notify_all();
}

std::map<std::string, Verdict> PathChecker::verdicts() const {
    const std::lock_guard lock(shared_->mutex);
    std::map<std::string, Verdict> verdicts;
    for (const auto& probe : shared_->probes)
        verdicts[probe->path.name] = probe->verdict;
    return verdicts;
}

void PathChecker::run() {
    block_signals();
    std::unique_lock lock(shared_->mutex);
    while (!shared_->ending) {
        shared_->wake.wait_for(lock, shared_->interval,
                               [this] { return shared_->ending || shared_->news; });
        shared_->news = false;
        shared_->judge();
        if (shared_->ending)
            return;
        lock.unlock();
        round_();
        lock.lock();
    }
}

} // namespace dek::kcm
