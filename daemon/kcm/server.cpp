// SPDX-License-Identifier: Apache-2.0
#include "kcm/server.h"

#include <atomic>
#include <csignal>
#include <cstring>
#include <ctime>

#include <sys/eventfd.h>
#include <systemd/sd-daemon.h>

#include "base/log.h"
#include "kcm/block_watch.h"
#include "kcm/bus.h"
#include "kcm/control_file.h"
#include "kcm/events.h"
#include "kcm/fuse_volume.h"
#include "kcm/kernel_volume.h"
#include "kcm/kernel_watch.h"
#include "kcm/worker.h"

namespace dek::kcm {
namespace {

constexpr std::uint64_t retry_usec = 2'000'000;
constexpr std::uint64_t retry_most_usec = 30'000'000;

// Work that other threads hand to the event loop.
class Inbox {
  public:
    explicit Inbox(sd_event* loop) : wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
        sd_event_add_io(loop, &source_, wake_.get(), EPOLLIN, on_wake, this);
    }
    ~Inbox() { sd_event_source_unref(source_); }
    void post(std::function<void()> job) { // from any thread
        const std::lock_guard lock(mutex_);
        jobs_.push_back(std::move(job));
        const std::uint64_t one = 1;
        (void)!::write(wake_.get(), &one, sizeof one);
    }

  private:
    static int on_wake(sd_event_source*, int fd, uint32_t, void* self) {
        auto* inbox = static_cast<Inbox*>(self);
        std::uint64_t n;
        (void)!::read(fd, &n, sizeof n);
        std::deque<std::function<void()>> jobs;
        {
            const std::lock_guard lock(inbox->mutex_);
            jobs.swap(inbox->jobs_);
        }
        for (auto& job : jobs)
            job();
        return 0;
    }

    Fd wake_;
    sd_event_source* source_ = nullptr;
    std::mutex mutex_;
    std::deque<std::function<void()>> jobs_;
};

struct LoopUnref {
    void operator()(sd_event* loop) const { sd_event_unref(loop); }
};

sd_event* new_loop() {
    sd_event* loop = nullptr;
    if (sd_event_new(&loop) < 0)
        throw std::bad_alloc();
    return loop;
}

// The kernel's is there or not; the userspace one may be restarting.
// `deadline`: for the answer of one that is there.
Shims shims_of(const Options& options, std::chrono::milliseconds patience,
               std::chrono::milliseconds deadline) {
    std::vector<ShimSite> sites;
    sites.push_back(
        {"kernel",
         std::make_unique<Shim>(std::make_unique<ControlFile>(options.kernel_control,
                                                              ControlFile::kernel_hint, deadline),
                                std::chrono::milliseconds(0)),
         std::make_unique<KernelVolumes>()});
    sites.push_back(
        {"fuse",
         std::make_unique<Shim>(std::make_unique<ControlFile>(options.control_file(),
                                                              ControlFile::fuse_hint, deadline),
                                patience),
         std::make_unique<FuseVolumes>(options.shim_path(), options.recover)});
    return Shims(std::move(sites));
}

} // namespace

// Members in the order in which they may refer to one another; the threads end first.
struct Server::Impl {
    explicit Impl(Options o);
    ~Impl();

    void run_method(std::shared_ptr<Call> call, MethodContext& context);
    void dispatch(std::unique_ptr<Call> call);
    void announce(json event);
    void resync();
    void review();
    void after_review(bool waiting, std::optional<std::chrono::milliseconds> look_after);
    void after_operation();
    void arm_expiry();
    void retry_later();
    void look_later(std::chrono::milliseconds pause);
    void on_shim_event(const dek_event& event);
    ShimWatch::Callbacks watch_of(const char* kind);
    Result<void> open_bus();
    static int on_expiry(sd_event_source*, std::uint64_t, void* self);
    static int on_retry(sd_event_source*, std::uint64_t, void* self);
    static int on_look(sd_event_source*, std::uint64_t, void* self);

