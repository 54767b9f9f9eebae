// SPDX-License-Identifier: Apache-2.0
#include "kcm/layers/decision.h"

#include <algorithm>
#include <map>

namespace dek::kcm::layers {
namespace {

// A stretch of the account: what is beneath one device, for some of its LBAs.
struct Cover {
    bool covered = true;
    std::vector<Finding> findings;
    std::vector<Steering> steering;

    void add(Cover beneath) {
        findings.insert(findings.end(), beneath.findings.begin(), beneath.findings.end());
        steering.insert(steering.end(), beneath.steering.begin(), beneath.steering.end());
    }
};

class Survey {
  public:
    Survey(const Stack& stack, Policy policy) : stack_(stack), policy_(policy) {}

    Cover cover(std::size_t device, const LunMap& map, const dek_geometry& geometry) const {
        const Device& d = stack_[device];
        if (map.empty())
            return {};
        if (!d.obstacle.empty())
            return in_the_way(device, d.obstacle);
        if (d.leaf())
            return cover_leaf(device, map, geometry);
        const auto pieces = place(d, map, geometry);
        if (!pieces)
            return in_the_way(device, pieces.error().why);
        return d.any_leg_serves() ? cover_any(device, *pieces) : cover_all(device, *pieces);
    }

  private:
    Cover in_the_way(std::size_t device, const std::string& why) const {
        return {false, {{device, Role::in_the_way, title(stack_[device]) + " " + why}}, {}};
    }

    Finding passes_on(std::size_t device, const std::string& why) const {
        return {device, Role::passes_on, title(stack_[device]) + " " + why};
    }

    std::string what_is_missing(const Capability& c, const LunMap& map,
                                const dek_geometry& g) const {
        const std::uint32_t hardware = DEK_ENGINE_INLINE | DEK_ENGINE_ACCEL;
        std::uint32_t engines = policy_ == Policy::hardware_only ? c.engines & hardware : c.engines;
        if (engines == 0)
            return c.engines ? "has no engine in hardware, which the policy asks for"
                             : "has no engine";
        if (g.tweak_rule == DEK_TWEAK_LBA512 && g.data_unit != 512)
            engines &= ~DEK_ENGINE_INLINE;
        if (engines == 0)
            return "has an inline engine alone, which cannot number units by 512-byte LBAs";
        if (c.data_unit != g.data_unit || map.fits(0, g.data_unit) != DEK_OK)
            return "encrypts data units of " + std::to_string(c.data_unit) + " bytes, not of " +
                   std::to_string(g.data_unit);
        return c.ready == DEK_OK ? "" : std::string("answers ") + dek_status_text(c.ready);
    }

    Cover cover_leaf(std::size_t device, const LunMap& map, const dek_geometry& g) const {
        const Device& d = stack_[device];
        if (d.kind == Kind::opaque)
            return in_the_way(device, "is no dek leg: what comes passes as it is");
        if (d.kind == Kind::fence)
            return in_the_way(device, "can fence and not encrypt");
        if (const auto why = what_is_missing(d.endpoint, map, g); !why.empty())
            return in_the_way(device, why);
        return {
            true, {{device, Role::encrypts, title(d) + " can encrypt all that lies there"}}, {}};
    }

    Cover cover_all(std::size_t device, const std::vector<Piece>& pieces) const {
        Cover all;
        all.findings.push_back(passes_on(device, "needs everything beneath it to encrypt"));
        for (const auto& piece : pieces) {
            auto leg = cover(stack_[device].legs[piece.leg].device, piece.map, piece.geometry);
            all.covered = all.covered && leg.covered;
            all.add(std::move(leg));
        }
        return all;
    }

    // A leg that cannot, but lets nothing pass: no hindrance.
    static void call_fenced(Cover& leg) {
        for (auto& finding : leg.findings)
            if (finding.role == Role::encrypts || finding.role == Role::in_the_way)
                finding.role = Role::fenced;
    }

    Cover cover_any(std::size_t device, const std::vector<Piece>& pieces) const {
        const Device& d = stack_[device];
        Cover all;
        Steering steering{device, {}};
        bool open = false; // to unencrypted I/O
        std::vector<Cover> fenced;
        for (std::size_t i = 0; i < d.legs.size(); i++) {
            const auto leaf = unfenced(device, i, pieces);
            if (!d.legs[i].may_carry_io()) {
                if (leaf != SIZE_MAX)
                    all.add(in_the_way(leaf, "has failed, and would carry plaintext when it comes "
                                             "back; take it out of the map"));
                open = open || leaf != SIZE_MAX;
                continue;
            }
            Cover leg = cover_leg(device, i, pieces);
            if (leg.covered) {
                steering.legs.push_back(i);
            } else if (leaf == SIZE_MAX) {
                fenced.push_back(std::move(leg));
                continue;
            } else {
                open = true;
            }
            all.add(std::move(leg));
        }
        for (auto& leg : fenced) {
            if (!steering.legs.empty())
                call_fenced(leg);
            all.add(std::move(leg));
        }
        all.covered = !steering.legs.empty() && !open;
        if (steering.legs.empty())
            all.add(in_the_way(device, "has no leg left that can encrypt"));
        else
            all.findings.push_back(
                passes_on(device, "needs one leg that encrypts, and a fence on every other"));
        all.steering.push_back(std::move(steering));
        return all;
    }

