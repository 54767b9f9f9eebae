// SPDX-License-Identifier: Apache-2.0
#include "holder.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <thread>

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/secret.h"
#include "connection.h"
#include "fd_store.h"
#include "handover.h"
#include "table.h"

namespace dek::shim {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto kStopLimit = 40s; // a little more than the worker allows itself

class Holder {
  public:
    Holder(const Settings& settings, const std::vector<std::string>& arguments)
        : settings_(settings), arguments_(arguments) {}
    int run();

  private:
    Result<void> prepare();
    Result<void> lock();
    Result<void> start_worker();
    Result<void> brief_worker();
    void serve(Message message);
    void worker_died(int status);
    void back_off(std::chrono::milliseconds most);
    int wait_ms() const;
    void heed_signals();
    void wait();
    void clean_up();

    const Settings& settings_;
    const std::vector<std::string>& arguments_;
    Fd lock_, signals_;
    std::optional<VolumeTable> table_;
    VolumeFds volumes_;
    pid_t worker_ = -1;
    Fd socket_;
    bool ready_ = false; // the present worker serves
    bool stopping_ = false;
    Clock::time_point kill_at_{};        // when stopping takes too long
    std::chrono::milliseconds pause_{0}; // before the next worker
    Clock::time_point start_at_{};       // when it is over
    bool announced_ = false;             // a worker has served
    int status_ = 0;
};

Result<void> make_folder(const std::string& path) {
    std::error_code error;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path(), error);
    if (::mkdir(path.c_str(), 0700) < 0 && errno != EEXIST)
        return fail_errno(errno, path);
    if (!std::filesystem::is_directory(path, error))
        return fail_errno(ENOTDIR, path);
    return {};
}

