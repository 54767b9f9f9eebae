// SPDX-License-Identifier: Apache-2.0
// Random stacks, ranges, path failures and endpoint faults: the layers over real endpoints against
// the reference model. Usage: layers_property [--cases N] [--seed S] [--one]. Case i of a run has
// the seed S + i; `--one --seed S` repeats that case.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "generator.h"
#include "kcm/layers/decision.h"
#include "model.h"

namespace {

using namespace bench;
using namespace dek::kcm::layers;

void demand(bool held, const std::string& what) {
    if (!held)
        throw std::logic_error(what);
}

struct Tally {
    std::uint64_t by_endpoints = 0, refused_faulty = 0, refreshed = 0, updated = 0, restored = 0,
                  many_blocks = 0, updates_refused = 0;
};

class Case {
  public:
    Case(std::uint64_t seed, Tally& tally) : random_(seed), generator_(random_), tally_(tally) {}
    void run();
    std::string story() const; // the stack, for people

  private:
    model::Spots spots(const LunMap& map) const {
        model::Spots all;
        for (const auto& r : map.ranges())
            for (auto lba = r.first; lba < r.first + r.count; lba++)
                all.push_back({lba, geometry_.logical_origin + lba - geometry_.device_origin});
        return all;
    }
    std::uint64_t tweak_of(std::uint64_t number) const {
        const auto unit = number / generator_.unit();
        return geometry_.tweak_rule == DEK_TWEAK_UNIT ? unit : unit * generator_.unit();
    }
    Endpoint* endpoint_of(std::size_t device) {
        const auto& d = stack_[device];
        return d.kind == Kind::endpoint || d.kind == Kind::fence ? &endpoints_[d.name] : nullptr;
    }

    bool judge(const LunMap& map);
    void check_maps(const Decision& decision, const LunMap& map);
    bool give_maps(const LunMap& map, bool only_new);
    void check(const LunMap& map, unsigned key, bool must_serve, const std::string& when);
    bool served(std::size_t device, const model::Spots& spots,
                const std::vector<std::vector<Verdict>>& verdicts) const;
    void check_gone(const LunMap& map, const std::string& when);
    void ask(const LunMap& map);
    bool associate();
    void associate_with_faults();
    void break_something();
    void mend();
    void events();
    void flip_path();
    void add_path();
    void lose_life();
    void begin_anew();
    void refresh_all(const std::string& when);
    void update();
    void take_away();

