// SPDX-License-Identifier: Apache-2.0
// The loop of a lane: from the kernel's queue into the lane, and when to sleep.
#include "lane.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include "connection.h"
#include "file_requests.h"

namespace dek::shim {
namespace {

constexpr unsigned kRequests = 160;
constexpr unsigned kLargePieces = 17; // 16 transfers of a mebibyte and the landing place
constexpr unsigned kAioDepth = 1024;
constexpr unsigned kBatch = 16; // requests read before the first of them is begun

void drain_event(int fd) {
    std::uint64_t n;
    if (::read(fd, &n, sizeof(n)) < 0)
        return; // nothing there
}

} // namespace

bool HelpCall::open() {
    event_ = Fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    return static_cast<bool>(event_);
}

void HelpCall::call() {
    if (asked_.load(std::memory_order_relaxed) || asked_.exchange(true))
        return;
    const std::uint64_t one = 1;
    if (::write(event_.get(), &one, sizeof(one)) < 0)
        return; // full, after 2^64 calls
}

Result<std::unique_ptr<Lane>> Lane::create(unsigned index, LaneRole role, HelpCall& call,
                                           EventRing& events, const std::atomic<unsigned>& watched,
                                           std::function<void()> nudge) {
    auto aio = Aio::create(kAioDepth);
    if (!aio)
        return tl::unexpected(aio.error());
    Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
    Fd wakeup(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    if (!epoll || !wakeup)
        return fail_errno(errno, "a lane's descriptors");
    // Edge-triggered: the counters need no reading on the way of a request.
    epoll_event on_completion{EPOLLIN | EPOLLET, {nullptr}}, on_wake{EPOLLIN | EPOLLET, {nullptr}};
    if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, aio->event_fd(), &on_completion) < 0 ||
        ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wakeup.get(), &on_wake) < 0)
        return fail_errno(errno, "a lane's descriptors");
    epoll_event on_call{EPOLLIN | EPOLLET, {&call}};
    if (role == LaneRole::helps && ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, call.fd(), &on_call) < 0)
        return fail_errno(errno, "a lane's descriptors");
    std::unique_ptr<Lane> lane(new Lane(index, role, call, std::move(*aio), std::move(epoll),
                                        std::move(wakeup), events, watched, std::move(nudge)));
    if (!lane->pool_.grow(kRequests, kLargePieces))
        return fail(Errc::internal, "no memory for a lane");
    lane->landing_ = lane->pool_.take_large();
    lane->queued_.reserve(kAioDepth);
    lane->thread_ = std::thread([l = lane.get()] { l->run(); });
    return lane;
}

Lane::Lane(unsigned index, LaneRole role, HelpCall& call, Aio aio, Fd epoll, Fd wakeup,
           EventRing& events, const std::atomic<unsigned>& watched, std::function<void()> nudge)
    : index_(index), role_(role), call_(call), events_(events), watched_(watched),
      nudge_(std::move(nudge)), aio_(std::move(aio)), epoll_(std::move(epoll)),
      wakeup_(std::move(wakeup)) {}

Lane::~Lane() {
    stop_ = true;
    wake();
    if (thread_.joinable())
        thread_.join();
}

void Lane::wake() {
    posted_.store(true, std::memory_order_release);
    const std::uint64_t one = 1;
    if (::write(wakeup_.get(), &one, sizeof(one)) < 0)
        return; // the counter is full: it is awake
}

void Lane::post(std::function<void()> work) {
    {
        const std::lock_guard guard(lock_);
        postings_.push_back(std::move(work));
    }
    wake();
}

bool Lane::attach(const std::shared_ptr<Volume>& volume, int fd) {
    {
        const std::lock_guard guard(lock_);
        if (attached_ == allowances_ && !pool_.grow(kWaitingRequests, kWaitingLarge))
            return false;
        allowances_ = std::max(allowances_, ++attached_);
    }
    auto berth = std::make_shared<std::unique_ptr<Berth>>(std::make_unique<Berth>());
    (*berth)->volume = volume;
    (*berth)->fd = fd;
    (*berth)->counters = &volume->counters[index_];
    post([this, berth] {
        queued_.reserve(queued_.capacity() + kWaitingRequests);
        listen(**berth, true);
        berths_.push_back(std::move(*berth));
    });
    return true;
}

void Lane::detach(const Volume& volume) {
    auto gone = std::make_shared<std::promise<void>>();
    auto done = gone->get_future();
    post([this, gone, wanted = &volume] {
        for (auto& berth : berths_) {
            if (berth->volume.get() != wanted)
                continue;
            berth->gone = gone;
            leaving_++;
            listen(*berth, false);
            fail_waiting(*berth);
        }
    });
    done.wait();
    attached_--;
}

