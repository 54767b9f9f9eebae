// SPDX-License-Identifier: Apache-2.0
// What lies beneath the volumes is looked at, and what follows from it is done.
#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "kcm/controller.h"
#include "kcm/engine_loan.h"

namespace dek::kcm {
namespace {

using layers::Encryptor;
using std::chrono::milliseconds;

constexpr milliseconds shortest_pause{1000}; // between two tries of what failed
constexpr milliseconds longest_pause{30000};

} // namespace

void Controller::write_record(const Volume& v) {
    if (auto r = records_.write(record_of(v, true)); !r)
        log_error("record-not-written", r.error(), {{"volume", v.name}});
}

// What failed is not tried again at once unless something has changed: trying makes events, too.
bool Controller::is_too_early(const Volume& v, const layers::Stack& stack) {
    const auto found = reviews_.find(v.header.uuid);
    if (found == reviews_.end() || !found->second.failed)
        return false;
    const auto& review = found->second;
    const auto pause = review.failed->stack == stack ? review.pause : shortest_pause;
    return std::chrono::steady_clock::now() < review.tried + pause;
}

// Away from what fails at once; back to what has come back only when it has lasted.
bool Controller::may_switch_now(const Volume& v, Encryptor to) {
    const auto now = std::chrono::steady_clock::now();
    auto& review = reviews_[v.header.uuid];
    if (to == Encryptor::software ||
        (v.encryptor == Encryptor::endpoints && to == Encryptor::top)) {
        review.quiet = {};
        return true;
    }
    if (review.to != to || review.quiet == std::chrono::steady_clock::time_point{}) {
        review.to = to;
        review.wait = std::max(review.wait, parts_.options.switch_back);
        review.quiet = now + review.wait;
    }
    return now >= review.quiet;
}

// True: something has to wait and wants another call.
bool Controller::review_volume(const VolumePtr& volume) {
    Volume v = *volume;
    auto survey = look(v);
    if (!survey) {
        log_error("volume-not-looked-at", survey.error(), {{"volume", v.name}});
        return true;
    }
    if (is_too_early(v, (*survey)->stack))
        return true;
    const auto who = (*survey)->decision.who;
    const bool stays = who == v.encryptor;
    if (stays && v.survey && v.survey->stack == (*survey)->stack &&
        !reviews_.contains(v.header.uuid))
        return false;
    if (!stays && !may_switch_now(v, who)) {
        v.survey = *survey;
        parts_.registry->publish(v);
        return true;
    }
    const auto done = stays ? refresh_legs(v, *survey) : take_over(v, *survey);
    v.reason = !done                                          ? done.error().reason
               : !stays && v.encryptor == Encryptor::software ? v.survey->decision.why
                                                              : "";
    if (done) {
        reviews_.erase(v.header.uuid);
        write_record(v);
    } else {
        auto& review = reviews_[v.header.uuid];
        review.failed = *survey;
        review.tried = std::chrono::steady_clock::now();
        review.pause = std::clamp(review.pause * 2, shortest_pause, longest_pause);
        review.wait = std::min<milliseconds>(std::max(review.wait, parts_.options.switch_back) * 2,
                                             std::chrono::minutes(5));
        review.quiet = {};
        log_error("volume-not-switched", done.error(), {{"volume", v.name}});
    }
    parts_.registry->publish(v);
    return !done;
}

bool Controller::review() {
    bool waiting = false;
    (void)legs_.restore(); // it has said why it could not
    keep_guard();
    for (const auto& volume : parts_.registry->all())
        if (volume->shim == "kernel" && volume->state == VolumeState::up && volume->verified)
            waiting = review_volume(volume) || waiting;
    settle_engines();
    keep_guard();
    return waiting;
}

// Engines that were lent, by this process or one that was killed, go back when nothing is keyed
// there any more.
void Controller::settle_engines() {
    lent_.clear();
    const auto legs = legs_.all();
    const auto endpoints = legs.empty() ? Result<std::vector<dek_list_entry>>()
                                        : parts_.shims.of("kernel").shim->list();
    if (!endpoints)
        return;
    for (const auto& leg : legs)
        for (const auto& endpoint : *endpoints) {
            if (std::memcmp(endpoint.uuid, leg.uuid.data(), leg.uuid.size()) != 0)
                continue;
            const auto lent = settle_engine(*parts_.shims.of("kernel").shim, leg, endpoint);
            if (!lent)
                log_error("engine-not-put-back", lent.error(), {{"endpoint", leg.name}});
            else if (*lent)
                lent_.insert(volume::uuid_text(leg.uuid));
        }
}

} // namespace dek::kcm
