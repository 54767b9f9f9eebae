// SPDX-License-Identifier: Apache-2.0
// Calls to a control file that nobody waits for longer than a deadline: a shim that stands still
// keeps its callers in the kernel, where no signal reaches them.
#include "kcm/control_file.h"

#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>

#include "base/secret.h"

namespace dek::kcm {

// What the calling thread shares with whoever gives up on it; the last of both drops it.
struct ControlFile::Caller {
    std::mutex mutex;
    std::condition_variable changed;
    std::function<int()> job; // under way as long as it is there
    int answer = 0;
    bool ending = false;
    Fd fd; // the job's

    void run() {
        sigset_t all; // signals are the main thread's
        ::sigfillset(&all);
        ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
        std::unique_lock lock(mutex);
        for (;;) {
            changed.wait(lock, [this] { return ending || job; });
            if (!job)
                return;
            lock.unlock();
            const int result = job();
            lock.lock();
            answer = result;
            job = nullptr;
            changed.notify_all();
        }
    }
};

ControlFile::ControlFile(std::string path, const char* hint, std::chrono::milliseconds deadline)
    : path_(std::move(path)), hint_(hint), deadline_(deadline) {}

ControlFile::~ControlFile() {
    if (!caller_)
        return;
    const std::lock_guard lock(caller_->mutex);
    caller_->ending = true;
    caller_->changed.notify_all();
}

// Its thread is made when it is first needed.
ControlFile::Caller* ControlFile::caller() {
    if (!caller_) {
        caller_ = std::make_shared<Caller>();
        std::thread([caller = caller_] { caller->run(); }).detach();
    }
    return caller_.get();
}

int ControlFile::in_time(std::function<int()> job) {
    std::unique_lock lock(caller_->mutex);
    if (caller_->job) // still the one that was given up
        return ETIMEDOUT;
    caller_->job = std::move(job);
    caller_->changed.notify_all();
    const bool done = caller_->changed.wait_for(lock, deadline_, [this] { return !caller_->job; });
    return done ? caller_->answer : ETIMEDOUT;
}

int ControlFile::connect() {
    return in_time([caller = caller(), path = path_] {
        caller->fd = Fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
        return caller->fd ? 0 : errno;
    });
}

int ControlFile::call(unsigned long request, void* argument) {
    // Of the job's own, which may outlive the caller's; there may be a key in it.
    const auto memory = std::make_shared<Secret>(_IOC_SIZE(request));
    const auto bytes = memory->bytes();
    std::memcpy(bytes.data(), argument, bytes.size());
    const int error = in_time([caller = caller(), request, memory] {
        return ::ioctl(caller->fd.get(), request, memory->bytes().data()) < 0 ? errno : 0;
    });
    if (error != ETIMEDOUT)
        std::memcpy(argument, bytes.data(), bytes.size());
    return error;
}

} // namespace dek::kcm