    Cover cover_leg(std::size_t device, std::size_t leg, const std::vector<Piece>& pieces) const {
        Cover all;
        for (const auto& piece : pieces) {
            if (piece.leg != leg)
                continue;
            auto one = cover(stack_[device].legs[leg].device, piece.map, piece.geometry);
            all.covered = all.covered && one.covered;
            all.add(std::move(one));
        }
        return all;
    }

    // The leaf without a fence; SIZE_MAX: none. A path that has failed comes back without anybody
    // here being asked.
    std::size_t unfenced(std::size_t device, std::size_t leg,
                         const std::vector<Piece>& pieces) const {
        for (const auto& piece : pieces) {
            const auto leaf = piece.leg == leg
                                  ? find_unfenced(stack_, stack_[device].legs[leg].device,
                                                  piece.map, Paths::failed_too)
                                  : SIZE_MAX;
            if (leaf != SIZE_MAX)
                return leaf;
        }
        return SIZE_MAX;
    }

    const Stack& stack_;
    Policy policy_;
};

// The weightier of two roles of one device comes first.
int weight(Role role) {
    static const std::map<Role, int> weights = {{Role::in_the_way, 0},
                                                {Role::encrypts, 1},
                                                {Role::fenced, 2},
                                                {Role::idle, 3},
                                                {Role::passes_on, 4}};
    return weights.at(role);
}

// One finding for each device, the topmost first. Unless endpoints encrypt, those that could are
// idle.
std::vector<Finding> account_of(std::vector<Finding> findings, bool endpoints) {
    for (auto& finding : findings)
        if (finding.role == Role::encrypts && !endpoints)
            finding.role = Role::idle;
    std::stable_sort(findings.begin(), findings.end(), [](const auto& a, const auto& b) {
        return a.device != b.device ? a.device > b.device : weight(a.role) < weight(b.role);
    });
    const auto end = std::unique(findings.begin(), findings.end(),
                                 [](const auto& a, const auto& b) { return a.device == b.device; });
    findings.erase(end, findings.end());
    return findings;
}

// A fence is on whole data units. What begins or ends within one cannot be encrypted there, and yet
// must not pass.
LunMap whole_units(const LunMap& map, const Device& leaf) {
    const std::uint64_t unit = leaf.endpoint.data_unit / 512;
    LunMap all;
    for (const auto& r : map.ranges()) {
        const auto first = r.first / unit * unit;
        const auto end =
            std::min<std::uint64_t>((r.first + r.count + unit - 1) / unit * unit, leaf.size);
        all = all.unite(LunMap::from({{first, end - first}}).value());
    }
    return all;
}

std::vector<MustEncrypt> must_encrypt(const Stack& stack, const LunMap& encrypted) {
    std::vector<MustEncrypt> maps;
    const auto all = project(stack, encrypted);
    for (std::size_t i = 0; i < all.size(); i++)
        if ((stack[i].kind == Kind::endpoint || stack[i].kind == Kind::fence) && !all[i].empty())
            maps.push_back({i, whole_units(all[i], stack[i])});
    return maps;
}

std::string obstacles_of(const std::vector<Finding>& account) {
    std::string all;
    for (const auto& finding : account)
        if (finding.role == Role::in_the_way)
            all += (all.empty() ? "" : "; ") + finding.why;
    return all;
}

// Empty: a dek target on top may do it.
std::string what_keeps_top(const Question& q) {
    if (!q.top)
        return "no shim here makes a dek target on top";
    if (!q.top->obstacle.empty())
        return "a dek target on top " + q.top->obstacle;
    const std::uint32_t hardware = DEK_ENGINE_INLINE | DEK_ENGINE_ACCEL;
    if (q.policy == Policy::hardware_only && !(q.top->engines & hardware))
        return "a dek target on top has no engine in hardware, which the policy asks for";
    return q.top->engines ? "" : "a dek target on top has no engine";
}

void decide_above(const Question& q, Decision& d) {
    const auto beneath =
        q.policy == Policy::never ? "the policy asks for no endpoint" : obstacles_of(d.account);
    const auto top = q.policy == Policy::never ? "" : what_keeps_top(q);
    if (q.policy != Policy::never && top.empty()) {
        d.who = Encryptor::top;
        d.why = "a dek target on top encrypts, as endpoints beneath cannot: " + beneath;
        return;
    }
    d.who = Encryptor::software;
    d.why = "dm-crypt encrypts: " + beneath + (top.empty() ? "" : "; " + top);
}

} // namespace

Decision decide(const Stack& stack, const Question& question) {
    Decision d;
    if (question.encrypted.empty()) {
        d.who = Encryptor::nobody;
        d.why = "nothing is to be encrypted";
        return d;
    }
    Cover cover =
        Survey(stack, question.policy).cover(stack.top, question.encrypted, question.geometry);
    const bool endpoints = cover.covered && question.policy != Policy::never;
    d.account = account_of(std::move(cover.findings), endpoints);
    d.maps = must_encrypt(stack, question.encrypted);
    if (!endpoints) {
        decide_above(question, d);
        return d;
    }
    d.who = Encryptor::endpoints;
    d.why = "endpoints beneath encrypt every range on every path that may carry I/O";
    d.steering = std::move(cover.steering);
    return d;
}

const char* role_text(Role role) {
    static const char* const text[] = {"passes-on", "encrypts", "fenced", "idle", "in-the-way"};
    return text[static_cast<int>(role)];
}

const char* encryptor_text(Encryptor who) {
    static const char* const text[] = {"nobody", "endpoints", "top", "software"};
    return text[static_cast<int>(who)];
}

} // namespace dek::kcm::layers
