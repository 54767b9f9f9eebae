// SPDX-License-Identifier: Apache-2.0
#include "dispatcher.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/log.h"

namespace dek::shim {
namespace {

constexpr auto kDrainLimit = std::chrono::seconds(10);
// Lanes tell when something ended; this is for the case that they cannot.
constexpr auto kSafetyTick = std::chrono::milliseconds(100);

template <class T>
T& as(std::span<std::uint8_t> argument) {
    return *reinterpret_cast<T*>(argument.data());
}

Uuid uuid_of(const std::uint8_t* bytes) {
    Uuid uuid;
    std::copy_n(bytes, uuid.size(), uuid.begin());
    return uuid;
}

// What of the calls for a volume must be zero.
bool reserved_clear(std::uint32_t command, std::span<std::uint8_t> argument) {
    switch (command) {
    case DEK_IOC_QUIESCE:
        return as<dek_ioc_quiesce>(argument).reserved == 0;
    case DEK_IOC_FENCE:
        return as<dek_ioc_fence>(argument).reserved == 0;
    case DEK_IOC_ENGINE:
        return as<dek_ioc_engine>(argument).reserved == 0;
    case DEK_IOC_STATS:
        return as<dek_ioc_stats>(argument).waiting == 0;
    default:
        return true;
    }
}

} // namespace

int Dispatcher::call(const Caller& caller, std::uint32_t command, Argument argument) {
    if (caller.uid != 0)
        return EPERM;
    if (_IOC_TYPE(command) != DEK_IOC_TYPE)
        return ENOTTY;
    if (argument.size() != _IOC_SIZE(command))
        return EINVAL;
    return route(caller, command, argument);
}

int Dispatcher::route(const Caller& caller, std::uint32_t command, Argument argument) {
    switch (command) {
    case DEK_IOC_VERSION:
        as<dek_ioc_version>(argument) = version_;
        return 0;
    case DEK_IOC_LIST:
        return list(argument);
    case DEK_IOC_EVENTS:
        return events(caller.file, argument);
    case DEK_IOC_VOLUME_CREATE:
        return create(argument);
    case DEK_IOC_COMMAND:
    case DEK_IOC_MAP:
    case DEK_IOC_QUIESCE:
    case DEK_IOC_RELEASE:
    case DEK_IOC_YIELD:
    case DEK_IOC_FENCE:
    case DEK_IOC_ENGINE:
    case DEK_IOC_RANGES:
    case DEK_IOC_ASSOCIATIONS:
    case DEK_IOC_TOKENS:
    case DEK_IOC_STATS:
    case DEK_IOC_VOLUME_REMOVE:
    case DEK_IOC_VOLUME_RESIZE:
        return reserved_clear(command, argument) ? with_volume(caller, command, argument) : EINVAL;
    default:
        return ENOTTY;
    }
}

// The UUID comes first in each of these.
int Dispatcher::with_volume(const Caller& caller, std::uint32_t command, Argument argument) {
    const auto volume = find(argument.data());
    if (!volume)
        return ENOENT;
    switch (command) {
    case DEK_IOC_COMMAND:
        return this->command(caller, volume, argument);
    case DEK_IOC_MAP:
        return map(caller, volume, argument);
    case DEK_IOC_QUIESCE:
        return quiesce(caller, volume, argument);
    case DEK_IOC_RELEASE:
        return release(*volume, argument);
    case DEK_IOC_YIELD:
        return yield(*volume, argument);
    case DEK_IOC_FENCE:
        return fence(*volume, argument);
    case DEK_IOC_ENGINE:
        return engine(*volume, argument);
    case DEK_IOC_RANGES:
        return ranges(*volume, argument);
    case DEK_IOC_ASSOCIATIONS:
        return associations(*volume, argument);
    case DEK_IOC_TOKENS:
        return tokens(*volume, argument);
    case DEK_IOC_STATS:
        return stats(*volume, argument);
    case DEK_IOC_VOLUME_REMOVE:
        return remove(volume, argument);
    default:
        return resize(volume, argument);
    }
}

std::shared_ptr<Volume> Dispatcher::find(const std::uint8_t* uuid) const {
    const auto found = volumes_.find(uuid_of(uuid));
    return found == volumes_.end() ? nullptr : found->second;
}

void Dispatcher::add(const std::shared_ptr<Volume>& volume) {
    volumes_[uuid_of(volume->config.uuid)] = volume;
    announce(*volume, DEK_EVENT_ENDPOINT_UP, 0);
}

int Dispatcher::command(const Caller& caller, const std::shared_ptr<Volume>& volume,
                        Argument argument) {
    auto& in = as<dek_ioc_command>(argument);
    const auto opcode = dek_get_le32(in.block + offsetof(dek_wire_header, opcode));
    if (opcode == DEK_OP_ASSOCIATE || opcode == DEK_OP_UPDATE)
        host_.has_map(*volume);
    dek_change change{};
    dek_endpoint_command(volume->endpoint.get(), in.block, &change);
    return carry_out(caller, volume, DEK_IOC_COMMAND, argument, change, kDrainLimit);
}

int Dispatcher::map(const Caller& caller, const std::shared_ptr<Volume>& volume,
                    Argument argument) {
    const auto& in = as<dek_ioc_map>(argument);
    if (in.flags & DEK_MAP_COMMIT)
        host_.has_map(*volume);
    dek_change change{};
    if (const int error = dek_endpoint_map(volume->endpoint.get(), &in, &change))
        return -error;
    return carry_out(caller, volume, DEK_IOC_MAP, argument, change, kDrainLimit);
}

int Dispatcher::quiesce(const Caller& caller, const std::shared_ptr<Volume>& volume,
                        Argument argument) {
    auto& in = as<dek_ioc_quiesce>(argument);
    dek_change change{};
    if (const int error =
            dek_endpoint_quiesce(volume->endpoint.get(), in.first, in.count, &in.token, &change))
        return -error;
    const auto limit = in.timeout_ms ? Clock::duration(std::chrono::milliseconds(in.timeout_ms))
                                     : Clock::duration(kDrainLimit);
    return carry_out(caller, volume, DEK_IOC_QUIESCE, argument, change, limit);
}

int Dispatcher::release(Volume& volume, Argument argument) {
    const auto& in = as<dek_ioc_release>(argument);
    dek_change change{};
    if (const int error = dek_endpoint_release(volume.endpoint.get(), in.token, &change))
        return -error;
    publish(volume, change);
    // A Quiesce that still waited under this token has nothing to wait for.
    drains_.remove_if([&](Drain& d) {
        const bool its = d.volume.get() == &volume && d.hold == in.token && d.waiter &&
                         d.waiter->command() == DEK_IOC_QUIESCE;
        if (its)
            done_(d.waiter->ticket(), ETIMEDOUT, {});
        return its;
    });
    watched_ = static_cast<unsigned>(drains_.size());
    return 0;
}

int Dispatcher::yield(Volume& volume, Argument argument) {
    const auto& in = as<dek_ioc_yield>(argument);
    dek_change change{};
    if (const int error =
            dek_endpoint_yield(volume.endpoint.get(), in.token, in.first, in.count, &change))
        return -error;
    publish(volume, change);
    check_recovery(volume);
    return 0;
}

int Dispatcher::fence(Volume& volume, Argument argument) {
    const auto& in = as<dek_ioc_fence>(argument);
    dek_change change{};
    if (const int error = dek_endpoint_set_fence(volume.endpoint.get(),
                                                 static_cast<dek_fence>(in.fence), &change))
        return -error;
    volume.config.fence = in.fence;
    host_.fence_changed(volume);
    publish(volume, change);
    return 0;
}

int Dispatcher::engine(Volume& volume, Argument argument) {
    const auto wanted = as<dek_ioc_engine>(argument).engine;
    if (wanted & (wanted - 1))
        return EINVAL;
    if (wanted & ~DEK_ENGINE_CPU)
        return EOPNOTSUPP;
    if (const int error = dek_endpoint_set_engine(volume.endpoint.get(), wanted))
        return -error;
    volume.config.flags &= ~DEK_VOLUME_NO_ENGINE;
    if (!wanted)
        volume.config.flags |= DEK_VOLUME_NO_ENGINE;
    host_.engine_changed(volume);
    return 0;
}

int Dispatcher::create(Argument argument) {
    const auto& in = as<dek_ioc_volume>(argument);
    if (find(in.uuid))
        return EEXIST;
    std::shared_ptr<Volume> volume;
    if (const int error = host_.create(in, volume))
        return error;
    add(volume);
    return 0;
}

int Dispatcher::remove(const std::shared_ptr<Volume>& volume, Argument argument) {
    if (as<dek_ioc_volume_ref>(argument).count)
        return EINVAL;
    if (const int error = host_.remove(*volume))
        return error;
    drains_.remove_if([&](Drain& d) {
        if (d.volume == volume)
            finish(d); // nothing of it can be under way any more
        return d.volume == volume;
    });
    watched_ = static_cast<unsigned>(drains_.size());
    announce(*volume, DEK_EVENT_ENDPOINT_DOWN, 0);
    volumes_.erase(uuid_of(volume->config.uuid));
    return 0;
}

int Dispatcher::resize(const std::shared_ptr<Volume>& volume, Argument argument) {
    const std::uint64_t count = as<dek_ioc_volume_ref>(argument).count;
    if (const int error = host_.check_length(*volume, count))
        return error;
    dek_change change{};
    if (const int error = dek_endpoint_resize(volume->endpoint.get(), count, &change))
        return -error;
    volume->config.count = count;
    volume->sectors = count;
    publish(*volume, change);
    host_.resized(*volume);
    return 0;
}

int Dispatcher::carry_out(const Caller& caller, const std::shared_ptr<Volume>& volume,
                          std::uint32_t command, Argument argument, dek_change& change,
                          Clock::duration limit) {
    publish(*volume, change);
    if (!change.hold) {
        check_recovery(*volume);
        return 0;
    }
    Drain drain;
    drain.volume = volume;
    drain.hold = change.hold;
    drain.epoch = volume->epoch;
    if (change.drain_count == DEK_DRAIN_ALL)
        drain.ranges.push_back({0, ~0ull});
    else
        drain.ranges.assign(change.drain, change.drain + change.drain_count);
    drain.deadline = Clock::now() + limit;
    drain.waiter.emplace(caller.ticket, command, argument);
    drains_.push_back(std::move(drain));
    watched_ = static_cast<unsigned>(drains_.size()); // before the look at what is under way
    tick();
    return kLater;
}

void Dispatcher::publish(Volume& volume, dek_change& change) {
    if (change.next) {
        volume.snapshot.store(change.next, std::memory_order_release);
        volume.generation = dek_snapshot_generation(change.next);
        volume.epoch.fetch_add(1, std::memory_order_acq_rel);
        dek_endpoint_published(volume.endpoint.get(), &change);
        host_.grace();
        if (volume.waiting())
            host_.wake_waiting();
    }
    dek_change_reclaim(&change);
    if (change.event)
        announce(volume, change.event, change.handle);
}

void Dispatcher::announce(const Volume& volume, dek_event_type type, std::uint64_t handle) {
    dek_event event{};
    std::memcpy(event.uuid, volume.config.uuid, sizeof(event.uuid));
    event.generation = volume.generation;
    event.handle = handle;
    event.type = type;
    events_.add(event);
}

bool Dispatcher::settled(const Drain& drain) {
    return std::none_of(drain.ranges.begin(), drain.ranges.end(), [&](const dek_range& range) {
        return host_.under_way(*drain.volume, drain.epoch, range);
    });
}

void Dispatcher::finish(Drain& drain) {
    dek_change after{};
    std::uint8_t* block = nullptr;
    if (drain.waiter && drain.waiter->command() == DEK_IOC_COMMAND)
        block = as<dek_ioc_command>(drain.waiter->argument()).block;
    dek_endpoint_drained(drain.volume->endpoint.get(), drain.hold, block, &after);
    publish(*drain.volume, after);
    check_recovery(*drain.volume);
    if (drain.waiter)
        done_(drain.waiter->ticket(), 0, drain.waiter->argument());
}

bool Dispatcher::give_up(Drain& drain, int error) {
    const std::uint32_t command = drain.waiter->command();
    std::uint8_t* block = nullptr;
    if (command == DEK_IOC_COMMAND)
        block = as<dek_ioc_command>(drain.waiter->argument()).block;
    dek_change after{};
    dek_endpoint_gave_up(drain.volume->endpoint.get(), drain.hold, block, &after);
    publish(*drain.volume, after);
    if (!error && command == DEK_IOC_MAP)
        error = EAGAIN;
    else if (!error && command == DEK_IOC_QUIESCE)
        error = ETIMEDOUT;
    done_(drain.waiter->ticket(), error, drain.waiter->argument());
    drain.waiter.reset();
    if (command == DEK_IOC_QUIESCE)
        return false;
    // Somebody has to lift the hold when the I/O has gone; one is enough.
    return std::none_of(drains_.begin(), drains_.end(), [&](const Drain& other) {
        return &other != &drain && other.volume == drain.volume && other.hold == drain.hold;
    });
}

void Dispatcher::interrupt(std::uint64_t ticket) {
    for (auto d = drains_.begin(); d != drains_.end(); ++d) {
        if (!d->waiter || d->waiter->ticket() != ticket)
            continue;
        if (!give_up(*d, EINTR))
            drains_.erase(d);
        watched_ = static_cast<unsigned>(drains_.size());
        return;
    }
}

void Dispatcher::tick() {
    const auto now = Clock::now();
    for (auto d = drains_.begin(); d != drains_.end();) {
        bool keep = true;
        if (settled(*d)) {
            finish(*d);
            keep = false;
        } else if (d->waiter && d->deadline <= now) {
            keep = give_up(*d, 0);
        }
        d = keep ? std::next(d) : drains_.erase(d);
    }
    watched_ = static_cast<unsigned>(drains_.size());
    for (auto& [uuid, volume] : volumes_)
        if (volume->recover_until && *volume->recover_until <= now) {
            log(Level::warning, "keys-did-not-come", {{"volume", volume->name()}});
            end_recovery(*volume);
        }
}

std::optional<Clock::time_point> Dispatcher::next_deadline() const {
    std::optional<Clock::time_point> next;
    const auto consider = [&](Clock::time_point t) { next = next ? std::min(*next, t) : t; };
    if (!drains_.empty())
        consider(Clock::now() + kSafetyTick);
    for (const Drain& d : drains_)
        if (d.waiter)
            consider(d.deadline);
    for (const auto& [uuid, volume] : volumes_)
        if (volume->recover_until)
            consider(*volume->recover_until);
    return next;
}

void Dispatcher::end_recovery(Volume& volume) {
    dek_change change{};
    if (dek_endpoint_recovered(volume.endpoint.get(), &change) != 0)
        return; // no memory: again with the next tick
    volume.recover_until.reset();
    publish(volume, change);
}

// All keys have come: what is fenced from now on need not wait for any.
void Dispatcher::check_recovery(Volume& volume) {
    if (!volume.recover_until)
        return;
    const dek_snapshot* now = dek_endpoint_current(volume.endpoint.get());
    if (dek_snapshot_generation(now) && !dek_snapshot_has_fenced(now))
        end_recovery(volume);
}

bool Dispatcher::has_news(std::uint64_t file) const {
    const auto seen = handed_out_.find(file);
    return events_.newest() > (seen == handed_out_.end() ? 0 : seen->second);
}

} // namespace dek::shim
