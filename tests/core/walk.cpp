// SPDX-License-Identifier: Apache-2.0
#include "walk.h"

#include <cstring>
#include <stdexcept>
#include <string>

#include "allocator.h"
#include "model.h"

namespace rig {

namespace {

constexpr unsigned most_units = 96;

void expect(bool right, int line = __builtin_LINE()) {
    if (!right)
        throw std::logic_error("walk.cpp:" + std::to_string(line) + ": not what the model says");
}

} // namespace

class Walk::State {
  public:
    State(Dice dice, unsigned seed, bool tight, bool recovering)
        : dice_(std::move(dice)), shim_(most_units * lbas_per_unit, false),
          model_(most_units, tight ? 12 : 40, tight ? 4 : 8) {
        shim_.config.max_ranges = model_.max_ranges;
        shim_.config.max_associations = model_.max_associations;
        shim_.config.recovering = model_.recovering = model_.had_map = recovering;
        shim_.engine.seed = seed;
        shim_.make();
        expect(shim_.ep);
    }

    void step() {
        shim_.drains = pick(100) < 75;
        const bool starve = pick(100) < 20;
        allocator::fail_at(starve ? 1 + pick(14) : 0);
        operate();
        allocator::fail_at(0);
        check_lookups();
        if (pick(8) == 0)
            check_lists();
    }

  private:
    Dice dice_;
    Endpoint shim_;
    Model model_;

    unsigned pick(unsigned n) { return dice_(n); }

    Units some_units(unsigned runs) {
        Units out;
        while (runs--) {
            const unsigned first = pick(most_units + (pick(40) == 0));
            for (unsigned u = first; u <= first + pick(7) && u < most_units + 1; ++u)
                out.insert(u);
        }
        if (model_.units > 8 && *out.rbegin() >= model_.units && pick(8)) // mostly inside
            return some_units(1);
        return out;
    }
    Model::Association some_association() { return {some_units(1 + pick(4)), 1 + pick(3)}; }
    std::uint64_t some_handle() {
        if (model_.table.empty() || pick(20) == 0)
            return 1 + pick(5);
        return std::next(model_.table.begin(), pick(static_cast<unsigned>(model_.table.size())))
            ->first;
    }
    std::uint64_t some_task(bool quiesce) {
        std::vector<std::uint64_t> found;
        for (auto& [hold, task] : model_.tasks)
            if (quiesce == !task.opcode && (quiesce || !task.units.empty()))
                found.push_back(hold);
        return found.empty() ? 1 : found[pick(static_cast<unsigned>(found.size()))];
    }
    static Body body(std::uint64_t handle, const Model::Association& a, bool blob) {
        Body b;
        b.handle = handle;
        b.map = to_ranges(a.map);
        b.key = a.key;
        b.key_id = "key-" + std::to_string(a.key);
        b.blob = blob;
        return b;
    }

    // Short of memory, a command says so and has done nothing.
    bool starved(dek_status status) {
        if (allocator::failed())
            expect(status == DEK_NO_MEMORY);
        return allocator::failed();
    }
    bool starved(int err) {
        if (allocator::failed())
            expect(err == -ENOMEM);
        return allocator::failed();
    }

    void operate() {
        switch (pick(16)) {
        case 0:
        case 1:
        case 2:
            return associate(some_association());
        case 3:
            return refresh();
        case 4:
        case 5:
            return update(some_handle(), some_update());
        case 6:
        case 7:
            return disassociate(some_handle());
        case 8:
            return query();
        case 9:
            return map();
        case 10:
            return quiesce();
        case 11:
            return release();
        case 12:
            return yield();
        case 13:
            return drain();
        case 14:
            return resend();
        default:
            return settings();
        }
    }

    // The shim's word on how the wait for a command went.
    void waited(std::uint32_t opcode, std::uint64_t handle, const Units& held,
                const Model::Association& sent) {
        model_.forget(handle);
        expect((shim_.change.hold != 0) == !held.empty());
        if (held.empty())
            return;
        model_.put_task(shim_.change.hold, opcode, handle, held, sent);
        if (shim_.drains)
            model_.finish(shim_.change.hold, true);
    }

