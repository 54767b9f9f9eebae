// SPDX-License-Identifier: Apache-2.0
// The ioctl interface of <dek/ioctl.h>, without the transport that brings the calls: what each call
// does to the volumes, and the answers that wait for I/O.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <span>

#include "drains.h"
#include "events.h"
#include "volume.h"

namespace dek::shim {

using Uuid = std::array<std::uint8_t, DEK_UUID_SIZE>;
using VolumeMap = std::map<Uuid, std::shared_ptr<Volume>>;

// What the dispatcher asks of lanes, mounts and the volume table. Errors are errno values.
class Host {
  public:
    virtual ~Host() = default;
    virtual int create(const dek_ioc_volume& config, std::shared_ptr<Volume>& out) = 0;
    virtual int remove(Volume& volume) = 0;
    // May it have this length? Changes nothing.
    virtual int check_length(const Volume& volume, std::uint64_t count) = 0;
    virtual void resized(Volume& volume) = 0; // config.count is the new length
    virtual void fence_changed(Volume& volume) = 0;
    virtual void engine_changed(Volume& volume) = 0; // config.flags says so
    virtual void has_map(Volume& volume) = 0;        // the next worker must wait for keys
    virtual void grace() = 0;
    virtual void wake_waiting() = 0;
    virtual bool under_way(const Volume& volume, std::uint64_t epoch, const dek_range& range) = 0;
};

struct Caller {
    std::uint32_t uid = 0;
    std::uint64_t file = 0;   // which open of the control file
    std::uint64_t ticket = 0; // names the call, for an answer that comes later
};

// Threading: all of it on the control thread; `watched` and `events` are read elsewhere.
class Dispatcher {
  public:
    // `done`: a call that was to be answered later. The argument is the answer when error is 0.
    using Done =
        std::function<void(std::uint64_t ticket, int error, std::span<const std::uint8_t>)>;

    Dispatcher(Host& host, EventRing& events, const dek_ioc_version& version, Done done)
        : host_(host), events_(events), version_(version), done_(std::move(done)) {}

    static constexpr int kLater = -1;
    // `argument`: _IOC_SIZE(command) bytes, the answer in place. 0, an errno, or kLater. The caller
    // wipes the argument.
    int call(const Caller& caller, std::uint32_t command, std::span<std::uint8_t> argument);
    // The caller was killed; its answer, if one is still due, becomes EINTR.
    void interrupt(std::uint64_t ticket);
    void closed(std::uint64_t file) { handed_out_.erase(file); }
    // An event newer than the newest handed out to this file?
    bool has_news(std::uint64_t file) const;

    // Whatever is due: drains that ended, deadlines that passed.
    void tick();
    // When to call tick() at the latest.
    std::optional<Clock::time_point> next_deadline() const;
    // Not 0: lanes tell when something ended.
    const std::atomic<unsigned>& watched() const { return watched_; }

    void add(const std::shared_ptr<Volume>& volume);
    const VolumeMap& volumes() const { return volumes_; }

  private:
    using Argument = std::span<std::uint8_t>;
    int route(const Caller& caller, std::uint32_t command, Argument argument);
    int with_volume(const Caller& caller, std::uint32_t command, Argument argument);
    std::shared_ptr<Volume> find(const std::uint8_t* uuid) const;

    int command(const Caller&, const std::shared_ptr<Volume>&, Argument);
    int map(const Caller&, const std::shared_ptr<Volume>&, Argument);
    int quiesce(const Caller&, const std::shared_ptr<Volume>&, Argument);
    int release(Volume&, Argument);
    int yield(Volume&, Argument);
    int fence(Volume&, Argument);
    int engine(Volume&, Argument);
    int create(Argument);
    int remove(const std::shared_ptr<Volume>&, Argument);
    int resize(const std::shared_ptr<Volume>&, Argument);

    // listings.cpp
    int list(Argument) const;
    int ranges(const Volume&, Argument) const;
    int associations(const Volume&, Argument) const;
    int tokens(const Volume&, Argument) const;
    int stats(const Volume&, Argument) const;
    int events(std::uint64_t file, Argument);

    // Puts a change into force; kLater when its answer has to wait.
    int carry_out(const Caller&, const std::shared_ptr<Volume>&, std::uint32_t command, Argument,
                  dek_change&, Clock::duration limit);
    void publish(Volume& volume, dek_change& change);
    void announce(const Volume& volume, dek_event_type type, std::uint64_t handle);
    bool settled(const Drain& drain);
    void finish(Drain& drain);
    bool give_up(Drain& drain, int error); // false: forget it
    void end_recovery(Volume& volume);
    void check_recovery(Volume& volume);

    Host& host_;
    EventRing& events_;
    const dek_ioc_version version_;
    Done done_;
    VolumeMap volumes_;
    std::list<Drain> drains_;
    std::atomic<unsigned> watched_{0};
    std::map<std::uint64_t, std::uint64_t> handed_out_; // file -> newest event it was given
};

} // namespace dek::shim