// Berths that are leaving, once no request points to them.
void Lane::let_go() {
    if (!leaving_)
        return;
    std::vector<std::shared_ptr<std::promise<void>>> gone;
    std::erase_if(berths_, [&](auto& berth) {
        const bool idle = berth->gone && !berth->requests;
        if (idle)
            gone.push_back(std::move(berth->gone));
        return idle;
    });
    leaving_ -= static_cast<unsigned>(gone.size());
    for (auto& g : gone)
        g->set_value();
}

void Lane::close() {
    auto closed = std::make_shared<std::promise<void>>();
    auto done = closed->get_future();
    post([this, closed] {
        closed_ = true;
        closed->set_value();
    });
    done.wait();
}

bool Lane::drained() {
    return busy_.load(std::memory_order_acquire) == 0;
}

void Lane::fail_waiting() {
    auto failed = std::make_shared<std::promise<void>>();
    auto done = failed->get_future();
    post([this, failed] {
        for (auto& berth : berths_)
            fail_waiting(*berth);
        failed->set_value();
    });
    done.wait();
}

void Lane::fail_waiting(Berth& berth) {
    busy(static_cast<int>(berth.waiting_requests));
    {
        const std::lock_guard guard(lock_);
        set_waiting(berth, 0, 0);
    }
    while (Request* r = berth.waiting.pop())
        finish(r, -EIO);
}

bool Lane::under_way(const Volume& volume, std::uint64_t epoch, std::uint64_t first,
                     std::uint64_t count) {
    const std::lock_guard guard(lock_);
    bool found = false;
    pool_.for_each([&](const Request& r) {
        found = found || (r.under_way(epoch, first, count) && r.berth->volume.get() == &volume);
    });
    return found;
}

void Lane::take_postings() {
    if (!posted_.exchange(false, std::memory_order_acquire))
        return;
    std::vector<std::function<void()>> work;
    {
        const std::lock_guard guard(lock_);
        work.swap(postings_);
    }
    for (auto& f : work)
        f();
    revisit_waiting();
}

void Lane::run() {
    ::pthread_setname_np(::pthread_self(), ("lane" + std::to_string(index_)).c_str());
    while (!stop_.load(std::memory_order_relaxed)) {
        take_postings();
        if (role_ == LaneRole::helps && call_.take())
            answer_call();
        bool progress = read_requests();
        look_up();
        while (Request* r = ready_.pop()) {
            const bool large = r->size > kSmall;
            prepare(r);
            if (large) { // one at a time: its data is still in the CPU's cache when it is decrypted
                submit();
                progress |= reap();
            }
        }
        if (!submit()) {
            ::usleep(1000); // the kernel is short of memory
            progress = true;
        }
        progress |= reap();
        holds_.settle();
        let_go();
        if (std::exchange(ended_, false)) {
            // Pairs with the control thread's: it watches, then looks; we end, then look for it.
            std::atomic_thread_fence(std::memory_order_seq_cst);
            if (watched_.load(std::memory_order_relaxed))
                nudge_();
        }
        if (!progress && fresh_.empty() && ready_.empty())
            sleep();
    }
}

void Lane::listen(Berth& berth, bool on) {
    if (role_ == LaneRole::helps || berth.listening == on) {
        berth.readable = berth.readable && on;
        return;
    }
    // Exclusive: one lane wakes for a request, not all of them.
    epoll_event event{EPOLLIN | EPOLLEXCLUSIVE, {&berth}};
    if (::epoll_ctl(epoll_.get(), on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, berth.fd, &event) == 0)
        berth.listening = on;
    if (!on)
        berth.readable = false;
}

void Lane::answer_call() {
    for (auto& berth : berths_)
        berth->readable = true;
}

bool Lane::read_requests() {
    bool any = false;
    for (auto& berth : berths_) {
        for (unsigned n = 0; berth->readable && !berth->gone && n < kBatch && !closed_; n++) {
            // All that is read now might have to wait. A large write is dealt with while its data
            // is in the CPU's cache, and large reads are left for the lanes that help.
            if (berth->waiting_requests + n >= kWaitingRequests || berth->fresh_large ||
                berth->waiting_large >= kWaitingLarge)
                break;
            const Got got = read_one(*berth);
            if (got == Got::full) {
                call_.call();
                return any;
            }
            any |= got == Got::request || got == Got::other;
            if (got == Got::dead)
                listen(*berth, false);
            if (got == Got::nothing || got == Got::dead)
                berth->readable = false;
        }
    }
    return any;
}

