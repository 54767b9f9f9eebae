// SPDX-License-Identifier: Apache-2.0
// Live switching: another layer takes the encrypting over, under I/O.
#include <algorithm>
#include <fstream>
#include <set>
#include <thread>

#include "base/log.h"
#include "kcm/beneath.h"
#include "kcm/controller.h"
#include "kcm/engine_loan.h"
#include "kcm/kernel_table.h"
#include "kcm/kernel_volume.h"
#include "kcm/live_stack.h"
#include "kcm/pool_keeper.h"

namespace dek::kcm {
namespace {

using layers::Encryptor;
using std::chrono::milliseconds;

// With what is under way, before the way is opened anew.
constexpr milliseconds first_patience{5000};

Result<std::uint64_t> block_size_of(const std::string& number) {
    std::ifstream in("/sys/dev/block/" + number + "/queue/logical_block_size");
    std::uint64_t bytes = 0;
    if (!(in >> bytes))
        return fail(Errc::io, "the kernel does not say the block size of device " + number);
    return bytes;
}

// Nobody would notice a filesystem's blocks becoming too small until it fails.
Result<void> check_limits(const Volume& v, const DmInfo& info) {
    auto now = block_size_of(info.number);
    auto beneath = dm_beneath(info.name);
    if (!now || !beneath)
        return tl::unexpected(now ? beneath.error() : now.error());
    std::uint64_t next = v.header.data_unit;
    for (const auto device : *beneath) {
        auto size = block_size_of(number_text(device));
        if (!size)
            return tl::unexpected(size.error());
        next = std::max(next, *size);
    }
    if (next != *now)
        return fail(Errc::refused, "volume " + v.name + " has blocks of " + std::to_string(*now) +
                                       " bytes and would have such of " + std::to_string(next));
    return {};
}

// "/dev/mapper/mpatha" is mpatha to device-mapper.
std::string dm_name_of(const layers::Device& device) {
    return device.name.substr(device.name.rfind('/') + 1);
}

std::string named(Encryptor who) {
    return who == Encryptor::top         ? "its endpoint"
           : who == Encryptor::endpoints ? "endpoints beneath"
                                         : "dm-crypt";
}

} // namespace

// One change of one volume, from its first step to its last. What fails before the suspension has
// changed nothing; after it, everything goes back.
class Controller::Switch {
  public:
    Switch(Controller& controller, Volume& volume, std::shared_ptr<const Survey> survey)
        : c_(controller), v_(volume), next_(volume), shim_(*controller.site(volume).shim),
          loans_(shim_) {
        next_.survey = std::move(survey);
        next_.encryptor = next_.survey->decision.who;
    }

    Result<void> run() {
        auto ring = c_.keys_of(v_.header);
        if (!ring)
            return tl::unexpected(ring.error());
        ring_ = std::move(*ring);
        auto info = find_volume_device(v_.node());
        if (!info)
            return tl::unexpected(info.error());
        info_ = *info;
        if (auto r = check_limits(v_, info_); !r)
            return r;
        auto done = prepare();
        std::optional<PoolKeeper> keeper;
        if (done)
            keep_pools(keeper);
        if (done)
            done = legs_before().any() || legs_after().any() ? move_with_legs() : move_table();
        if (!done) {
            settle_failure(done.error());
            return done;
        }
        return finish();
    }

  private:
    Beneath legs_before() { return Beneath(shim_, v_.header, v_.survey); }
    Beneath legs_after() { return Beneath(shim_, next_.header, next_.survey); }
    KeyFinder keys() {
        return [this](const volume::HeaderKey& key) -> Result<Secret> {
            return ring_.at(key.id).clone();
        };
    }

    // The new table waits; who is to encrypt by it is ready, or has said that it will be.
    Result<void> prepare() {
        KernelKeys offered;
        if (next_.encryptor == Encryptor::software)
            if (auto r = offer_keys(offered, v_.header, keys()); !r)
                return r;
        if (auto r = load_volume_table(next_.node()); !r)
            return r;
        if (next_.encryptor == Encryptor::top)
            return establish(shim_, v_.header, keys());
        if (next_.encryptor != Encryptor::endpoints)
            return {};
        if (auto r = c_.guard_.keep(&next_); !r)
            return r;
        return legs_after().query();
    }

    void keep_pools(std::optional<PoolKeeper>& keeper) {
        const auto live = dm_table(info_.name);
        KernelKeys offered;
        if (live && (v_.encryptor != Encryptor::software || offer_keys(offered, v_.header, keys())))
            keeper.emplace(v_.header.uuid, *live);
    }

    // The endpoint of the old table, if it had one, goes with it.
    Result<void> move_table() { return dm_resume(info_.name, false, Freeze::no); }

