// SPDX-License-Identifier: Apache-2.0
// All or nothing beneath: how an association's parts become what is wanted, and what is done when
// one of them does not.
#include "kcm/layers/layer.h"

#include <algorithm>

#include "kcm/layers/merge.h"

namespace dek::kcm::layers {
namespace {

// Answers after which the command may have been carried out.
bool leaves_doubt(dek_status status) {
    return status == DEK_INVALID_HW_STATE || status == DEK_BUSY || status == DEK_BAD_CHECKSUM ||
           status == DEK_BAD_SIGNATURE || status == DEK_MALFORMED;
}

bool is_lost(dek_status status) {
    return status == DEK_UNKNOWN_ENDPOINT || status == DEK_UNKNOWN_HANDLE;
}

} // namespace

// True: nothing is held there any more. Otherwise it is remembered as an orphan.
bool Layer::let_go(Part& part) {
    const bool gone = !part.held() || send_disassociate(part) == DEK_OK;
    if (!gone)
        orphans_.push_back(part);
    part.handle = 0;
    return gone;
}

// Orphans on failed paths wait until those are back.
dek_status Layer::clear_orphans() {
    dek_status refused = DEK_OK;
    std::erase_if(orphans_, [&](const Part& part) {
        if (!may_carry_io(part.device))
            return false;
        const auto status = send_disassociate(part);
        refused = worse(refused, status);
        return status == DEK_OK;
    });
    return refused == DEK_OK ? DEK_OK
                             : remark(refused, "still has an association beneath it that could not "
                                               "be taken away");
}

dek_status Layer::make(const Request& request, Part& part) {
    std::uint64_t handle = 0;
    const auto status = with_id(*request.view, part.device, [&](std::uint64_t id) {
        part.life = id;
        return send_association(DEK_OP_ASSOCIATE, *request.command, id, part, &handle);
    });
    if (status != DEK_OK)
        return status;
    part.handle = handle;
    return part.held() ? DEK_OK : DEK_MALFORMED;
}

// Where one leg is enough, those that cannot serve this very map and geometry are no part of it, as
// if they had not affirmed the Query (which knows no geometry): they are fenced.
dek_status Layer::do_without(Association& a, Change& change) {
    const auto is_incapable = [&](std::size_t child) {
        return std::find(change.incapable.begin(), change.incapable.end(), child) !=
               change.incapable.end();
    };
    if (change.incapable.empty())
        return DEK_OK;
    for (auto& next : change.plan.next) {
        if (!is_incapable(next.part.device))
            continue;
        const bool gone = let_go(next.part);
        if (next.was)
            a.parts[*next.was].handle = 0;
        if (!gone)
            return remark(DEK_INVALID_HW_STATE, "has a leg that keeps what it should let go");
    }
    std::erase_if(change.plan.next, [](const auto& next) { return !next.part.held(); });
    if (change.plan.next.empty())
        return remark(DEK_NOT_CAPABLE, "has no leg left that can encrypt");
    return DEK_OK;
}

dek_status Layer::make_parts(const Request& request, Change& change) {
    for (auto& next : change.plan.next) {
        if (next.part.held())
            continue;
        const auto status = make(request, next.part);
        if (status == DEK_NOT_CAPABLE && device().any_leg_serves())
            change.incapable.push_back(next.part.device);
        else if (status != DEK_OK)
            return status;
    }
    return DEK_OK;
}

dek_status Layer::update_parts(const Request& request, Association& a, Change& change) {
    for (auto& next : change.plan.next) {
        if (next.was && (change.all || !(next.part.map == a.parts[*next.was].map))) {
            const auto status = send_association(DEK_OP_UPDATE, *request.command, next.part.life,
                                                 next.part, nullptr);
            if (is_lost(status)) { // a new life: to be made anew
                a.parts[*next.was].handle = 0;
                next.part.handle = 0;
                next.was.reset();
            } else if (is_of_the_leg(status) && device().any_leg_serves()) {
                change.incapable.push_back(next.part.device);
            } else if (status != DEK_OK) {
                change.in_doubt = leaves_doubt(status);
                return status;
            }
        }
        change.updated++;
    }
    return DEK_OK;
}

dek_status Layer::remove_surplus(const PartPlan& plan, Association& a) {
    for (const auto i : plan.surplus) {
        if (const auto status = send_disassociate(a.parts[i]); status != DEK_OK)
            return status;
        a.parts[i].handle = 0;
    }
    return DEK_OK;
}

// True when the part is again what it was, under the key that it has kept all along.
bool Layer::restore(const Part& old, const std::string& key_id) {
    dek_command like{};
    like.key_id = reinterpret_cast<const __u8*>(key_id.data());
    like.key_id_length = static_cast<__u32>(key_id.size());
    return send_association(DEK_OP_UPDATE, like, old.life, old, nullptr) == DEK_OK;
}

// What was made goes. What was updated is fenced, unless it had kept its key and can be made what
// it was; the refresh that follows, with the old key, makes good what is missing.
void Layer::retreat(const Request& request, Association& a, Change& change) {
    const bool other_key = change.all && request.command->blob.present; // or it may be another
    for (std::size_t i = 0; i < change.plan.next.size(); i++) {
        auto& next = change.plan.next[i];
        if (!next.was) {
            let_go(next.part);
            continue;
        }
        Part& old = a.parts[*next.was];
        const bool sent = change.all || !(next.part.map == old.map);
        const bool changed = i < change.updated || (i == change.updated && change.in_doubt);
        if (sent && changed && (other_key || !restore(old, a.key_id)))
            let_go(old);
    }
}

dek_status Layer::reconcile(const Request& request, Association& a, bool update_all) {
    std::vector<Part> aside; // of failed paths: as they are
    const auto at = std::stable_partition(a.parts.begin(), a.parts.end(),
                                          [&](const Part& p) { return may_carry_io(p.device); });
    aside.assign(at, a.parts.end());
    a.parts.erase(at, a.parts.end());
    Change change;
    change.all = update_all;
    change.plan = plan_parts(a.parts, request.wanted, request.capacity);
    dek_status status = update_parts(request, a, change);
    if (status == DEK_OK)
        status = remove_surplus(change.plan, a);
    if (status == DEK_OK)
        status = make_parts(request, change);
    if (status == DEK_OK)
        status = do_without(a, change);
    if (status == DEK_OK) {
        a.parts.clear();
        for (auto& next : change.plan.next)
            a.parts.push_back(std::move(next.part));
    } else {
        retreat(request, a, change);
        // Whoever could do without this layer must know that not all of it is fenced.
        if (std::any_of(orphans_.begin(), orphans_.end(),
                        [&](const Part& part) { return may_carry_io(part.device); }))
            status = DEK_INVALID_HW_STATE;
    }
    std::erase_if(aside, [](const Part& p) { return !p.held(); });
    a.parts.insert(a.parts.end(), aside.begin(), aside.end());
    return status;
}

} // namespace dek::kcm::layers