Lane::Got Lane::read_one(Berth& berth) {
    if (!landing_)
        landing_ = pool_.take_large();
    Request* r = landing_ ? pool_.take() : nullptr;
    if (!r)
        return Got::full;
    RequestHead head;
    const iovec parts[3] = {{&head, sizeof(head)}, {r->small, kSmall}, {landing_, kLarge - kSmall}};
    const ssize_t n = ::readv(berth.fd, parts, 3);
    if (n < static_cast<ssize_t>(sizeof(head.header))) {
        pool_.give(r);
        if (n >= 0 || errno == EINTR || errno == ENOENT)
            return Got::other; // aborted while it was read: on with the next
        return errno == EAGAIN ? Got::nothing : Got::dead;
    }
    r->berth = &berth;
    r->opcode = head.header.opcode;
    r->unique = head.header.unique;
    r->offset = head.read.offset;
    r->size = head.read.size;
    r->done = r->span = r->piece_count = 0;
    r->write = r->opcode == FUSE_WRITE;
    r->waited = false;
    r->error = 0;
    if (r->opcode != FUSE_READ && r->opcode != FUSE_WRITE && r->opcode != FUSE_FSYNC) {
        answer_file_request(*berth.volume, *berth.counters, berth.fd, head, {r->small, kSmall});
        pool_.give(r);
        return Got::other;
    }
    busy(1);
    berth.requests++;
    if (!admit(berth, r, static_cast<std::size_t>(n)))
        return Got::other;
    fresh_.push(r);
    if (r->size > kSmall) {
        berth.fresh_large = true;
        call_.call();
    }
    return Got::request;
}

// Bounds, alignment, permission: what needs no lookup. False: it is answered already.
bool Lane::admit(Berth& berth, Request* r, std::size_t bytes) {
    Counters::add(berth.counters->begun);
    const int error = judge(*berth.volume, *r, bytes);
    if (error == EINVAL)
        Counters::add(berth.counters->refused);
    if (error || (!r->size && r->opcode != FUSE_FSYNC)) {
        finish(r, -error);
        return false;
    }
    if (r->write && r->size > kSmall) {
        r->large = std::exchange(landing_, nullptr);
    }
    return true;
}

int Lane::judge(const Volume& volume, Request& r, std::size_t bytes) {
    if (!volume.backing.fd)
        return EIO;
    if (r.opcode == FUSE_FSYNC)
        return volume.failed_flush() ? EIO : 0;
    const std::uint64_t length = volume.sectors.load(std::memory_order_relaxed) * 512;
    if (r.write) {
        if (volume.read_only)
            return EROFS;
        if (r.size > kMaxTransfer || bytes != sizeof(RequestHead) + r.size)
            return EIO;
        if (r.offset > length || r.size > length - r.offset)
            return ENOSPC;
    } else if (r.offset >= length) {
        r.size = 0; // a file's end: a shorter answer
    } else {
        r.size = static_cast<std::uint32_t>(
            std::min<std::uint64_t>({r.size, kMaxTransfer, length - r.offset}));
    }
    // Never a plain tail, and never a read-modify-write behind the user's back.
    return ((r.offset | r.size) & (volume.logical_block - 1)) != 0 && r.size ? EINVAL : 0;
}

void Lane::set_waiting(Berth& berth, unsigned requests, unsigned large) {
    berth.waiting_requests = requests;
    berth.waiting_large = large;
    berth.counters->waiting.store(requests, std::memory_order_relaxed);
}

void Lane::revisit_waiting() {
    for (auto& berth : berths_) {
        const std::uint64_t epoch = berth->volume->epoch.load(std::memory_order_acquire);
        if (berth->seen_epoch == epoch || berth->waiting.empty())
            continue;
        busy(static_cast<int>(berth->waiting_requests));
        {
            const std::lock_guard guard(lock_);
            set_waiting(*berth, 0, 0);
        }
        fresh_.append(berth->waiting);
        listen(*berth, true);
    }
}

void Lane::sleep() {
    if (pool_.exhausted() || closed_) {
        // New requests would wake us for nothing: only completions and postings help.
        drain_event(aio_.event_fd());
        if (reap() || posted_.load(std::memory_order_acquire))
            return;
        pollfd wait[2] = {{aio_.event_fd(), POLLIN, 0}, {wakeup_.get(), POLLIN, 0}};
        ::poll(wait, 2, -1);
        drain_event(wakeup_.get());
        return;
    }
    std::array<epoll_event, 32> events;
    const int n = ::epoll_wait(epoll_.get(), events.data(), events.size(), -1);
    for (int i = 0; i < n; i++) {
        void* const source = events[static_cast<unsigned>(i)].data.ptr;
        if (source == &call_)
            answer_call();
        else if (source)
            static_cast<Berth*>(source)->readable = true;
    }
}

} // namespace dek::shim