    // An engine may fail at any moment until I/O stands still.
    Result<void> stand_still() {
        auto stands = open_way();
        if (!stands || v_.encryptor != Encryptor::endpoints)
            return stands ? dm_suspend(info_.name, Freeze::no) : stands;
        stands = dm_suspend(info_.name, Freeze::no, first_patience);
        if (stands || stands.error().code != Errc::timeout)
            return stands;
        stands = open_way();
        return stands ? dm_suspend(info_.name, Freeze::no) : stands;
    }

    Result<void> move_with_legs() {
        if (!info_.suspended)
            if (auto stands = stand_still(); !stands) {
                loans_.give_back();
                return stands;
            }
        info_.suspended = true;
        auto done = check_mirrors();
        if (done)
            done = to_legs(next_.encryptor, legs_after());
        if (done && next_.encryptor != Encryptor::endpoints) // they would encrypt once more
            done = c_.leave_lost_legs(next_, v_.survey);
        if (done)
            done = dm_resume(info_.name, false, Freeze::no);
        if (done) {
            info_.suspended = false;
            loans_.give_back();
            return done;
        }
        return go_back(std::move(done.error()));
    }

    // A mirror that copies by itself does not stand still with the volume: it would carry what one
    // leg has decrypted to another that no longer encrypts, or the other way round.
    Result<void> check_mirrors() {
        const auto stack = discover(v_.device, shim_);
        if (!stack)
            return tl::unexpected(stack.error());
        for (const auto& device : stack->devices)
            if (device.copying)
                return fail(Errc::busy, title(device) + " is copying from leg to leg; the work "
                                                        "moves when that is done");
        return {};
    }

    // What waits for an engine that fails, or for one that is not there as with a multipath that
    // queues, would keep the volume from being suspended. The CPU encrypts there until it is: the
    // ciphertext is the same. Others who lie on such a leg get their keys again, too.
    Result<void> open_way() {
        if (v_.encryptor != Encryptor::endpoints)
            return {};
        auto survey = c_.look(v_);
        if (!survey)
            return tl::unexpected(survey.error());
        const auto legs = legs_to_open((*survey)->stack);
        if (legs.empty())
            return check_way();
        auto rings = c_.rings_of_others(v_, legs);
        for (const auto& text : legs)
            if (const auto leg = volume::uuid_of(text))
                if (auto r = loans_.lend(*leg); !r)
                    return fail(r.error().code, "endpoint " + text + ": " + r.error().reason);
        auto done = key_anew(v_, ring_);
        for (const auto& [other, ring] : rings)
            if (auto r = key_anew(*other, ring); !r)
                log_error("range-stays-fenced", r.error(), {{"volume", other->name}});
        if (done)
            done = reinstate_paths();
        return done ? check_way() : done;
    }

    // What was lent is seen as it is here, and not as what it would be by itself.
    Result<void> key_anew(const Volume& v, const KeyRing& ring) {
        auto stack = discover(v.device, shim_);
        if (!stack)
            return tl::unexpected(stack.error());
        for (auto& device : stack->devices)
            for (auto& leg : device.legs)
                if (loans_.has(stack->devices[leg.device].uuid))
                    leg.state = layers::PathState::active;
        return Beneath(shim_, v.header, c_.judge(v, std::move(*stack)))
            .encrypt([&](const volume::HeaderKey& key) -> Result<Secret> {
                return ring.at(key.id).clone();
            });
    }

    // A path whose engine failed was failed with it, and may be at any moment of this.
    Result<void> reinstate_paths() {
        for (int tries = 0; tries < 3; tries++) {
            const auto stack = discover(v_.device, shim_);
            const auto done =
                stack ? reinstate_paths(*stack) : Result<bool>(tl::unexpected(stack.error()));
            if (!done)
                return tl::unexpected(done.error());
            if (!*done)
                return {};
            std::this_thread::sleep_for(milliseconds(500)); // a dead one fails at once
        }
        return {};
    }

    // True: there was one.
    Result<bool> reinstate_paths(const layers::Stack& stack) {
        bool any = false;
        for (const auto& device : stack.devices)
            for (const auto& leg : device.legs) {
                if (device.kind != layers::Kind::multipath || leg.may_carry_io() ||
                    !loans_.has(stack[leg.device].uuid))
                    continue;
                const auto node = dm_find_name(dm_name_of(stack[leg.device]));
                if (!node || !*node)
                    continue;
                any = true;
                if (auto r = dm_message(dm_name_of(device), 0, "reinstate_path " + (*node)->number);
                    !r)
                    return tl::unexpected(r.error());
            }
        return any;
    }