    Options options;
    std::unique_ptr<sd_event, LoopUnref> loop{new_loop()};
    Inbox inbox{loop.get()};
    std::shared_ptr<KeystoreSeat> seat;
    std::shared_ptr<KeyService> keys;
    std::shared_ptr<Registry> registry = std::make_shared<Registry>();
    std::unique_ptr<Shims> inquiry_shims;
    std::unique_ptr<Controller> controller;
    MethodContext operation_context{};
    MethodContext inquiry_context{};
    sd_event_source* expiry = nullptr;
    sd_event_source* retry = nullptr;
    sd_event_source* look = nullptr;
    std::uint64_t retry_after = retry_usec;
    std::atomic<bool> review_asked = false;
    std::unique_ptr<Bus> bus;
    std::unique_ptr<Worker> operations;
    std::unique_ptr<Worker> inquiries;
    std::unique_ptr<ShimWatch> watch;
    std::unique_ptr<KernelWatch> kernel_watch;
    std::unique_ptr<BlockWatch> block_watch;
};

Server::Impl::Impl(Options o) : options(std::move(o)) {
    seat = std::make_shared<KeystoreSeat>(options.state_dir + "/keystore.db");
    keys = std::make_shared<KeyService>(
        make_seat_provider(seat),
        KeyLimits{options.cache_lifetime, options.cache_keys, options.provider_timeout});
    inquiry_shims = std::make_unique<Shims>(
        shims_of(options, std::chrono::milliseconds(500), std::chrono::seconds(2)));
    ControllerParts parts{options,
                          seat,
                          keys,
                          registry,
                          shims_of(options, std::chrono::seconds(5), std::chrono::seconds(60)),
                          [this](json event) { announce(std::move(event)); }};
    controller = std::make_unique<Controller>(std::move(parts));
    inquiry_context = {nullptr,
                       inquiry_shims.get(),
                       registry.get(),
                       keys.get(),
                       seat.get(),
                       &options,
                       static_cast<std::int64_t>(std::time(nullptr)),
                       [this](json event) { announce(std::move(event)); },
                       [this] { inbox.post([this] { resync(); }); }};
    operation_context = inquiry_context;
    operation_context.controller = controller.get();
    operation_context.shims = &controller->shims();
    bus = std::make_unique<Bus>(loop.get(),
                                [this](std::unique_ptr<Call> call) { dispatch(std::move(call)); });
    sd_event_add_time(loop.get(), &expiry, CLOCK_MONOTONIC, UINT64_MAX, 0, on_expiry, this);
    sd_event_add_time(loop.get(), &retry, CLOCK_MONOTONIC, UINT64_MAX, 0, on_retry, this);
    sd_event_add_time(loop.get(), &look, CLOCK_MONOTONIC, UINT64_MAX, 0, on_look, this);
    operations = std::make_unique<Worker>("operations");
    inquiries = std::make_unique<Worker>("inquiries");
}

Server::Impl::~Impl() {
    controller->legs().watch_paths({});
    block_watch.reset();
    watch.reset();
    kernel_watch.reset();
    operations.reset();
    inquiries.reset();
    sd_event_source_unref(expiry);
    sd_event_source_unref(retry);
    sd_event_source_unref(look);
}

// Exceptions end here: what is left of them (no memory) is one call's failure.
void Server::Impl::run_method(std::shared_ptr<Call> call, MethodContext& context) {
    std::shared_ptr<Result<json>> answer;
    try {
        answer = std::make_shared<Result<json>>(call->method->run(context, call->request));
    } catch (const std::exception& e) {
        answer =
            std::make_shared<Result<json>>(fail(Errc::internal, std::string("kcmd: ") + e.what()));
    }
    if (!*answer)
        log_error("call-failed", answer->error(), {{"method", call->method->name}});
    inbox.post([this, call = std::move(call), answer = std::move(answer)]() mutable {
        Bus::reply(*call, *answer);
        call.reset(); // on this thread: sd-bus is not thread-safe
        after_operation();
    });
}