    Random random_;
    Generator generator_;
    Tally& tally_;
    Stack stack_;
    dek_geometry geometry_{};
    LunMap map_;
    Endpoints endpoints_;
    std::unique_ptr<Tree> tree_;
    std::unique_ptr<Initiator> kcm_;
    std::vector<Held> held_;
    std::unique_ptr<Key> key_;
    std::vector<std::string> mapped_; // leaves that have their must-encrypt map
    bool lost_answers_ = false;
    bool faulty_ = false; // what a failed path holds may have to wait until it is back
};

// decide() against the model; true: endpoints.
bool Case::judge(const LunMap& map) {
    const auto decision = decide(stack_, {map, geometry_, Policy::prefer, std::nullopt});
    const auto able = model::capable(stack_, stack_.top, spots(map), generator_.unit());
    const bool endpoints = decision.who == Encryptor::endpoints;
    demand(!able.capable || endpoints, "capable, and refused: " + decision.why);
    demand(able.capable || !endpoints || able.stripes_twice, "not capable, and accepted");
    const auto stands = [](const Finding& f) { return f.role == Role::in_the_way; };
    demand(endpoints != std::any_of(decision.account.begin(), decision.account.end(), stands),
           "what is in the way, and whether something is, do not agree");
    check_maps(decision, map);
    return endpoints;
}

void Case::check_maps(const Decision& decision, const LunMap& map) {
    const auto numbers = model::numbers_of(stack_, spots(map), false);
    std::vector<bool> given(stack_.devices.size());
    for (const auto& [device, leg] : decision.maps) {
        given[device] = true;
        const auto unit = stack_[device].endpoint.data_unit / 512;
        std::vector<bool> touched(stack_[device].size / unit);
        for (std::uint64_t lba = 0; lba < stack_[device].size; lba++)
            touched[lba / unit] = touched[lba / unit] || numbers[device][lba] != model::none;
        for (std::uint64_t lba = 0; lba < stack_[device].size; lba++)
            demand(leg.contains({lba, 1}) == touched[lba / unit],
                   "the must-encrypt map of " + stack_[device].name + " is off at LBA " +
                       std::to_string(lba));
    }
    for (std::size_t i = 0; i < numbers.size(); i++)
        for (const auto number : numbers[i])
            demand(number == model::none || given[i] || !endpoint_of(i),
                   stack_[i].name + " has no must-encrypt map");
}

bool Case::give_maps(const LunMap& map, bool only_new) {
    for (const auto& [device, leg] : decide(stack_, {map, geometry_, Policy::prefer, {}}).maps) {
        const auto& name = stack_[device].name;
        if (only_new && std::find(mapped_.begin(), mapped_.end(), name) != mapped_.end())
            continue;
        if (endpoints_[name].must_encrypt(leg) != 0)
            return false;
        mapped_.push_back(name);
    }
    return true;
}

bool Case::served(std::size_t device, const model::Spots& spots,
                  const std::vector<std::vector<Verdict>>& verdicts) const {
    const Device& d = stack_[device];
    if (spots.empty())
        return true;
    if (d.leaf()) {
        for (const auto& spot : spots)
            if (verdicts[device].empty() || verdicts[device][spot.lba].verdict != DEK_CRYPT)
                return false;
        return true;
    }
    bool all = true, any = false;
    for (std::size_t leg = 0; leg < d.legs.size(); leg++) {
        if (d.kind == Kind::multipath && d.legs[leg].state == PathState::failed)
            continue;
        const bool one = served(d.legs[leg].device, model::below(d, leg, spots), verdicts);
        all = all && one;
        any = any || one;
    }
    if (!model::one_is_enough(d))
        return all;
    // After a fault each leg may have some of it.
    if (!any && faulty_ && spots.size() > 1)
        return std::all_of(spots.begin(), spots.end(), [&](const model::Spot& spot) {
            return served(device, {spot}, verdicts);
        });
    return any;
}

// What holds a key has the right one and the model's tweaks; nothing encrypted passes on a way that
// may carry I/O; if it must be served, then all of it is.
void Case::check(const LunMap& map, unsigned key, bool must_serve, const std::string& when) {
    const auto all = model::numbers_of(stack_, spots(map), false);
    const auto usable = model::numbers_of(stack_, spots(map), true);
    std::vector<std::vector<Verdict>> writes(stack_.devices.size());
    std::vector<bool> reached(stack_.devices.size());
    model::reach(stack_, stack_.top, reached);
    for (std::size_t i = 0; i < stack_.devices.size(); i++) {
        const auto at = [&](std::uint64_t lba) {
            return when + ": " + stack_[i].name + ", LBA " + std::to_string(lba);
        };
        if (stack_[i].kind == Kind::opaque && stack_[i].leaf())
            for (std::uint64_t lba = 0; lba < stack_[i].size; lba++)
                demand(!must_serve || usable[i][lba] == model::none, at(lba) + " passes unfenced");
        // What a failed path holds is put right before it comes back.
        if (!endpoint_of(i) || !reached[i])
            continue;
        const auto reads = endpoint_of(i)->verdicts(false);
        writes[i] = endpoint_of(i)->verdicts(true);
        for (std::uint64_t lba = 0; lba < stack_[i].size; lba++) {
            const auto& v = writes[i][lba];
            demand((v.verdict == DEK_CRYPT) == (reads[lba].verdict == DEK_CRYPT), at(lba));
            if (v.verdict == DEK_CRYPT) {
                demand(all[i][lba] != model::none, at(lba) + " is keyed and plain");
                demand(v.tweak == tweak_of(all[i][lba]), at(lba) + " has a wrong tweak");
                demand(v.key == key, at(lba) + " has a wrong key");
            } else if (usable[i][lba] != model::none) {
                demand(v.verdict != DEK_PASS && reads[lba].verdict != DEK_PASS,
                       at(lba) + " passes unencrypted");
            }
        }
    }
    demand(!must_serve || served(stack_.top, spots(map), writes), when + ": not all is served");
}

void Case::check_gone(const LunMap& map, const std::string& when) {
    std::vector<bool> reached(stack_.devices.size());
    model::reach(stack_, stack_.top, reached);
    for (std::size_t i = 0; i < stack_.devices.size(); i++)
        if (endpoint_of(i) && (reached[i] || !faulty_))
            demand(endpoint_of(i)->associations().empty(),
                   when + ": " + stack_[i].name + " still has associations");
    check(map, 0, false, when);
}

void Case::ask(const LunMap& map) {
    const bool anybody = model::anybody(stack_, stack_.top);
    demand(bool(kcm_->handshake()) == anybody, "handshake");
    const bool endpoints = judge(map);
    demand(anybody || !endpoints, "nobody encrypts");
    const auto answer = kcm_->query(map);
    demand(!endpoints || answer, "query refused: " + (answer ? "" : answer.error().reason));
    demand(answer || !answer.error().reason.empty(), "refused without a word");
}

bool Case::associate() {
    const bool endpoints = judge(map_);
    auto held = kcm_->associate(map_, key_->keying(geometry_));
    demand(held || !endpoints, "associate refused: " + (held ? "" : held.error().reason));
    if (!held) {
        check_gone(map_, "after a refusal");
        return false;
    }
    held_ = std::move(*held);
    tally_.by_endpoints++;
    tally_.many_blocks += held_.size() > 1;
    check(map_, key_->number(), true, "associated");
    return true;
}

void Case::break_something() {
    faulty_ = true;
    std::vector<Endpoint*> all;
    for (const auto& [name, endpoint] : endpoints_.all())
        all.push_back(endpoint.get());
    if (all.empty())
        return;
    Endpoint& victim = *all[random_.below(all.size())];
    switch (random_.below(4)) {
    case 0:
        victim.commands_left = static_cast<int>(random_.below(6));
        break;
    case 1:
        victim.commands_left = static_cast<int>(random_.below(6));
        victim.lose_answers = lost_answers_ = true;
        break;
    case 2:
        victim.ready = random_.chance(50) ? DEK_BUSY : DEK_NO_MEMORY;
        break;
    default:
        victim.sets_left = static_cast<int>(random_.below(3));
        victim.on_set = random_.chance(50) ? DEK_INVALID_HW_STATE : DEK_NO_MEMORY;
    }
}

void Case::mend() {
    for (const auto& d : stack_.devices) {
        if (d.kind != Kind::endpoint && d.kind != Kind::fence)
            continue;
        Endpoint& e = endpoints_[d.name];
        e.commands_left = e.sets_left = -1;
        e.lose_answers = false;
        e.ready = d.kind == Kind::fence ? DEK_NOT_CAPABLE : d.endpoint.ready;
        e.on_set = DEK_OK;
    }
}

// One fault in the middle: all of it is there or nothing is, at least once the fault has gone.
void Case::associate_with_faults() {
    break_something();
    auto held = kcm_->associate(map_, key_->keying(geometry_));
    if (held) {
        check(map_, key_->number(), true, "associated in spite of a fault");
        mend();
        held_ = std::move(*held);
        return take_away();
    }
    tally_.refused_faulty++;
    bool reachable = !lost_answers_;
    for (const auto& [name, endpoint] : endpoints_.all())
        reachable = reachable && endpoint->commands_left < 0;
    if (reachable)
        check_gone(map_, "after a fault");
    mend();
    if (!lost_answers_)
        return;
    begin_anew();
}

// A lost answer's handle is nobody's: whoever is in charge of the endpoints begins them anew.
void Case::begin_anew() {
    for (std::size_t i = 0; i < stack_.devices.size(); i++)
        if (endpoint_of(i) && !endpoint_of(i)->associations().empty())
            endpoint_of(i)->new_life();
    mapped_.clear();
    lost_answers_ = false;
    give_maps(map_, false);
    if (stack_[stack_.top].leaf())
        kcm_->handshake();
}

void Case::refresh_all(const std::string& when) {
    const bool endpoints = judge(map_);
    bool all = true;
    for (const auto& held : held_) {
        const auto r = kcm_->refresh(held, key_->keying(geometry_));
        demand(r || !endpoints, when + ": refresh refused: " + (r ? "" : r.error().reason));
        all = all && r;
    }
    if (all)
        check(map_, key_->number(), true, when);
    tally_.refreshed += all;
}

void Case::flip_path() {
    std::vector<Leg*> paths;
    for (auto& d : stack_.devices)
        for (auto& leg : d.legs)
            if (d.kind == Kind::multipath)
                paths.push_back(&leg);
    if (paths.empty())
        return;
    Leg& path = *paths[random_.below(paths.size())];
    path.state = path.state == PathState::failed ? PathState::active : PathState::failed;
    demand(bool(tree_->reshape(stack_, endpoints_.ports())), "reshape");
    refresh_all("a path's state changed");
}

void Case::add_path() {
    std::size_t found = SIZE_MAX;
    for (std::size_t i = 0; i < stack_.devices.size(); i++)
        if (stack_[i].kind == Kind::multipath)
            found = i;
    if (found == SIZE_MAX)
        return;
    for (auto& d : stack_.devices)
        for (auto& leg : d.legs)
            leg.device++;
    Leg leg;
    stack_.devices[found].legs.insert(
        stack_.devices[found].legs.begin() + static_cast<std::ptrdiff_t>(random_.below(2)), leg);
    auto path = generator_.new_path(stack_[found].size);
    stack_.devices.insert(stack_.devices.begin(), std::move(path));
    stack_.top++;
    demand(bool(tree_->reshape(stack_, endpoints_.ports())), "reshape");
    if (give_maps(map_, true))
        refresh_all("a path was found");
}

void Case::lose_life() {
    if (stack_[stack_.top].leaf()) // then the controller itself begins anew
        return;
    for (std::size_t i = 0; i < stack_.devices.size(); i++) {
        Endpoint* e = endpoint_of(i);
        if (!e || e->associations().empty() || !random_.chance(50))
            continue;
        e->new_life();
        std::erase(mapped_, stack_[i].name);
    }
    if (give_maps(map_, true))
        refresh_all("an endpoint began anew");
}

// Another map, another key, or both; perhaps with a fault in the middle.
void Case::update() {
    if (held_.size() != 1)
        return;
    const LunMap next = random_.chance(20) ? map_ : generator_.ranges(stack_);
    if (next.size() > DEK_MAX_RANGES || !give_maps(map_.unite(next), false))
        return;
    auto key = std::make_unique<Key>(random_.chance(50) ? key_->number() : key_->number() + 1);
    auto keying = key->keying(geometry_);
    if (key->number() == key_->number() && random_.chance(40))
        keying.blob = nullptr;
    const bool faulty = random_.chance(50);
    if (faulty)
        break_something();
    const bool was_able =
        model::capable(stack_, stack_.top, spots(map_), generator_.unit()).capable;
    const bool able = judge(next);
    const auto done = kcm_->update(held_[0], next, key_->keying(geometry_), keying);
    mend();
    const bool lost = std::exchange(lost_answers_, false);
    if (done) {
        map_ = next;
        key_ = std::move(key);
        tally_.updated++;
        if (!lost)
            return check(map_, key_->number(), true, "updated");
        begin_anew(); // a leg may have been left out with an association nobody knows of
        if (stack_[stack_.top].leaf())
            return held_.clear();
        return refresh_all("updated and begun anew");
    }
    tally_.updates_refused += able && !faulty && keying.blob;
    demand(!able || faulty || !keying.blob, "update refused: " + done.error().reason);
    if (lost)
        begin_anew();
    if (lost && stack_[stack_.top].leaf())
        return held_.clear();
    if (!was_able)
        return;
    const auto back = kcm_->refresh(held_[0], key_->keying(geometry_));
    demand(bool(back),
           "not restored: " + (back ? "" : back.error().reason) + " after " + done.error().reason);
    tally_.restored++;
    check(map_, key_->number(), true, "restored");
}

void Case::take_away() {
    for (const auto& held : held_) {
        const auto gone = kcm_->disassociate(held);
        demand(bool(gone), "disassociate: " + (gone ? "" : gone.error().reason));
    }
    held_.clear();
    check_gone(map_, "disassociated");
}

void Case::events() {
    for (auto n = random_.below(4); n > 0 && !held_.empty(); n--) {
        switch (random_.below(4)) {
        case 0:
            flip_path();
            break;
        case 1:
            add_path();
            break;
        case 2:
            lose_life();
            break;
        default:
            update();
        }
    }
}

void Case::run() {
    stack_ = generator_.stack();
    const auto valid = validate(stack_);
    demand(bool(valid), "the generator's own fault: " + (valid ? "" : valid.error().reason));
    geometry_ = generator_.geometry(stack_);
    map_ = generator_.ranges(stack_);
    key_ = std::make_unique<Key>(1);
    auto tree = Tree::make(stack_, endpoints_.ports());
    demand(bool(tree), "no tree");
    tree_ = std::make_unique<Tree>(std::move(*tree));
    kcm_ = std::make_unique<Initiator>(*tree_);
    ask(map_);
    if (!give_maps(map_, false)) {
        demand(false, "a must-encrypt map is refused");
    }
    if (random_.chance(35))
        associate_with_faults();
    if (!associate())
        return;
    events();
    take_away();
}

std::string Case::story() const {
    std::string text = "encrypted " + map_.to_string() + ", unit " +
                       std::to_string(generator_.unit()) + ", origins " +
                       std::to_string(geometry_.device_origin) + " and " +
                       std::to_string(geometry_.logical_origin) + "\n";
    for (std::size_t i = stack_.devices.size(); i-- > 0;) {
        const Device& d = stack_[i];
        text += std::to_string(i) + ": " + title(d) + (d.read_only ? " (read-only)" : "") + ", " +
                std::to_string(d.size) + " LBAs, chunk " + std::to_string(d.chunk) + " " +
                d.obstacle;
        for (const auto& leg : d.legs)
            text += " [" + std::to_string(leg.first) + "+" + std::to_string(leg.count) + " on " +
                    std::to_string(leg.device) + " at " + std::to_string(leg.offset) +
                    (leg.may_carry_io() ? "]" : ", failed]");
        text += "\n";
    }
    return text;
}

struct Arguments {
    std::uint64_t cases = 5000;
    std::uint64_t seed = 1;
};

Arguments arguments_of(int argc, char** argv) {
    Arguments o;
    for (int i = 1; i < argc; i++) {
        if (!std::strcmp(argv[i], "--one"))
            o.cases = 1;
        else if (i + 1 < argc && !std::strcmp(argv[i], "--cases"))
            o.cases = std::strtoull(argv[++i], nullptr, 0);
        else if (i + 1 < argc && !std::strcmp(argv[i], "--seed"))
            o.seed = std::strtoull(argv[++i], nullptr, 0);
    }
    return o;
}

} // namespace