    // A multipath without a path holds its I/O, or has failed it, and a mirror waits for each of
    // its legs: the volume cannot be suspended while either has nothing to wait for.
    Result<void> check_way() {
        auto stack = discover(v_.device, shim_);
        if (!stack)
            return tl::unexpected(stack.error());
        for (const auto& device : stack->devices)
            if (is_cut_off(device))
                return fail(Errc::unavailable, title(device) + " has no path that carries I/O");
        for (const auto& device : stack->devices)
            if (const auto uuid = volume::uuid_of(device.uuid); uuid && waits(*uuid))
                return fail(Errc::unavailable, title(device) + " holds I/O that cannot go on");
        return {};
    }

    // Whether I/O to a leg waits, and goes on waiting.
    bool waits(const Uuid& leg) {
        for (int tries = 0; tries < 20; tries++) {
            const auto stats = shim_.stats(leg);
            if (!stats || stats->waiting == 0)
                return false;
            std::this_thread::sleep_for(milliseconds(100));
        }
        return true;
    }

    static bool is_cut_off(const layers::Device& device) {
        return device.kind == layers::Kind::multipath &&
               std::none_of(device.legs.begin(), device.legs.end(),
                            [](const auto& leg) { return leg.may_carry_io(); });
    }

    bool holds(const layers::Device& leg) {
        const auto uuid = volume::uuid_of(leg.uuid);
        const auto stats = uuid ? shim_.stats(*uuid) : tl::unexpected(uuid.error());
        return stats && stats->waiting > 0;
    }

    // Endpoints whose engine fails; of a multipath that is cut off and of a mirror that waits those
    // that only fence.
    std::set<std::string> legs_to_open(const layers::Stack& stack) {
        std::set<std::string> legs;
        for (const auto& device : stack.devices) {
            if (device.kind == layers::Kind::endpoint &&
                device.endpoint.ready == DEK_INVALID_HW_STATE)
                legs.insert(device.uuid);
            for (const auto& leg : device.legs) {
                const auto& path = stack[leg.device];
                if (path.kind == layers::Kind::fence &&
                    (is_cut_off(device) || (device.kind != layers::Kind::multipath && holds(path))))
                    legs.insert(path.uuid);
            }
        }
        legs.erase("");
        return legs;
    }

    Result<void> to_legs(Encryptor who, Beneath legs) {
        return who == Encryptor::endpoints ? legs.encrypt(keys()) : legs.yield();
    }

    // A table never comes live over legs in the state for another one: it stays suspended then.
    Result<void> go_back(Error why) {
        if (auto r = to_legs(v_.encryptor, legs_before()); !r)
            return fail(why.code, why.reason + "; back again: " + r.error().reason +
                                      ": I/O to the volume stands still");
        dm_clear(info_.name);
        if (auto r = dm_resume(info_.name, false, Freeze::no); !r)
            return fail(why.code, why.reason + "; " + r.error().reason);
        info_.suspended = false;
        return tl::unexpected(std::move(why));
    }

    // The kernel suspends before it finds that a table does not do. What still stands over legs in
    // another state goes on by a later resync.
    void settle_failure(const Error& why) {
        const auto now = find_volume_device(v_.node());
        if (!info_.suspended) {
            dm_clear(info_.name);
            if (!now || !now->suspended || dm_resume(info_.name, false, Freeze::no))
                return;
        }
        v_.state = VolumeState::waiting_for_keys;
        v_.reason = why.reason;
    }

    Result<void> finish() {
        const auto old = v_.survey;
        const auto from = v_.encryptor;
        v_.encryptor = next_.encryptor;
        v_.survey = next_.survey;
        (void)c_.leave_lost_legs(v_, old); // it has said why it could not
        log(Level::notice, "volume-switched",
            {{"volume", v_.name}, {"from", named(from)}, {"to", named(v_.encryptor)}});
        c_.tell("volume-switched", v_);
        return {};
    }

