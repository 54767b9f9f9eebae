// SPDX-License-Identifier: Apache-2.0
#include "kcm/engine_loan.h"

#include <algorithm>
#include <thread>

#include "base/log.h"
#include "kcm/negotiate.h"

namespace dek::kcm {
namespace {

Result<dek_list_entry> entry_of(Shim& shim, const Uuid& leg) {
    auto entry = shim.find(leg);
    if (!entry)
        return tl::unexpected(entry.error());
    if (!*entry)
        return fail(Errc::not_found, "endpoint " + volume::uuid_text(leg) + " is gone");
    return **entry;
}

// What is being taken away counts until its last I/O has ended.
Result<void> set_engine(Shim& shim, const Uuid& leg, std::uint32_t engine) {
    auto done = shim.engine(leg, engine);
    for (int tries = 0; tries < 50 && !done && done.error().code == Errc::busy; tries++) {
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        done = shim.engine(leg, engine);
    }
    return done;
}

} // namespace

Result<void> set_own_fence(Shim& shim, const Uuid& leg, std::uint32_t fence) {
    const auto ranges = shim.ranges(leg);
    if (!ranges)
        return tl::unexpected(ranges.error());
    const bool fenced = std::any_of(ranges->begin(), ranges->end(),
                                    [](const auto& r) { return r.state == DEK_RANGE_FENCED; });
    return fenced ? Result<void>() : shim.fence(leg, static_cast<dek_fence>(fence));
}

Result<void> EngineLoans::take_keys(const Uuid& leg) {
    auto associations = shim_->associations(leg);
    auto talk = Negotiation::begin(*shim_, leg);
    if (!associations || !talk)
        return tl::unexpected(associations ? talk.error() : associations.error());
    for (const auto& a : *associations)
        if (!a.draining)
            if (auto r = talk->disassociate(a.handle); !r)
                return r;
    return {};
}

Result<void> EngineLoans::lend(const Uuid& leg) {
    const auto entry = entry_of(*shim_, leg);
    if (!entry)
        return tl::unexpected(entry.error());
    auto& before = before_[volume::uuid_text(leg)];
    if (entry->engine == DEK_ENGINE_CPU)
        return {};
    before = {entry->engine, entry->fence, true, entry->engine && entry->fence == DEK_FENCE_EIO};
    Result<void> done;
    if (before.holds)
        done = shim_->fence(leg, DEK_FENCE_HOLD);
    if (done && entry->associations > 0)
        done = take_keys(leg);
    if (done)
        done = set_engine(*shim_, leg, DEK_ENGINE_CPU);
    if (done)
        log(Level::notice, "engine-lent", {{"endpoint", volume::uuid_text(leg)}});
    return done;
}

void EngineLoans::give_back() {
    for (const auto& [text, before] : before_) {
        const auto leg = volume::uuid_of(text);
        if (!leg || !before.other)
            continue;
        if (auto r = before.holds ? set_own_fence(*shim_, *leg, before.fence) : Result<void>(); !r)
            log_error("fence-not-put-back", r.error(), {{"endpoint", text}});
        if (auto r = shim_->engine(*leg, before.engine); !r && r.error().code != Errc::busy)
            log_error("engine-not-put-back", r.error(), {{"endpoint", text}});
    }
    before_.clear();
}

// Which engines an endpoint could have is not listed while it has the CPU's: it is asked for. It
// changes nothing where something is keyed.
Result<bool> settle_engine(Shim& shim, const Leg& leg, const dek_list_entry& endpoint) {
    if (endpoint.fence != leg.fence)
        if (auto r = set_own_fence(shim, leg.uuid, leg.fence); !r)
            return tl::unexpected(r.error());
    std::vector<std::uint32_t> own;
    if (!leg.engine && endpoint.engine)
        own = {0};
    else if (leg.engine && endpoint.engine == DEK_ENGINE_CPU)
        own = {DEK_ENGINE_INLINE, DEK_ENGINE_ACCEL};
    for (const auto engine : own) {
        const auto done = shim.engine(leg.uuid, engine);
        if (done) {
            log(Level::notice, "engine-put-back", {{"endpoint", leg.name}});
            return false;
        }
        if (done.error().code == Errc::busy)
            return true;
        if (done.error().code != Errc::unsupported)
            return tl::unexpected(done.error());
    }
    return false;
}

} // namespace dek::kcm