    // BUSY because the wait was given up is not the answer of a command that did nothing.
    dek_status verdict_of(const Answer& answer) {
        return shim_.change.hold && !shim_.drains && answer.status == DEK_BUSY ? DEK_OK
                                                                               : answer.status;
    }

    void resumed(std::uint64_t hold) {
        expect(shim_.change.next == nullptr);
        const bool unfinished = !model_.tasks[hold].units.empty();
        expect(shim_.change.hold == (unfinished ? hold : 0));
        if (!unfinished || shim_.drains)
            model_.finish(hold, true);
    }

    void associate(const Model::Association& wanted) {
        const dek_status expected = model_.associate_status(wanted);
        const auto again = model_.resent(DEK_OP_ASSOCIATE, 0, wanted);
        const Answer answer = shim_.associate(body(0, wanted, true));
        if (starved(answer.status))
            return;
        expect(verdict_of(answer) == expected);
        if (expected != DEK_OK)
            return;
        const std::uint64_t handle = again ? model_.tasks[*again].handle : shim_.change.handle;
        expect(shim_.change.handle == handle);
        if (answer.status == DEK_OK)
            expect(answer.handle == handle);
        if (again)
            return resumed(*again);
        expect(model_.table.count(handle) == 0);
        waited(DEK_OP_ASSOCIATE, handle, model_.associate(handle, wanted), wanted);
    }

    void refresh() {
        const std::uint64_t handle = some_handle();
        const auto known = model_.table.find(handle);
        const auto wanted =
            known == model_.table.end() || pick(3) == 0 ? some_association() : known->second;
        const dek_status expected = model_.refresh_status(handle, wanted);
        const Answer answer = shim_.associate(body(handle, wanted, pick(2)));
        if (starved(answer.status))
            return;
        expect(answer.status == expected);
    }

    Model::Association some_update() {
        Model::Association wanted = some_association();
        const auto known = model_.table.find(some_handle());
        if (known != model_.table.end() && pick(2)) {
            if (pick(2))
                wanted.key = known->second.key;
            for (unsigned u : known->second.map)
                if (pick(3))
                    wanted.map.insert(u);
        }
        return wanted;
    }

    void update(std::uint64_t handle, const Model::Association& wanted) {
        const auto known = model_.table.find(handle);
        const bool same_key = known != model_.table.end() && known->second.key == wanted.key;
        const bool blob = !same_key || pick(2);
        if (wanted.map.empty() || to_ranges(wanted.map).size() > DEK_MAX_RANGES - 10)
            return;
        const dek_status expected = model_.update_status(handle, wanted);
        const auto again = model_.resent(DEK_OP_UPDATE, handle, wanted);
        const bool nothing = known != model_.table.end() && known->second == wanted;
        const Answer answer = shim_.update(body(handle, wanted, blob));
        if (starved(answer.status))
            return;
        expect(verdict_of(answer) == expected);
        if (expected != DEK_OK)
            return;
        if (again)
            return resumed(*again);
        if (nothing) {
            expect(shim_.change.next == nullptr);
            return;
        }
        waited(DEK_OP_UPDATE, handle, model_.update(handle, wanted), wanted);
    }

    void disassociate(std::uint64_t handle) {
        const dek_status expected = model_.disassociate_status(handle);
        const auto again = model_.resent(DEK_OP_DISASSOCIATE, handle, {});
        const Answer answer = shim_.disassociate(handle);
        if (starved(answer.status))
            return;
        expect(verdict_of(answer) == expected);
        if (expected != DEK_OK)
            return;
        if (again)
            return resumed(*again);
        waited(DEK_OP_DISASSOCIATE, handle, model_.disassociate(handle), {});
    }

    void query() {
        const Units map = some_units(1 + pick(4));
        expect(shim_.query(to_ranges(map)).status == model_.query_status(map));
    }