void Server::Impl::dispatch(std::unique_ptr<Call> call) {
    const bool inquiry = call->method->queue == Queue::inquiries;
    std::shared_ptr<Call> shared(std::move(call));
    // The message goes back to the loop's thread with the answer; no copy stays with the worker.
    (inquiry ? inquiries : operations)->post([this, inquiry, shared]() mutable {
        run_method(std::move(shared), inquiry ? inquiry_context : operation_context);
    });
}

void Server::Impl::announce(json event) {
    event["time"] = static_cast<std::int64_t>(std::time(nullptr));
    inbox.post([this, event = std::move(event)] { bus->emit(event); });
}

void Server::Impl::on_shim_event(const dek_event& event) {
    const char* name = event_name(event.type);
    if (!name)
        return;
    Uuid uuid;
    std::memcpy(uuid.data(), event.uuid, uuid.size());
    const auto volume = registry->with_uuid(uuid);
    json j = {
        {"event", name}, {"volume", volume ? volume->name : ""}, {"uuid", volume::uuid_text(uuid)}};
    if (event.handle)
        j["association"] = handle_json(event.handle);
    if (event.type == DEK_EVENT_FENCE_HIT)
        j["lba"] =
            event.lba - (volume ? std::min<std::uint64_t>(volume->header.offset, event.lba) : 0);
    announce(std::move(j));
    if (event.type == DEK_EVENT_ENDPOINT_DOWN || event.type == DEK_EVENT_ASSOCIATION_LOST ||
        event.type == DEK_EVENT_FENCE_HIT || event.type == DEK_EVENT_ENGINE_ERROR)
        review();
}

void Server::Impl::resync() {
    operations->post([this] {
        bool waiting = false;
        try {
            waiting = controller->resync();
            waiting = controller->review() || waiting;
        } catch (const std::exception& e) {
            log(Level::error, "resync-failed", {{"what", e.what()}});
        }
        inbox.post(
            [this, waiting, pause = controller->next_look()] { after_review(waiting, pause); });
    });
}

// What lies beneath the volumes may have changed. One that is asked for before the last one has
// begun is the same.
void Server::Impl::review() {
    if (review_asked.exchange(true))
        return;
    operations->post([this] {
        review_asked = false;
        bool waiting = false;
        try {
            waiting = controller->review();
        } catch (const std::exception& e) {
            log(Level::error, "review-failed", {{"what", e.what()}});
        }
        inbox.post(
            [this, waiting, pause = controller->next_look()] { after_review(waiting, pause); });
    });
}

void Server::Impl::after_review(bool waiting, std::optional<std::chrono::milliseconds> look_after) {
    if (look_after)
        look_later(*look_after);
    if (waiting)
        retry_later();
    else
        retry_after = retry_usec;
    after_operation();
}

void Server::Impl::retry_later() {
    std::uint64_t now = 0;
    sd_event_now(loop.get(), CLOCK_MONOTONIC, &now);
    sd_event_source_set_time(retry, now + retry_after);
    sd_event_source_set_enabled(retry, SD_EVENT_ONESHOT);
    retry_after = std::min(retry_after * 2, retry_most_usec);
}

// What was not opened beneath volumes yet is to be looked at again.
void Server::Impl::look_later(std::chrono::milliseconds pause) {
    std::uint64_t now = 0;
    sd_event_now(loop.get(), CLOCK_MONOTONIC, &now);
    const auto usec = std::chrono::duration_cast<std::chrono::microseconds>(pause).count();
    sd_event_source_set_time(look, now + static_cast<std::uint64_t>(usec));
    sd_event_source_set_enabled(look, SD_EVENT_ONESHOT);
}

int Server::Impl::on_look(sd_event_source*, std::uint64_t, void* self) {
    static_cast<Impl*>(self)->review();
    return 0;
}

