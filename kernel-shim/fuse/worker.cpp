// SPDX-License-Identifier: Apache-2.0
#include "worker.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/secret.h"
#include "control.h"
#include "engine.h"
#include "exports.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

namespace dek::shim {
namespace {

constexpr int kStartMs = 30000;
constexpr auto kDrainLimit = std::chrono::seconds(30);

void settle_in() {
    ::prctl(PR_SET_NAME, "dek-shimd", 0, 0, 0);  // not "exe"
    ::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); // the holder gone, nobody would reap us in time
    harden_process();
    // All pages present, not only locked when touched: a fault while the kernel copies a request to
    // a process that is being killed would fail that request.
    if (::mlockall(MCL_CURRENT | MCL_FUTURE) < 0)
        log(Level::warning, "memory-not-locked", {{"reason", std::strerror(errno)}});
    ::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
    // Small stacks: they are locked, too.
    pthread_attr_t attributes;
    ::pthread_attr_init(&attributes);
    ::pthread_attr_setstacksize(&attributes, 512 * 1024);
    ::pthread_setattr_default_np(&attributes);
    ::pthread_attr_destroy(&attributes);
}

struct Inheritance {
    Fd table;
    Fd lock; // held while this process lives
    std::vector<Message> held;
};

Result<Inheritance> receive_inheritance(int socket) {
    Inheritance in;
    for (;;) {
        auto message = receive_message(socket, kStartMs);
        if (!message)
            return tl::unexpected(message.error());
        if (message->word == Word::begin && in.table)
            return in;
        if (message->word == Word::table && message->fds.size() == 2) {
            in.table = std::move(message->fds[0]);
            in.lock = std::move(message->fds[1]);
        } else if (message->word == Word::held) {
            in.held.push_back(std::move(*message));
        } else {
            return fail(Errc::internal, "the holder says what it should not");
        }
    }
}

dek_ioc_version describe(bool resend, bool healthy) {
    dek_ioc_version v{};
    v.abi = DEK_ABI_VERSION;
    v.kind = DEK_SHIM_FUSE;
    v.engines = healthy ? DEK_ENGINE_CPU : 0;
    v.caps = DEK_CAP_VOLUMES | DEK_CAP_EVENTS | (resend ? DEK_CAP_TAKEOVER : 0);
    v.blob_types = 1u << DEK_BLOB_UNWRAPPED;
    v.max_associations = kMaxAssociations;
    v.max_ranges = kMaxRanges;
    if (::getrandom(&v.life, sizeof(v.life), 0) != sizeof(v.life))
        v.life = static_cast<std::uint64_t>(Clock::now().time_since_epoch().count());
    std::strncpy(v.build, "dek-shimd " DEK_VERSION, sizeof(v.build) - 1);
    std::strncpy(v.engine_name, engine_name(), sizeof(v.engine_name) - 1);
    return v;
}

class Worker {
  public:
    Worker(const Settings& settings, VolumeTable table)
        : settings_(settings), table_(std::move(table)) {}
    Result<void> start(std::vector<Message> held);
    int serve();

  private:
    int stop();
    bool drained() const {
        return std::all_of(lanes_.begin(), lanes_.end(), [](auto& l) { return l->drained(); });
    }
    bool wait_drained();
    int timeout_ms() const;

