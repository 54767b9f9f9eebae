// SPDX-License-Identifier: Apache-2.0
#include "kcm/header_reader.h"

#include <cerrno>
#include <csignal>
#include <future>
#include <mutex>
#include <set>
#include <thread>
#include <tuple>

#include <linux/close_range.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

namespace dek::kcm {
namespace {

constexpr std::chrono::seconds patience(5);

using Place = std::tuple<dev_t, dev_t, ino_t>;

Result<Place> place_of(int fd) {
    struct stat st;
    if (::fstat(fd, &st) != 0)
        return fail_errno(errno, "the header's place");
    return S_ISBLK(st.st_mode) ? Place{st.st_rdev, 0, 0} : Place{0, st.st_dev, st.st_ino};
}

// Where a read is late. Never destroyed: one may end after everything else has.
struct Late {
    std::mutex lock;
    std::set<Place> places;
};
Late& late() {
    static auto& all = *new Late;
    return all;
}

Error no_answer() {
    return {Errc::timeout, "it does not answer: the header cannot be read"};
}

// From here on this thread has descriptors of its own: `fd`, which is the caller's to close, and
// the standard ones. None where the kernel does not let it: `fd` is everybody's then.
Fd keep_only(int fd) {
    const auto kept = static_cast<unsigned>(fd);
    if (::close_range(kept + 1, ~0u, CLOSE_RANGE_UNSHARE) != 0)
        return Fd();
    if (kept > STDERR_FILENO + 1)
        ::close_range(STDERR_FILENO + 1, kept - 1, 0);
    return Fd(fd);
}

} // namespace

Result<volume::Found> read_header(const volume::Location& at) {
    const auto place = place_of(at.fd);
    if (!place)
        return tl::unexpected(place.error());
    {
        const std::lock_guard guard(late().lock);
        if (late().places.contains(*place))
            return tl::unexpected(no_answer());
    }
    std::packaged_task<Result<volume::Found>()> task([at] {
        const Fd own = keep_only(at.fd); // closed before it answers
        return volume::read(at);
    });
    auto answer = task.get_future();
    std::thread([task = std::move(task), place = *place]() mutable {
        sigset_t all; // signals are the main thread's
        ::sigfillset(&all);
        ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
        task();
        const std::lock_guard guard(late().lock);
        late().places.erase(place);
    }).detach();
    if (answer.wait_for(patience) != std::future_status::ready) {
        const std::lock_guard guard(late().lock);
        if (answer.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
            late().places.insert(*place);
            return tl::unexpected(no_answer());
        }
    }
    return answer.get();
}

} // namespace dek::kcm