int main(int argc, char** argv) {
    const Arguments o = arguments_of(argc, argv);
    Tally tally;
    for (std::uint64_t i = 0; i < o.cases; i++) {
        Case one(o.seed + i, tally);
        try {
            one.run();
        } catch (const std::exception& e) {
            std::printf("%scase %llu failed: %s\nagain: layers_property --one --seed %llu\n",
                        one.story().c_str(), static_cast<unsigned long long>(i), e.what(),
                        static_cast<unsigned long long>(o.seed + i));
            return 1;
        }
    }
    std::printf(
        "%llu cases from seed %llu: %llu by endpoints (%llu in several blocks), %llu refused "
        "for a fault, %llu refreshed, %llu updated, %llu restored\n",
        static_cast<unsigned long long>(o.cases), static_cast<unsigned long long>(o.seed),
        static_cast<unsigned long long>(tally.by_endpoints),
        static_cast<unsigned long long>(tally.many_blocks),
        static_cast<unsigned long long>(tally.refused_faulty),
        static_cast<unsigned long long>(tally.refreshed),
        static_cast<unsigned long long>(tally.updated),
        static_cast<unsigned long long>(tally.restored));
    // A run that never gets to what it is for proves nothing.
    const bool enough = o.cases < 1000 || (tally.by_endpoints > o.cases / 5 && tally.many_blocks &&
                                           tally.refused_faulty && tally.refreshed &&
                                           tally.updated && tally.restored);
    return enough ? 0 : 1;
}