    const Settings& settings_;
    VolumeTable table_;
    EventRing events_;
    Fd nudge_, signals_;
    std::unique_ptr<Control> control_;
    std::unique_ptr<Exports> exports_;
    std::unique_ptr<Dispatcher> dispatcher_;
    HelpCall help_;
    std::vector<std::unique_ptr<Lane>> lanes_; // after the volumes: they go first
    bool resend_ = false;
};

Result<void> Worker::start(std::vector<Message> held) {
    const auto engine = start_engine(settings_.engine);
    if (!engine)
        log_error("engine-failed", engine.error());
    nudge_ = Fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    sigset_t mask;
    ::sigemptyset(&mask);
    ::sigaddset(&mask, SIGTERM);
    ::sigaddset(&mask, SIGINT);
    ::pthread_sigmask(SIG_BLOCK, &mask, nullptr); // before there are threads
    signals_ = Fd(::signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!nudge_ || !signals_ || !help_.open())
        return fail_errno(errno, "the worker's descriptors");

    auto control = Control::mount(settings_.control());
    if (!control)
        return tl::unexpected(control.error());
    control_ = std::move(*control);
    resend_ = settings_.resend && control_->kernel_has_resend();
    // Read, and cleared before the first request is taken: a worker that is killed while it takes
    // over leaves unanswered requests, too.
    const bool orderly = table_.orderly();
    table_.set_orderly(false);
    exports_ =
        std::make_unique<Exports>(settings_, table_, settings_.worker, lanes_, resend_, orderly);
    dispatcher_ = std::make_unique<Dispatcher>(
        *exports_, events_, describe(resend_, engine.has_value()),
        [this](std::uint64_t ticket, int error, std::span<const std::uint8_t> argument) {
            control_->complete(ticket, error, argument);
        });
    const auto nudge = [fd = nudge_.get()] {
        const std::uint64_t one = 1;
        if (::write(fd, &one, sizeof(one)) < 0)
            return; // full: the control thread is awake
    };
    // As many listen as leave a CPU each to those who send the requests.
    const unsigned listening = std::max(1U, std::thread::hardware_concurrency() / 2);
    for (unsigned i = 0; i < settings_.threads; i++) {
        const auto role = i < listening ? LaneRole::listens : LaneRole::helps;
        auto lane = Lane::create(i, role, help_, events_, dispatcher_->watched(), nudge);
        if (!lane)
            return tl::unexpected(lane.error());
        lanes_.push_back(std::move(*lane));
    }
    exports_->sweep(held);
    for (unsigned slot = 0; slot < table_.size(); slot++) {
        if (!table_.used(slot))
            continue;
        std::vector<Fd> fds;
        for (Message& m : held)
            if (m.slot == slot)
                fds = std::move(m.fds);
        if (auto volume = exports_->revive(slot, std::move(fds)))
            dispatcher_->add(volume);
    }
    return send_message(settings_.worker, Word::ready);
}

int Worker::timeout_ms() const {
    const auto next = dispatcher_->next_deadline();
    if (!next)
        return -1;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(*next - Clock::now());
    return static_cast<int>(std::clamp<long long>(left.count(), 0, 60000));
}

int Worker::serve() {
    enum { control, signals, nudge, holder };
    std::array<pollfd, 4> wait{{{control_->fd(), POLLIN, 0},
                                {signals_.get(), POLLIN, 0},
                                {nudge_.get(), POLLIN, 0},
                                {settings_.worker, 0, 0}}};
    for (;;) {
        ::poll(wait.data(), wait.size(), timeout_ms());
        if (wait[signals].revents)
            return stop();
        if (wait[holder].revents)
            return 1;
        if (wait[nudge].revents) {
            std::uint64_t n;
            if (::read(nudge_.get(), &n, sizeof(n)) < 0)
                continue;
        }
        if (wait[control].revents && !control_->serve(*dispatcher_)) {
            log(Level::error, "control-unmounted");
            return 1; // the next worker mounts it again
        }
        dispatcher_->tick();
        control_->spread_news(*dispatcher_);
    }
}

bool Worker::wait_drained() {
    const auto end = Clock::now() + kDrainLimit;
    while (!drained() && Clock::now() < end)
        ::usleep(1000);
    return drained();
}

// Everything taken is answered. What waits for keys or a release stays the kernel's to send again;
// if it cannot, it fails.
int Worker::stop() {
    for (auto& lane : lanes_)
        lane->close();
    bool done = wait_drained();
    if (!resend_) {
        for (auto& lane : lanes_)
            lane->fail_waiting();
        done = wait_drained() && done;
    }
    table_.set_orderly(done);
    log(Level::info, "worker-stopped", {{"drained", done}});
    return 0;
}

} // namespace

int run_worker(const Settings& settings) {
    settle_in();
    auto inheritance = receive_inheritance(settings.worker);
    if (!inheritance) {
        log_error("worker-start", inheritance.error());
        return 1;
    }
    auto table = VolumeTable::open(std::move(inheritance->table));
    if (!table) {
        log_error("worker-start", table.error());
        return 1;
    }
    Worker worker(settings, std::move(*table));
    if (const auto started = worker.start(std::move(inheritance->held)); !started) {
        log_error("worker-start", started.error());
        return 1;
    }
    return worker.serve();
}

} // namespace dek::shim