    void map() {
        Units encrypt = some_units(1 + pick(20)), reserved;
        for (auto& cell : model_.table)
            if (pick(4))
                encrypt.insert(cell.second.map.begin(), cell.second.map.end());
        for (unsigned u : some_units(2))
            if (!encrypt.count(u))
                reserved.insert(u);
        const int expected = model_.map_error(encrypt, reserved);
        const std::uint64_t generation = model_.generation + 1 + pick(3);
        const int err = shim_.map(generation, to_ranges(encrypt), to_ranges(reserved));
        if (starved(err))
            return;
        expect(err == expected);
        if (err)
            return;
        model_.commit(generation, encrypt, reserved);
        expect(shim_.change.drain_count == DEK_DRAIN_ALL);
        model_.map_drain = shim_.drains ? 0 : shim_.held;
    }

    void quiesce() {
        const unsigned first = pick(most_units);
        Units range;
        for (unsigned u = first; u <= first + pick(30) && u < model_.units; ++u)
            range.insert(u);
        if (range.empty())
            return;
        const auto lbas = to_ranges(range)[0];
        const int expected = model_.quiesce_error(range);
        std::uint64_t token = 0;
        const int err = shim_.quiesce(lbas.first, lbas.count, token);
        if (starved(err))
            return;
        expect(err == expected);
        if (err)
            return;
        expect(token == shim_.change.hold);
        if (shim_.drains)
            model_.put_task(token, 0, 0, range, {});
    }

    void release() {
        const std::uint64_t token = some_task(true);
        const int expected = model_.tasks.count(token) ? 0 : -ENOKEY;
        expect(shim_.release(token) == expected);
        model_.tasks.erase(token);
    }

    void yield() {
        const std::uint64_t token = some_task(true);
        Units range;
        if (model_.tasks.count(token) && pick(5))
            for (unsigned u : model_.tasks[token].units)
                if (pick(4) || range.empty())
                    range.insert(u);
        if (range.empty())
            range = some_units(1);
        const auto lbas = to_ranges(range)[0];
        range.clear();
        for (std::uint64_t lba = lbas.first; lba < lbas.first + lbas.count; lba += lbas_per_unit)
            range.insert(static_cast<unsigned>(lba / lbas_per_unit));
        const int expected = model_.yield_error(token, range);
        const int err = shim_.yield(token, lbas.first, lbas.count);
        if (starved(err))
            return;
        expect(err == expected);
        if (!err)
            for (unsigned u : range)
                model_.cells[u] = {DEK_RANGE_YIELDED, 0};
    }

    // Old I/O that nobody waits for any more has gone.
    void drain() {
        if (model_.map_drain && pick(2)) {
            shim_.drained(model_.map_drain);
            model_.map_drain = 0;
            return;
        }
        const std::uint64_t hold = some_task(false);
        shim_.drained(hold);
        if (model_.tasks.count(hold))
            model_.finish(hold, false);
    }

    void resend() {
        std::vector<std::uint64_t> found;
        for (auto& [hold, task] : model_.tasks)
            if (task.opcode)
                found.push_back(hold);
        if (found.empty())
            return;
        const Model::Task task = model_.tasks[found[pick(static_cast<unsigned>(found.size()))]];
        if (task.opcode == DEK_OP_ASSOCIATE)
            associate(task.sent);
        else if (task.opcode == DEK_OP_UPDATE)
            update(task.handle, task.sent);
        else
            disassociate(task.handle);
    }

    void settings() {
        const unsigned what = pick(8);
        int err = 0;
        if (what < 3) {
            const unsigned fence = pick(3);
            err = shim_.settle(
                dek_endpoint_set_fence(shim_.ep, static_cast<dek_fence>(fence), &shim_.change));
            if (!starved(err))
                model_.fence = fence;
        } else if (what < 7) {
            const unsigned size = pick(2) ? most_units : most_units - pick(40);
            const int expected = model_.resize_error(size);
            err = shim_.settle(dek_endpoint_resize(shim_.ep, size * lbas_per_unit, &shim_.change));
            if (starved(err))
                return;
            expect(err == expected);
            if (!err)
                model_.resize(size);
        } else if (pick(200) == 0) {
            err = shim_.settle(dek_endpoint_recovered(shim_.ep, &shim_.change));
            if (!starved(err))
                model_.recovering = false;
        }
    }