int Server::Impl::on_retry(sd_event_source*, std::uint64_t, void* self) {
    static_cast<Impl*>(self)->resync();
    return 0;
}

void Server::Impl::arm_expiry() {
    const auto next = keys->next_expiry();
    if (!next) {
        sd_event_source_set_enabled(expiry, SD_EVENT_OFF);
        return;
    }
    const auto usec =
        std::chrono::duration_cast<std::chrono::microseconds>(next->time_since_epoch());
    sd_event_source_set_time(expiry, static_cast<std::uint64_t>(usec.count()) + 1000);
    sd_event_source_set_enabled(expiry, SD_EVENT_ONESHOT);
}

int Server::Impl::on_expiry(sd_event_source*, std::uint64_t, void* self) {
    auto* impl = static_cast<Impl*>(self);
    impl->keys->expire();
    impl->arm_expiry();
    return 0;
}

void Server::Impl::after_operation() {
    int armed = SD_EVENT_OFF;
    sd_event_source_get_enabled(retry, &armed);
    for (const auto& volume : registry->all()) // what an operation could not bring to its end
        if (armed == SD_EVENT_OFF && volume->shim == "kernel" && !volume->block_device.empty() &&
            volume->state == VolumeState::waiting_for_keys)
            return retry_later(), arm_expiry();
    arm_expiry();
}

ShimWatch::Callbacks Server::Impl::watch_of(const char* kind) {
    ShimWatch::Callbacks callbacks;
    callbacks.event = [this](const dek_event& event) { on_shim_event(event); };
    callbacks.up = [this, kind] {
        log(Level::notice, "shim-up", {{"shim", kind}});
        announce({{"event", "shim-up"}, {"shim", kind}});
        inbox.post([this] { resync(); });
    };
    callbacks.down = [this, kind] {
        log(Level::warning, "shim-down", {{"shim", kind}});
        announce({{"event", "shim-down"}, {"shim", kind}});
        operations->post([this, kind] { controller->shim_gone(kind); });
    };
    return callbacks;
}

Result<void> Server::Impl::open_bus() {
    if (!options.socket.empty())
        return bus->listen(options.socket_path());
    auto system = bus->open_system();
    if (system || options.system_bus)
        return system;
    log(Level::notice, "private-bus",
        {{"socket", options.socket_path()}, {"why", system.error().reason}});
    return bus->listen(options.socket_path());
}

Server::Server(Options options) : impl_(std::make_unique<Impl>(std::move(options))) {}
Server::~Server() = default;

Result<void> Server::start() {
    auto& s = *impl_;
    if (auto opened = s.seat->open(); !opened) {
        if (opened.error().code == Errc::busy)
            return opened;
        log_error("keystore-not-opened", opened.error()); // from here it can be restored
    }
    s.controller->load_records();
    if (auto bus = s.open_bus(); !bus)
        return bus;
    s.controller->legs().watch_paths(
        [&s](std::function<void()> job) { s.operations->post(std::move(job)); });
    s.resync();
    s.watch = std::make_unique<ShimWatch>(s.options.control_file(), s.watch_of("fuse"));
    s.kernel_watch = std::make_unique<KernelWatch>(s.options.kernel_control, s.watch_of("kernel"));
    s.block_watch = std::make_unique<BlockWatch>([&s] { s.review(); });
    return {};
}

int Server::run() {
    auto* loop = impl_->loop.get();
    sd_event_add_signal(loop, nullptr, SIGTERM, nullptr, nullptr);
    sd_event_add_signal(loop, nullptr, SIGINT, nullptr, nullptr);
    sd_event_set_watchdog(loop, 1);
    sd_notify(0, "READY=1");
    log(Level::notice, "ready", {{"version", DEK_VERSION}});
    const int code = sd_event_loop(loop);
    sd_notify(0, "STOPPING=1");
    log(Level::notice, "ending");
    return code < 0 ? 1 : code;
}

} // namespace dek::kcm
