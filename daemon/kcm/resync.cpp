// SPDX-License-Identifier: Apache-2.0
// After a restart of kcmd or of the shim: records, endpoints, headers and block devices are brought
// together.
#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "kcm/controller.h"
#include "kcm/kernel_table.h"
#include "kcm/kernel_volume.h"
#include "kcm/leg.h"
#include "kcm/live_stack.h"
#include "kcm/pool_keeper.h"

namespace dek::kcm {
namespace {

const dek_list_entry* find_endpoint(const std::vector<dek_list_entry>& endpoints,
                                    const Uuid& uuid) {
    for (const auto& e : endpoints)
        if (std::memcmp(e.uuid, uuid.data(), uuid.size()) == 0)
            return &e;
    return nullptr;
}

std::string name_of(const dek_list_entry& endpoint) {
    return {endpoint.name, ::strnlen(endpoint.name, sizeof endpoint.name)};
}

// A leg's, or that of an in-place header's place: no volume's.
bool is_beneath(const dek_list_entry& endpoint) {
    const auto name = name_of(endpoint);
    return name.starts_with("dekleg-") || name.starts_with("dek.hdr.") ||
           name.starts_with("dek.old.") || is_hidden_name(name);
}

// A path may come back, a disk, a key.
bool may_pass(Errc code) {
    return code == Errc::locked || code == Errc::timeout || code == Errc::unavailable ||
           code == Errc::unknown_key || code == Errc::not_found || code == Errc::busy ||
           code == Errc::io;
}

Volume volume_of(const Record& r) {
    Volume v;
    v.header.uuid = r.uuid;
    v.header.name = r.name;
    v.header.header_lba = r.header_lba.value_or(0);
    v.name = r.name;
    v.device = r.device;
    v.identity = r.identity;
    v.header_file = r.header_file;
    v.shim = r.shim;
    v.read_only = r.read_only;
    v.wish = r.wish;
    v.strayed = r.strayed;
    v.recorded_keys = r.keys;
    return v;
}

} // namespace

void Controller::load_records() {
    for (const auto& record : records_.all()) {
        Volume v = volume_of(record);
        v.reason = "kcmd has just started";
        parts_.registry->publish(std::move(v));
    }
}

void Controller::shim_gone(const std::string& kind) {
    for (const auto& volume : parts_.registry->all()) {
        Volume v = *volume;
        if (v.shim != kind)
            continue;
        v.state = VolumeState::down;
        v.reason = "the shim does not answer";
        parts_.registry->publish(std::move(v));
    }
}

void Controller::refresh_keys() {
    for (const auto& volume : parts_.registry->all()) {
        Volume v = *volume;
        v.keys = key_infos(v.header);
        parts_.registry->publish(std::move(v));
    }
}

void Controller::release_tokens(const Volume& v) {
    auto tokens = site(v).shim->tokens(v.header.uuid);
    if (!tokens)
        return log_error("tokens-not-listed", tokens.error(), {{"volume", v.name}});
    for (const auto& token : *tokens) {
        auto released = site(v).shim->release(v.header.uuid, token.token);
        log(Level::warning, "stale-hold-released",
            {{"volume", v.name},
             {"first", token.first},
             {"count", token.count},
             {"done", released.has_value()}});
    }
}

Result<Device> Controller::device_of(const Record& record) {
    auto device = open_device(record.device, Access::read);
    if (device && device->identity() != record.identity)
        return fail(Errc::refused, record.device + " is another device now");
    return device;
}

// The header as it is on the device, authenticated.
Result<void> Controller::read_again(Volume& v, const Record& record) {
    auto device = device_of(record);
    if (!device)
        return tl::unexpected(device.error());
    auto header = read_current(*device, {record.header_lba, record.header_file}, record.uuid);
    if (!header)
        return tl::unexpected(header.error());
    v.header = *header;
    v.verified = true;
    return {};
}

// What people may know of a volume whose header cannot be verified now: the shim's word for what is
// served, and the header's for the rest. Nothing is done by it.
void Controller::describe(Volume& v, const Record& record, const dek_list_entry& endpoint) {
    if (auto device = device_of(record)) {
        auto sited = find_header(*device, {record.header_lba, record.header_file}, Access::read);
        if (sited && sited->found.copy.header.uuid == record.uuid)
            v.header = sited->found.copy.header;
    }
    v.header.offset = endpoint.first;
    v.header.size = endpoint.count;
    v.header.data_unit = endpoint.data_unit;
    v.header.logical_block = endpoint.logical_block;
    v.keys = key_infos(v.header);
}

// With or without keys: what waits on a block device that stands still waits for ever.
void Controller::revive(const Volume& v, const dek_list_entry& endpoint) {
    auto spec = v.node();
    spec.offset = endpoint.first;
    spec.data_unit = endpoint.data_unit;
    if (auto r = site(v).backend->revive(spec, endpoint.count); !r)
        log_error("block-device-stands-still", r.error(), {{"volume", v.name}});
}

// Map, keys and size of the endpoint, as the header says. The size comes first: what grows has to
// be there before the map that covers it, and what is cut off is never plain in between. What the
// shim refuses to cut (it is encrypted, or held) is not mapped away either: all stays as it is.
Result<void> Controller::restore_service(Volume& v, const dek_list_entry& endpoint) {
    release_tokens(v);
    const auto find_key = [this](const volume::HeaderKey& key) {
        return parts_.keys->material(key);
    };
    if (endpoint.count != v.header.size) { // a resize was cut short
        auto sized = site(v).backend->resize(*site(v).shim, v.node(), v.header.size);
        if (!sized && endpoint.count > v.header.size && sized.error().code == Errc::busy)
            return fail(Errc::refused,
                        "its header gives it " + std::to_string(v.header.size) +
                            " LBAs, and the shim does not let go of what it serves beyond: it "
                            "is encrypted, or held; detach the volume and attach it again");
        if (!sized)
            return sized;
    }
    return establish(*site(v).shim, v.header, find_key);
}

// The block device and the link. One that has gone from under a volume that was up is reported, not
// made anew: whoever used it has seen errors.
void Controller::settle_node(Volume& v, const Record& record) {
    auto node = site(v).backend->exposed(v.node());
    if (!node && record.complete) {
        unlink(v.name); // the next one of that number may be anybody's
        v.state = VolumeState::down;
        v.reason = "its block device is gone; detach it and attach it again";
        return;
    }
    auto made = site(v).backend->expose(v.node());
    if (!made) {
        v.state = VolumeState::down;
        v.reason = made.error().reason;
        return;
    }
    v.block_device = *made;
    if (auto r = site(v).backend->rescale(v.node()); !r)
        log_error("new-size-not-taken", r.error(), {{"volume", v.name}});
    if (auto r = link(v); !r)
        log_error("link-not-made", r.error(), {{"volume", v.name}});
    write_record(v);
    v.state = VolumeState::up;
    v.reason.clear();
}

// What is beneath it; nullptr: no endpoint is. The header is verified then.
Result<std::shared_ptr<const Survey>> Controller::find_legs(Volume& v, const Record& record) {
    if (v.shim != "kernel")
        return nullptr;
    const auto stack = discover(v.device, *site(v).shim);
    if (!stack && stack.error().code != Errc::not_found)
        return tl::unexpected(stack.error());
    const bool has_legs =
        stack && std::any_of(stack->devices.begin(), stack->devices.end(),
                             [](const layers::Device& d) { return !d.uuid.empty(); });
    if (!has_legs)
        return nullptr;
    if (auto r = v.verified ? Result<void>() : read_again(v, record); !r)
        return tl::unexpected(r.error());
    return look(v);
}

// Some leg, wherever it is, has a key of this volume and of no other.
Result<bool> Controller::legs_have_keys(const Record& record) {
    std::set<std::string> own;
    for (const auto& id : record.keys)
        if (parts_.registry->using_key(id) == std::vector{record.name})
            own.insert(id);
    Shim& shim = *parts_.shims.of(record.shim).shim;
    const auto endpoints = shim.list();
    if (!endpoints)
        return tl::unexpected(endpoints.error());
    for (const auto& leg : *endpoints) {
        Uuid uuid;
        std::memcpy(uuid.data(), leg.uuid, uuid.size());
        const auto associations =
            is_beneath(leg) ? shim.associations(uuid) : std::vector<dek_association_entry>();
        if (!associations)
            return tl::unexpected(associations.error());
        for (const auto& a : *associations)
            if (own.contains(key_id_of(a)))
                return true;
    }
    return false;
}

// Nobody was told of it, but legs beneath may hold what it was to have: only its header tells
// which. A key must not stay with LBAs that become somebody else's.
Result<void> Controller::remove_half_made(Volume v, const Record& record) {
    const auto survey = find_legs(v, record);
    const auto code = survey ? Errc::internal : survey.error().code;
    if (code == Errc::locked || code == Errc::timeout || code == Errc::unavailable ||
        code == Errc::busy)
        return tl::unexpected(survey.error());
    if (!survey || !*survey) {
        const auto keyed = legs_have_keys(record);
        if (!keyed)
            return tl::unexpected(keyed.error());
        if (*keyed)
            return survey ? fail(Errc::not_found, "endpoints have its keys, but none is beneath " +
                                                      record.device + " now")
                          : Result<void>(tl::unexpected(survey.error()));
    }
    v.survey = survey.value_or(nullptr);
    if (auto r = take_down(v); !r)
        return r;
    if (auto r = leave_legs(v); !r) {
        if (legs_have_keys(record).value_or(true))
            return r;
        log_error("legs-not-left", r.error(), {{"volume", v.name}}); // fenced: the guard's
    }
    forget(v);
    return {};
}

// True: it has to wait for something.
bool Controller::lost(const Record& record) {
    const auto known = parts_.registry->find(record.name);
    Volume v = known ? *known : volume_of(record);
    if (!record.complete) {
        const auto removed = remove_half_made(std::move(v), record);
        if (removed)
            log(Level::notice, "half-made-volume-removed", {{"volume", record.name}});
        else
            log_error("half-made-volume-stays", removed.error(), {{"volume", record.name}});
        return !removed;
    }
    unlink(v.name); // its block device may go at any time, and the number to somebody else
    v.state = VolumeState::down;
    v.reason = "the shim has lost it; dekctl attach brings it back";
    parts_.registry->publish(std::move(v));
    return false;
}

// True: it has to wait for something.
bool Controller::resync_volume(const Record& record, const std::vector<dek_list_entry>& endpoints) {
    const auto* endpoint = find_endpoint(endpoints, record.uuid);
    if (!endpoint)
        return lost(record);
    const auto known = parts_.registry->find(record.name);
    Volume v = known ? *known : volume_of(record);
    auto legs = yield_legs(v, record);
    if (legs)
        revive(v, *endpoint);
    auto done = v.verified || !legs ? legs : read_again(v, record);
    if (done)
        done = restore_service(v, *endpoint);
    if (!done && !v.verified)
        describe(v, record, *endpoint);
    return settle_record(std::move(v), record, done);
}

// Its own endpoint encrypts, so what is beneath must not: a volume that was stopped on the way
// there goes on only when that is so.
Result<void> Controller::yield_legs(Volume& v, const Record& record) {
    const auto survey = find_legs(v, record);
    if (!survey || !*survey)
        return survey ? Result<void>() : tl::unexpected(survey.error());
    return refresh_legs(v, *survey);
}

// True: it has to wait for something.
bool Controller::settle_record(Volume v, const Record& record, const Result<void>& done) {
    if (done) {
        settle_node(v, record);
        v.keys = key_infos(v.header);
        log(Level::notice, "volume-resumed", {{"volume", v.name}, {"state", state_name(v.state)}});
        parts_.registry->publish(std::move(v));
        return false;
    }
    const auto node = site(v).backend->exposed(v.node());
    v.block_device = node.value_or("");
    if (!node)
        unlink(v.name);
    v.state = VolumeState::waiting_for_keys;
    v.reason = done.error().reason;
    const auto code = done.error().code;
    const bool hopeful = may_pass(code);
    if (hopeful)
        v.reason += "; kcmd tries again by itself";
    else
        v.state = VolumeState::fenced;
    log_error("volume-not-resumed", done.error(), {{"volume", v.name}});
    parts_.registry->publish(std::move(v));
    return hopeful;
}

// A volume without an endpoint of its own: its device tells who encrypts.
bool Controller::resync_lines(const Record& record) {
    const auto known = parts_.registry->find(record.name);
    Volume v = known ? *known : volume_of(record);
    auto info = find_volume_device(v.node());
    if (!info && info.error().code != Errc::not_found) {
        log_error("volume-not-resumed", info.error(), {{"volume", v.name}});
        return true;
    }
    auto live = info ? dm_table(info->name) : tl::unexpected(info.error());
    auto who = live ? encryptor_of(*live) : tl::unexpected(live.error());
    if (!who || *who == layers::Encryptor::top)
        return lost(record);
    v.encryptor = *who;
    auto done = v.verified ? Result<void>() : read_again(v, record);
    if (done)
        done = resume_lines(v);
    return settle_record(std::move(v), record, done);
}

// Legs first: a table comes live, or goes on, only over legs in the state it was made for. Where
// they cannot be brought into it, somebody else takes over.
Result<void> Controller::resume_lines(Volume& v, bool grown) {
    auto info = find_volume_device(v.node());
    auto live = info ? dm_table(info->name) : tl::unexpected(info.error());
    auto survey = look(v);
    if (!live || !survey)
        return tl::unexpected(live ? survey.error() : live.error());
    const auto& last = live->back();
    const std::uint64_t size = last.first + last.count;
    if (auto r = refresh_legs(v, *survey, grown || size < v.header.size); !r) {
        if ((*survey)->decision.who == v.encryptor || v.strayed)
            return r;
        if (auto moved = take_over(v, *survey); !moved)
            return moved;
        return {};
    }
    if (info->inactive)
        dm_clear(info->name);
    if (size != v.header.size)
        if (auto r = resize_lines(v, v.header.size); !r)
            return r;
    return info->suspended ? dm_resume(info->name, false) : Result<void>();
}

// What a killed controller held: headers are read through legs, so it has to go on before anything
// is looked at. What is fenced there as the change was cut short waits for its state; the leg's own
// answer comes back when nothing is fenced any more (set_own_fence). False: something is still
// held.
bool Controller::release_legs(Shim& shim) {
    const auto endpoints = shim.list();
    if (!endpoints)
        return endpoints.error().code != Errc::timeout;
    bool all = true;
    for (const auto& leg : *endpoints) {
        if (leg.tokens == 0 || !is_beneath(leg))
            continue;
        Uuid uuid;
        std::memcpy(uuid.data(), leg.uuid, uuid.size());
        auto done = leg.engine && leg.fence == DEK_FENCE_EIO ? shim.fence(uuid, DEK_FENCE_HOLD)
                                                             : Result<void>();
        const auto tokens = shim.tokens(uuid);
        if (done && !tokens)
            done = tl::unexpected(tokens.error());
        for (std::size_t i = 0; done && i < tokens->size(); i++)
            done = shim.release(uuid, (*tokens)[i].token);
        if (!done)
            log_error("hold-not-released", done.error(), {{"endpoint", volume::uuid_text(uuid)}});
        all = all && done;
    }
    return all;
}

// An endpoint without a record (the run directory was wiped): ours if the device beneath holds its
// header.
Result<Record> Controller::record_of_stranger(const ShimSite& at, const dek_list_entry& endpoint) {
    const auto origin = at.backend->origin(endpoint);
    Record r;
    std::memcpy(r.uuid.data(), endpoint.uuid, r.uuid.size());
    auto device = open_device(origin.device, Access::read);
    if (!device)
        return tl::unexpected(device.error());
    auto sited = find_header(*device, {}, Access::read);
    if (!sited)
        return tl::unexpected(sited.error());
    const auto& header = sited->found.copy.header;
    if (header.uuid != r.uuid)
        return fail(Errc::refused, device->path + " holds the header of another volume");
    r.name = origin.name.empty() ? header.name : origin.name;
    if (!volume::name_is_valid(r.name) || parts_.registry->find(r.name))
        return fail(Errc::exists, "its name is no volume's, or another one's");
    r.device = device->path;
    r.identity = device->identity();
    r.header_lba = sited->site.lba;
    r.shim = at.kind;
    r.complete = false; // so that what is missing of it is made
    return r;
}

// True: something has to wait.
bool Controller::resync_site(const ShimSite& at, std::vector<Record> records) {
    auto endpoints = at.shim->list();
    bool waiting = false;
    if (at.kind == "kernel") { // those without an endpoint of their own need no module
        std::erase_if(records, [&](const Record& r) {
            const auto live = dm_find("DEK-" + volume::uuid_text(r.uuid));
            const auto table = live && *live ? dm_table((*live)->name) : DmTable();
            const auto who = table ? encryptor_of(*table) : tl::unexpected(table.error());
            if (!who || *who == layers::Encryptor::top)
                return false;
            waiting = resync_lines(r) || waiting;
            return true;
        });
    }
    if (!endpoints) {
        shim_gone(at.kind);
        // The watch tells when it is back, but not when one goes on that stood still.
        return waiting || endpoints.error().code == Errc::timeout;
    }
    for (const auto& endpoint : *endpoints) {
        bool ours = false;
        for (const auto& record : records)
            ours = ours || std::memcmp(endpoint.uuid, record.uuid.data(), record.uuid.size()) == 0;
        if (ours || is_beneath(endpoint))
            continue;
        if (auto stranger = record_of_stranger(at, endpoint)) {
            records.push_back(std::move(*stranger));
        } else {
            waiting = waiting || stranger.error().code == Errc::timeout;
            log_error("endpoint-of-nobody", stranger.error(), {{"name", name_of(endpoint)}});
        }
    }
    for (const auto& record : records)
        waiting = resync_volume(record, *endpoints) || waiting;
    return waiting;
}

bool Controller::resync() {
    bool waiting = false, held = false;
    drop_pool_keepers();
    for (const auto& at : parts_.shims.all())
        held = held || (at.kind == "kernel" && !release_legs(*at.shim));
    if (!held)
        (void)legs_.restore(); // it has said why it could not
    for (const auto& at : parts_.shims.all()) {
        if (held && at.kind == "kernel") { // what reads through legs would wait
            waiting = true;
            continue;
        }
        auto records = records_.all();
        std::erase_if(records, [&](const Record& r) { return r.shim != at.kind; });
        waiting = resync_site(at, std::move(records)) || waiting;
    }
    keep_guard();
    return waiting;
}

} // namespace dek::kcm
