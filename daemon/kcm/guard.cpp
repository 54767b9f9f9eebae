// SPDX-License-Identifier: Apache-2.0
#include "kcm/guard.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "kcm/cover.h"
#include "kcm/engine_loan.h"
#include "kcm/live_stack.h"
#include "kcm/negotiate.h"
#include "kcm/pv_label.h"

namespace dek::kcm {
namespace {

using std::chrono::milliseconds;

// What LVM makes is a linear device first, and a moment later a leg of a mirror or the store of a
// snapshot. So a new device is opened only when it has stayed what it is; what LVM wipes at its
// beginning comes first. (A snapshot's store has but its magic number there.)
constexpr milliseconds newborn{2000}, young{6000};
constexpr std::uint64_t wiped = 8;
// A volume whose mirror copies takes the new leg up meanwhile, if it can.
constexpr milliseconds copy_patience{10000};
constexpr milliseconds next_look{1000};

LunMap one(std::uint64_t first, std::uint64_t count) {
    return count ? LunMap::from({{first, count}}).value() : LunMap();
}

// Whole data units: those that are in the map, all or in part.
LunMap outward(const LunMap& map, std::uint64_t unit) {
    LunMap all;
    for (const auto& r : map.ranges()) {
        const auto first = r.first / unit * unit;
        const auto end = (r.first + r.count + unit - 1) / unit * unit;
        all = all.unite(one(first, end - first));
    }
    return all.merged();
}

LunMap inward(const LunMap& map, std::uint64_t unit) {
    LunMap all;
    for (const auto& r : map.ranges()) {
        const auto first = (r.first + unit - 1) / unit * unit;
        const auto end = (r.first + r.count) / unit * unit;
        all = all.unite(one(first, end > first ? end - first : 0));
    }
    return all.merged();
}

Result<std::vector<layers::Mapped>> all_tables() {
    const auto devices = dm_list();
    if (!devices)
        return tl::unexpected(devices.error());
    std::vector<layers::Mapped> all;
    for (const auto& d : *devices) {
        auto table = dm_table(d.name);
        if (table)
            all.push_back({d.number, std::move(*table)});
        else if (table.error().code != Errc::not_found) // it has gone meanwhile
            return tl::unexpected(table.error());
    }
    return all;
}

// From the disk beneath: a leg may be held.
Result<std::vector<std::uint8_t>> first_sectors(const std::string& leg) {
    const auto beneath = dm_beneath(leg);
    if (!beneath)
        return tl::unexpected(beneath.error());
    if (beneath->size() != 1)
        return fail(Errc::unavailable, leg + " has no table of ours");
    const std::string path = node_of(number_text(beneath->front()));
    if (path.empty())
        return fail(Errc::unavailable, "the device beneath " + leg + " has gone");
    const Fd fd(::open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
    if (fd.get() < 0)
        return fail_errno(errno, path);
    alignas(4096) static std::uint8_t block[4096]; // the operations thread's
    const auto n = ::pread(fd.get(), block, sizeof block, 0);
    if (n < static_cast<ssize_t>(pv_label_bytes))
        return n < 0 ? fail_errno(errno, path) : fail(Errc::io, path + " ends early");
    return std::vector<std::uint8_t>(block, block + pv_label_bytes);
}

// What a killed controller had keyed, and a volume has no more: it would encrypt for somebody else.
Result<void> drop_strangers(Shim& shim, const Uuid& leg, const LunMap& claimed) {
    const auto ranges = shim.ranges(leg);
    if (!ranges)
        return tl::unexpected(ranges.error());
    std::set<std::uint64_t> strangers, known;
    for (const auto& r : *ranges)
        if (r.state == DEK_RANGE_KEYED)
            (claimed.intersect(one(r.first, r.count)).empty() ? strangers : known)
                .insert(r.association);
    for (const auto handle : strangers) {
        if (known.contains(handle))
            continue;
        auto talk = Negotiation::begin(shim, leg);
        if (!talk)
            return tl::unexpected(talk.error());
        if (auto r = talk->disassociate(handle); !r)
            return tl::unexpected(r.error());
        log(Level::warning, "stale-key-dropped", {{"endpoint", volume::uuid_text(leg)}});
    }
    return {};
}

// A command of LVM's locks its group until all that it makes is what it is to be.
bool lvm_is_at_work() {
    std::set<std::string> files;
    std::error_code none;
    std::filesystem::directory_iterator lock("/run/lock/lvm", none);
    for (; !none && lock != std::filesystem::directory_iterator(); lock.increment(none)) {
        struct stat st;
        if (::stat(lock->path().c_str(), &st) == 0)
            files.insert(std::to_string(st.st_ino));
    }
    std::ifstream locks("/proc/locks"); // "1: FLOCK ADVISORY WRITE 304 00:17:1012 0 EOF"
    for (std::string line; !files.empty() && std::getline(locks, line);) {
        std::istringstream words(line);
        std::string number, kind, how, access, pid, file;
        words >> number >> kind >> how >> access >> pid >> file;
        if (kind == "FLOCK" && access == "WRITE" &&
            files.contains(file.substr(file.rfind(':') + 1)))
            return true;
    }
    return false;
}

bool is_path(const std::string& number, const std::vector<layers::Mapped>& devices) {
    for (const auto& d : devices)
        for (const auto& line : d.table)
            if (line.type == "multipath" &&
                (" " + line.parameters + " ").find(" " + number + " ") != std::string::npos)
                return true;
    return false;
}

} // namespace

bool Guard::stands(const Uuid& leg) const {
    const auto at = stand_.find(leg);
    return at != stand_.end() && !at->second.empty();
}

bool Guard::is_open(const Uuid& leg) const {
    const auto at = stand_.find(leg);
    return at != stand_.end() && at->second.empty();
}

void Guard::wait(milliseconds pause) {
    pause_ = std::min(pause, pause_.value_or(pause));
}

void Guard::claim(const Volume& v, Claims& claims) {
    if (v.verified && v.survey) {
        for (const auto& m : v.survey->decision.maps) {
            const auto uuid = volume::uuid_of(v.survey->stack[m.device].uuid);
            if (!uuid)
                continue;
            auto& all = claims.all[*uuid];
            all = all.unite(m.map).merged();
            if (v.encryptor != layers::Encryptor::endpoints)
                continue;
            auto& encrypted = claims.encrypted[*uuid];
            encrypted = encrypted.unite(m.map).merged();
            claims.wanted = true;
        }
        return;
    }
    const auto stack = discover(v.device, *shim_);
    if (!stack) {
        claims.nothing_known = claims.nothing_known || stack.error().code != Errc::not_found;
        return;
    }
    for (const auto& device : stack->devices)
        if (const auto uuid = volume::uuid_of(device.uuid); uuid && !device.uuid.empty()) {
            claims.unknown.insert(*uuid);
            claims.wanted = true;
        }
}

Guard::Claims Guard::claims(const Volume* coming) {
    Claims all;
    for (const auto& v : registry_->all())
        if (v->shim == "kernel" && !(coming && coming->header.uuid == v->header.uuid))
            claim(*v, all);
    if (coming) {
        Volume known = *coming; // as whoever brings it has verified
        known.verified = true;
        claim(known, all);
    }
    return all;
}

// None: it is none to be guarded, and has no LBAs that are.
Result<std::optional<Guard::Guarded>> Guard::look_at(const Leg& leg) {
    const auto info = dm_find(dm_uuid(leg));
    const auto entry =
        info && *info ? shim_->find(leg.uuid) : Result<std::optional<dek_list_entry>>();
    const auto ranges =
        entry && *entry ? shim_->ranges(leg.uuid) : Result<std::vector<dek_range_entry>>();
    if (!info || !entry || !ranges)
        return tl::unexpected(!info ? info.error() : !entry ? entry.error() : ranges.error());
    if (!*info || !*entry || (*entry)->map_generation == 0)
        return std::optional<Guarded>();
    Guarded g;
    g.leg = leg;
    g.number = (*info)->number;
    g.unit = (*entry)->data_unit / 512;
    g.lbas = (*entry)->count;
    for (const auto& r : *ranges) {
        const auto range = one(r.first, r.count);
        if (r.state == DEK_RANGE_KEYED)
            g.keyed = g.keyed.unite(range);
        if (r.state != DEK_RANGE_PLAIN && r.state != DEK_RANGE_RESERVED)
            g.closed = g.closed.unite(range);
    }
    g.closed = g.closed.merged();
    return std::optional<Guarded>(std::move(g));
}

Result<std::vector<Guard::Guarded>> Guard::guarded(const Claims& claims,
                                                   const std::vector<layers::Mapped>& devices) {
    std::vector<Guarded> all;
    for (const auto& leg : legs_->all()) {
        if (!leg.multipath.empty() || claims.unknown.contains(leg.uuid))
            continue;
        auto g = look_at(leg);
        if (!g)
            return tl::unexpected(g.error());
        if (!*g)
            continue;
        const auto head = first_sectors(dm_name(leg));
        const auto area = head ? pv_data_area(*head, (*g)->lbas) : tl::unexpected(head.error());
        std::string why;
        if (is_path((*g)->number, devices))
            why = "is not guarded: it is a path of a multipath";
        else if (!area && area.error().code != Errc::not_found)
            why = "is not guarded: " + area.error().reason;
        if (!head) { // nobody knows: as it is
            tell(leg.uuid, dm_name(leg), why);
            continue;
        }
        if (area && why.empty())
            (*g)->area = inward(*area, (*g)->unit);
        (*g)->why = why;
        all.push_back(std::move(**g));
    }
    return all;
}

// Before the tables are read: a snapshot that LVM has just finished, or whose store I/O waits for,
// is in them.
void Guard::look_who_waits() {
    lvm_works_ = lvm_is_at_work();
    waiting_.clear();
    for (const auto& leg : legs_->all()) {
        const auto stats = shim_->stats(leg.uuid);
        if (stats && stats->waiting > 0)
            waiting_.insert(leg.uuid);
    }
}

// What is plain stays so as long as it is used; what is new is opened when it has come of age, and
// LVM is not at work on it any more or waits for it itself.
LunMap Guard::opened(const Guarded& g, const layers::LegUse& use, const LunMap& admitted) {
    const auto now = Clock::now();
    const bool waits = waiting_.contains(g.leg.uuid);
    LunMap open = admitted;
    for (const auto& stretch : use.used) {
        const auto age = now - seen_.try_emplace(stretch.user, now).first->second;
        const auto lbas = one(stretch.lbas.first, stretch.lbas.count);
        const auto start = stretch.at ? LunMap() : one(stretch.lbas.first, wiped).intersect(lbas);
        const bool wiping = !start.intersect(g.closed).empty();
        const bool settled = age >= young && (!lvm_works_ || (waits && !wiping));
        open = open.unite(settled ? lbas : lbas.subtract(g.closed));
        if (age >= newborn)
            open = open.unite(start);
        if (!lbas.subtract(open).subtract(g.keyed).empty())
            wait(next_look);
    }
    return outward(open, g.unit).subtract(outward(use.copies, g.unit));
}

// A snapshot's store, say, would keep the volume's I/O waiting for ever, and so would a mirror's
// leg that the volume cannot take up.
bool Guard::gives_up(const Guarded& g, const LunMap& held, const layers::LegUse& use) {
    if (held.intersect(use.copies).empty()) {
        copied_since_.erase(g.leg.uuid);
        return false;
    }
    const auto now = Clock::now();
    const auto since = copied_since_.try_emplace(g.leg.uuid, now).first->second;
    if (now - since < copy_patience)
        wait(next_look);
    return !held.intersect(use.unknown).empty() || now - since >= copy_patience;
}

Result<void> Guard::set(const Guarded& g, const layers::LegUse& use, const LunMap& claimed,
                        const LunMap& admitted) {
    if (!g.area.empty() && !g.keyed.subtract(claimed).empty()) {
        if (auto r = drop_strangers(*shim_, g.leg.uuid, claimed); !r)
            return r;
        wait(next_look);
    }
    const auto theirs = claimed.unite(g.keyed);
    const auto held = g.area.subtract(opened(g, use, admitted)).subtract(theirs).merged();
    const bool fails = gives_up(g, held, use);
    const std::uint32_t guarding = fails ? DEK_FENCE_EIO : DEK_FENCE_HOLD;
    if (!held.empty())
        if (auto r = shim_->fence(g.leg.uuid, guarding); !r)
            return r;
    if (auto r = replace_cover(*shim_, g.leg.uuid, held, g.closed.subtract(held).subtract(theirs));
        !r)
        return r;
    stand_[g.leg.uuid] = held;
    tell(g.leg.uuid, dm_name(g.leg),
         fails ? "refuses what a snapshot, a pool or a mirror would copy of a volume in the clear"
               : g.why);
    if (held.empty())
        return set_own_fence(*shim_, g.leg.uuid, g.leg.fence);
    const auto stats = shim_->stats(g.leg.uuid);
    if (stats && stats->waiting > 0)
        wait(next_look);
    return {};
}

// No volume is encrypted by endpoints any more.
Result<void> Guard::open_up(const Claims& claims) {
    for (const auto& leg : legs_->all()) {
        if (!leg.multipath.empty() || is_open(leg.uuid))
            continue;
        auto g = look_at(leg);
        if (!g)
            return tl::unexpected(g.error());
        const auto claimed = claims.all.find(leg.uuid);
        if (*g)
            if (auto r = set(**g, {}, claimed == claims.all.end() ? LunMap() : claimed->second, {});
                !r)
                return r;
        told_.erase(leg.uuid);
    }
    seen_.clear();
    return {};
}

Result<void> Guard::keep(const Volume* coming) {
    return keep(coming, {});
}

Result<void> Guard::keep(const Volume* coming, const std::map<Uuid, LunMap>& admitted) {
    pause_.reset();
    if (legs_->all().empty())
        return {};
    const auto claims = this->claims(coming);
    if (claims.nothing_known)
        return {};
    if (!claims.wanted) {
        const auto done = open_up(claims);
        publish();
        return done;
    }
    look_who_waits();
    const auto devices = all_tables();
    if (!devices)
        return tl::unexpected(devices.error());
    const auto all = guarded(claims, *devices);
    if (!all)
        return tl::unexpected(all.error());
    const auto of = [](const std::map<Uuid, LunMap>& maps, const Uuid& leg) {
        const auto at = maps.find(leg);
        return at == maps.end() ? LunMap() : at->second;
    };
    layers::MapByDevice volumes;
    for (const auto& g : *all)
        volumes[g.number] = of(claims.encrypted, g.leg.uuid);
    const auto uses = layers::find_use(*devices, volumes);
    if (!uses)
        return tl::unexpected(uses.error());
    for (const auto& g : *all)
        if (g.area.empty() && is_open(g.leg.uuid))
            tell(g.leg.uuid, dm_name(g.leg), g.why);
        else if (auto r = set(g, uses->at(g.number), of(claims.all, g.leg.uuid),
                              of(admitted, g.leg.uuid));
                 !r)
            return fail(r.error().code, dm_name(g.leg) + ": " + r.error().reason);
    std::set<std::string> users;
    for (const auto& [leg, use] : *uses)
        for (const auto& stretch : use.used)
            users.insert(stretch.user);
    std::erase_if(seen_, [&](const auto& seen) { return !users.contains(seen.first); });
    publish();
    return {};
}

Result<void> Guard::admit(const std::string& device) {
    if (std::none_of(stand_.begin(), stand_.end(), [](const auto& s) { return !s.second.empty(); }))
        return {};
    const auto stack = discover(device, *shim_);
    if (!stack)
        return {}; // whoever opens it will say so
    std::map<Uuid, LunMap> wanted;
    const auto maps = layers::project(*stack, one(0, (*stack)[stack->top].size));
    for (std::size_t i = 0; i < maps.size(); i++)
        if (const auto uuid = volume::uuid_of((*stack)[i].uuid); uuid && stand_.contains(*uuid))
            wanted[*uuid] = wanted[*uuid].unite(maps[i]);
    if (auto r = keep(nullptr, wanted); !r)
        return r;
    for (const auto& [leg, map] : wanted)
        if (!map.intersect(stand_[leg]).empty())
            return fail(Errc::busy, "beneath " + device +
                                        " something may be copied of a volume that endpoints "
                                        "encrypt; I/O waits there");
    return {};
}

void Guard::publish() {
    std::map<Uuid, LegGuard> all;
    for (const auto& [leg, map] : stand_)
        all[leg].lbas = map.total();
    for (const auto& [leg, sentence] : told_)
        all[leg].why = sentence;
    registry_->publish_guards(std::move(all));
}

void Guard::tell(const Uuid& leg, const std::string& name, const std::string& sentence) {
    auto& told = told_[leg];
    if (std::exchange(told, sentence) != sentence && !sentence.empty())
        log(Level::warning, "endpoint-guard", {{"endpoint", name}, {"why", name + " " + sentence}});
}

} // namespace dek::kcm