    void check_lookups() {
        const bool holds = model_.any_held();
        for (unsigned u = 0; u < most_units; ++u) {
            const bool write = pick(2);
            const unsigned offset = pick(lbas_per_unit);
            const Verdict got =
                shim_.look(u * lbas_per_unit + offset, write, most_units * lbas_per_unit);
            const dek_verdict expected = model_.verdict(u, write);
            const std::uint64_t handle = expected == DEK_CRYPT ? model_.cells[u].handle : 0;
            const std::uint64_t end = u * lbas_per_unit + offset + got.count;
            if (got.verdict != expected || got.handle != handle || !got.count)
                throw std::logic_error("unit " + std::to_string(u) + ": verdict " +
                                       std::to_string(got.verdict) + " instead of " +
                                       std::to_string(expected));
            if (u >= model_.units)
                continue;
            unsigned run = u;
            const auto like = [&](unsigned v) {
                return holds ? model_.verdict(v, write) == expected &&
                                   (expected != DEK_CRYPT || model_.cells[v].handle == handle)
                             : model_.cells[v] == model_.cells[u];
            };
            while (run < model_.units && like(run))
                ++run;
            if (holds ? end > run * lbas_per_unit : end != run * lbas_per_unit)
                throw std::logic_error("unit " + std::to_string(u) + ": a piece up to " +
                                       std::to_string(end) + " instead of " +
                                       std::to_string(run * lbas_per_unit));
        }
    }

    void check_lists() {
        const auto expected = model_.ranges();
        const auto got = shim_.ranges();
        expect(got.size() == expected.size());
        bool fenced = false;
        for (std::size_t i = 0; i < got.size(); ++i) {
            expect(std::memcmp(&got[i], &expected[i], sizeof got[i]) == 0);
            fenced |= got[i].state == DEK_RANGE_FENCED;
        }
        const auto* snapshot = dek_endpoint_current(shim_.ep);
        expect(dek_snapshot_has_fenced(snapshot) == fenced);
        expect(dek_snapshot_recovering(snapshot) == model_.recovering);
        expect(dek_snapshot_fence(snapshot) == static_cast<dek_fence>(model_.fence));
        const auto about = shim_.describe();
        expect(about.ranges == expected.size());
        expect(about.map_generation == model_.generation);
        expect(about.count == model_.units * lbas_per_unit);
        expect(about.associations == model_.table.size());
        check_associations();
        check_tokens(about.tokens);
    }

    void check_associations() {
        const auto listed = shim_.associations();
        expect(listed.size() == model_.table.size());
        auto known = model_.table.begin();
        for (auto& entry : listed) {
            expect(entry.handle == known->first);
            expect(entry.blocks == known->second.map.size() * lbas_per_unit);
            expect(entry.ranges == to_ranges(known->second.map).size());
            expect(std::string(reinterpret_cast<const char*>(entry.key_id), entry.key_id_length) ==
                   "key-" + std::to_string(known->second.key));
            bool draining = false;
            for (auto& [hold, task] : model_.tasks)
                draining |= task.opcode && task.handle == entry.handle && !task.units.empty();
            expect(entry.draining == draining);
            ++known;
        }
        // Two more holds on keys than there are associations would be a leak.
        expect(shim_.engine.sets - shim_.engine.drops == static_cast<long>(listed.size()));
    }

    void check_tokens(unsigned count) {
        std::vector<std::uint64_t> expected, got;
        for (auto& [hold, task] : model_.tasks)
            if (!task.opcode)
                expected.push_back(hold);
        for (auto& entry : shim_.tokens())
            got.push_back(entry.token);
        expect(got == expected);
        expect(count == got.size());
    }
};

Walk::Walk(Dice dice, unsigned seed, bool tight, bool recovering)
    : state_(std::make_unique<State>(std::move(dice), seed, tight, recovering)) {}
Walk::~Walk() = default;
void Walk::step() {
    state_->step();
}

} // namespace rig