    Controller& c_;
    Volume& v_;
    Volume next_;
    Shim& shim_;
    KeyRing ring_;
    DmInfo info_;
    EngineLoans loans_;
};

// Of volumes that are encrypted on one of these legs, too. Without its keys a volume stays fenced.
std::vector<std::pair<VolumePtr, Controller::KeyRing>>
Controller::rings_of_others(const Volume& v, const std::set<std::string>& legs) {
    std::vector<std::pair<VolumePtr, KeyRing>> all;
    for (const auto& other : parts_.registry->all()) {
        if (other->header.uuid == v.header.uuid || !other->verified || !other->survey ||
            other->encryptor != Encryptor::endpoints)
            continue;
        const auto& survey = *other->survey;
        if (std::none_of(survey.decision.maps.begin(), survey.decision.maps.end(),
                         [&](const auto& m) { return legs.contains(survey.stack[m.device].uuid); }))
            continue;
        if (auto ring = keys_of(other->header))
            all.emplace_back(other, std::move(*ring));
        else
            log_error("range-stays-fenced", ring.error(), {{"volume", other->name}});
    }
    return all;
}

// A target on top whose engine fails, as those beneath may have, leaves the work to dm-crypt.
Result<void> Controller::take_over(Volume& v, std::shared_ptr<const Survey> survey) {
    if (v.strayed)
        return fail(Errc::refused, "data of volume " + v.name +
                                       " lies in the clear beneath it; "
                                       "docs/layers.md says what to do");
    const auto state = std::exchange(v.state, VolumeState::up); // after a restart it is not yet
    auto done = Switch(*this, v, survey).run();
    const bool stands_still = v.state != VolumeState::up;
    if (!stands_still)
        v.state = state;
    if (done || survey->decision.who != Encryptor::top || v.encryptor == Encryptor::software ||
        stands_still)
        return done;
    auto next = judge(v, survey->stack, done.error().reason);
    return next->decision.who == Encryptor::software ? Switch(*this, v, std::move(next)).run()
                                                     : done;
}

// What a mirror of LVM's, or anybody, copies from an endpoint that encrypts to one that was not
// told to lies there in the clear. It is fenced and never taken for ciphertext.
Result<void> Controller::check_strays(Volume& v, Beneath& legs) {
    const auto strays = v.strayed ? LunMap() : legs.strays();
    if (!strays)
        return tl::unexpected(strays.error());
    if (strays->empty() && !v.strayed)
        return {};
    v.strayed = true;
    write_record(v);
    if (auto r = legs.fence_strays(); !r)
        return r;
    return fail(Errc::refused,
                "data of volume " + v.name + " was moved or copied beneath it while endpoints " +
                    "encrypted, and lies in the clear in its new place, which is fenced now; " +
                    "docs/layers.md says what to do");
}

// Endpoints beneath go on encrypting: new paths get their keys, maps follow what has moved.
// Otherwise legs let pass what somebody above encrypts. `grown`: the volume has new LBAs.
Result<void> Controller::refresh_legs(Volume& v, std::shared_ptr<const Survey> survey, bool grown) {
    Volume next = v;
    next.survey = std::move(survey);
    Beneath legs(*site(v).shim, next.header, next.survey);
    const bool endpoints = v.encryptor == Encryptor::endpoints;
    if (endpoints && !grown)
        if (auto r = check_strays(v, legs); !r)
            return r;
    auto done = endpoints ? legs.encrypt(key_finder()) : legs.yield();
    if (!done)
        return done;
    const auto old = v.survey;
    v.survey = next.survey;
    (void)leave_lost_legs(v, old);
    return {};
}

Result<VolumePtr> Controller::switch_to(const std::string& name, const std::string& where) {
    const auto found = parts_.registry->find(name);
    if (!found)
        return fail(Errc::not_found, "no volume named " + name + " is attached");
    if (where != "endpoint" && where != "software" && where != "auto")
        return fail(Errc::invalid_argument, "a volume is switched to endpoint, software or auto");
    if (found->shim != "kernel")
        return where == "software"
                   ? fail(Errc::unsupported, "volume " + name +
                                                 " is served by the userspace shim; dm-crypt can "
                                                 "only take over from the kernel shim")
                   : Result<VolumePtr>(found);
    if (found->state != VolumeState::up || !found->verified)
        return fail(Errc::unavailable, "volume " + name + " is " + state_name(found->state) +
                                           (found->reason.empty() ? "" : ": " + found->reason));
    Volume v = *found;
    v.wish = where == "software" ? Wish::software : Wish::automatic;
    auto survey = look(v);
    if (!survey)
        return tl::unexpected(survey.error());
    const auto who = (*survey)->decision.who;
    if (where == "endpoint" && who == Encryptor::software)
        return fail(Errc::unsupported,
                    "volume " + name + " stays with dm-crypt: " + (*survey)->decision.why);
    // What is wished is durable before it is done: a kcmd that is killed goes on with it.
    if (auto r = records_.write(record_of(v, true)); !r)
        return tl::unexpected(r.error());
    auto done = who == v.encryptor ? refresh_legs(v, *survey) : take_over(v, *survey);
    if (!done) {
        v.wish = found->wish;
        write_record(v);
        parts_.registry->publish(v.state == VolumeState::up && !v.strayed ? *found : v);
        keep_guard();
        return fail(done.error().code, "volume " + name + " is not switched to " + named(who) +
                                           ": " + done.error().reason);
    }
    reviews_.erase(v.header.uuid);
    parts_.registry->publish(v);
    keep_guard();
    if (where == "endpoint" && v.encryptor == Encryptor::software)
        return fail(Errc::unsupported,
                    "volume " + name + " has gone to dm-crypt: " + v.survey->decision.why);
    return parts_.registry->find(name);
}

} // namespace dek::kcm