// The lock is released when holder and worker are both gone, and a worker is gone only when its I/O
// has ended; so whoever has it may begin. After a restart by systemd the last worker may still be
// going.
Result<void> Holder::lock() {
    lock_ = Fd(::open((settings_.dir + "/lock").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    if (!lock_)
        return fail_errno(errno, settings_.dir + "/lock");
    const auto end = Clock::now() + (::getenv("LISTEN_FDS") ? 30s : 2s);
    while (::flock(lock_.get(), LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK)
            return fail_errno(errno, settings_.dir + "/lock");
        if (Clock::now() > end)
            return fail(Errc::busy, "another dek-shimd serves " + settings_.dir);
        std::this_thread::sleep_for(20ms);
    }
    return {};
}

Result<void> Holder::prepare() {
    rlimit files{};
    if (::getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        ::setrlimit(RLIMIT_NOFILE, &files);
    }
    if (auto made = make_folder(settings_.dir); !made)
        return made;
    if (auto locked = lock(); !locked)
        return locked;
    unmount_lazily(settings_.control()); // a dead one of an earlier life
    for (const std::string& folder : {settings_.volumes(), settings_.control()})
        if (auto made = make_folder(folder); !made)
            return made;
    Restored restored = restore_from_store();
    if (restored.table) {
        auto table = VolumeTable::open(std::move(restored.table));
        if (!table)
            return tl::unexpected(table.error());
        table_.emplace(std::move(*table));
        volumes_ = std::move(restored.volumes);
    } else {
        auto table = VolumeTable::create();
        if (!table)
            return tl::unexpected(table.error());
        table_.emplace(std::move(*table));
        if (settings_.fd_store)
            store_table(table_->fd());
    }
    sigset_t mask;
    ::sigemptyset(&mask);
    for (const int signal : {SIGTERM, SIGINT, SIGCHLD})
        ::sigaddset(&mask, signal);
    ::sigprocmask(SIG_BLOCK, &mask, nullptr);
    signals_ = Fd(::signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK));
    return signals_ ? Result<void>() : fail_errno(errno, "signalfd");
}

Result<void> Holder::start_worker() {
    int pair[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return fail_errno(errno, "socketpair");
    socket_ = Fd(pair[0]);
    const Fd theirs(pair[1]);
    std::vector<std::string> arguments = arguments_;
    arguments.insert(arguments.end(), {"--worker", std::to_string(theirs.get())});
    std::vector<char*> argv;
    for (std::string& a : arguments)
        argv.push_back(a.data());
    argv.push_back(nullptr);
    worker_ = ::fork();
    if (worker_ < 0)
        return fail_errno(errno, "fork");
    if (worker_ == 0) {
        sigset_t none;
        ::sigemptyset(&none);
        ::sigprocmask(SIG_SETMASK, &none, nullptr);
        ::fcntl(theirs.get(), F_SETFD, 0);
        ::execv("/proc/self/exe", argv.data());
        ::_exit(127);
    }
    ready_ = false;
    const std::string path = settings_.dir + "/worker.pid";
    std::ofstream(path + ".new") << worker_ << '\n';
    // For people and tests. That it cannot be written must not end the process that holds the
    // volumes.
    std::error_code error;
    std::filesystem::rename(path + ".new", path, error);
    if (error)
        log(Level::warning, "worker-pid-not-written", {{"reason", error.message()}});
    return brief_worker();
}

// A worker that dies meanwhile is seen as such: an error here is not one of ours. Restarts are
// counted here, as a worker may be killed before it has read the table.
Result<void> Holder::brief_worker() {
    for (unsigned slot = 0; slot < table_->size(); slot++) {
        if (!table_->used(slot))
            continue;
        table_->count_restart(slot);
        if (const auto lost = table_->settle_flushes(slot))
            log(Level::error, "flush-result-unknown",
                {{"volume", std::string(table_->at(slot).config.name)},
                 {"flushes", lost},
                 {"effect", "if the device failed one, writes before it are lost unnoticed"}});
    }
    auto sent = send_message(socket_.get(), Word::table, 0, {table_->fd(), lock_.get()});
    for (const auto& [slot, fds] : volumes_) {
        std::vector<int> numbers;
        for (const Fd& fd : fds)
            numbers.push_back(fd.get());
        if (sent)
            sent = send_message(socket_.get(), Word::held, slot, numbers);
    }
    if (sent)
        sent = send_message(socket_.get(), Word::begin);
    return {};
}

void Holder::serve(Message message) {
    if (message.word == Word::ready) {
        ready_ = true;
        if (!announced_)
            ::sd_notify(0, "READY=1");
        announced_ = true;
        return;
    }
    if (message.word == Word::keep || message.word == Word::drop) {
        auto& fds = volumes_[message.slot];
        if (settings_.fd_store)
            unstore_volume(message.slot, fds.size());
        fds = std::move(message.fds);
        if (settings_.fd_store)
            store_volume(message.slot, fds);
        if (fds.empty())
            volumes_.erase(message.slot);
    }
    static_cast<void>(send_message(socket_.get(), Word::done)); // if it has died we see that
}

// Killed by somebody: go on at once. Died by itself: it may do so again, so slower and slower.
void Holder::worker_died(int status) {
    const bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && ready_;
    worker_ = -1;
    if (stopping_)
        return;
    if (!announced_ && WIFEXITED(status)) { // it said why; trying again would not change that
        stopping_ = true;
        status_ = 1;
        return;
    }
    if (killed)
        pause_ = 0ms;
    else
        back_off(5s);
    log(Level::warning, "worker-died",
        {{"signal", WIFSIGNALED(status) ? WTERMSIG(status) : 0},
         {"status", WIFEXITED(status) ? WEXITSTATUS(status) : 0}});
}

void Holder::back_off(std::chrono::milliseconds most) {
    pause_ = std::clamp<std::chrono::milliseconds>(pause_ * 2, 50ms, most);
    start_at_ = Clock::now() + pause_;
}

// Until something must be done unasked; -1: nothing.
int Holder::wait_ms() const {
    if (stopping_)
        return 200;
    if (worker_ > 0)
        return -1;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(start_at_ - Clock::now());
    return static_cast<int>(std::max<long long>(left.count(), 0));
}

void Holder::heed_signals() {
    signalfd_siginfo info;
    while (::read(signals_.get(), &info, sizeof(info)) == sizeof(info)) {
        if (info.ssi_signo == SIGCHLD || stopping_)
            continue;
        stopping_ = true;
        kill_at_ = Clock::now() + kStopLimit;
        ::sd_notify(0, "STOPPING=1");
        if (worker_ > 0)
            ::kill(worker_, SIGTERM);
    }
}

void Holder::wait() {
    std::array<pollfd, 2> events{{{signals_.get(), POLLIN, 0}, {socket_.get(), POLLIN, 0}}};
    ::poll(events.data(), worker_ > 0 ? 2 : 1, wait_ms());
    heed_signals();
    if (worker_ > 0 && events[1].revents) {
        // The end shows as something to read, too.
        if (auto message = receive_message(socket_.get(), 0))
            serve(std::move(*message));
        else
            socket_.reset(); // it hung up; SIGCHLD follows, perhaps only when its I/O has ended
    }
    if (worker_ > 0 && stopping_ && Clock::now() > kill_at_)
        ::kill(worker_, SIGKILL);
    // Reaped only now: its asynchronous I/O has ended, so nothing old can overwrite what follows.
    int status = 0;
    if (worker_ > 0 && ::waitpid(worker_, &status, WNOHANG) == worker_)
        worker_died(status);
}

void Holder::clean_up() {
    ::unlink((settings_.dir + "/worker.pid").c_str());
    unmount_lazily(settings_.control());
    if (settings_.fd_store)
        return; // systemd has the descriptors: volumes wait for the next dek-shimd
    for (const std::string& path : mounts_beneath(settings_.volumes())) {
        unmount_lazily(path);
        ::unlink(path.c_str());
    }
}

int Holder::run() {
    harden_process();
    if (auto prepared = prepare(); !prepared) {
        log_error("start", prepared.error());
        return 1;
    }
    while (!stopping_ || worker_ > 0) {
        if (worker_ < 0 && Clock::now() >= start_at_) {
            if (auto started = start_worker(); !started) { // no memory, perhaps: it may pass
                log_error("worker-start", started.error());
                back_off(1s);
            }
        }
        wait();
    }
    clean_up();
    return status_;
}

} // namespace

int run_holder(const Settings& settings, const std::vector<std::string>& arguments) {
    return Holder(settings, arguments).run();
}

} // namespace dek::shim
