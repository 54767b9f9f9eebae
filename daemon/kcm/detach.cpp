// SPDX-License-Identifier: Apache-2.0
// Detaching, erasing, and what both ask first.
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/durable.h"
#include "base/log.h"
#include "kcm/beneath.h"
#include "kcm/controller.h"
#include "kcm/live_stack.h"

namespace dek::kcm {

Result<void> Controller::take_down(const Volume& v) {
    unlink(v.name);
    if (auto r = site(v).backend->conceal(v.node(), std::chrono::milliseconds(500)); !r)
        return fail(r.error().code,
                    "what is left of volume " + v.name + " is still in use: " + r.error().reason);
    return site(v).backend->remove(*site(v).shim, v.node(), std::chrono::milliseconds(500));
}

// What is left of a volume that the shim has lost.
Result<void> Controller::clear_away(const Volume& v) {
    if (auto r = take_down(v); !r)
        return r;
    if (auto r = leave_legs(v); !r)
        log_error("legs-not-left", r.error(), {{"volume", v.name}});
    forget(v);
    return {};
}

// Nobody can write to the volume any more, so what its legs held for it goes.
Result<void> Controller::leave_legs(const Volume& v) {
    return Beneath(*site(v).shim, v.header, v.survey).leave();
}

void Controller::forget(const Volume& v) {
    records_.remove(v.name);
    parts_.registry->withdraw(v.name);
    keep_guard();
}

// Only a verified header tells what legs beneath hold for the volume, and what is copied by a
// mirror meanwhile must not lose its keys.
Result<void> Controller::check_legs_known(const Volume& v) {
    if (v.shim != "kernel")
        return {};
    const auto stack = discover(v.device, *site(v).shim);
    if (!stack) // its device is gone
        return {};
    for (const auto& device : stack->devices) {
        if (!v.verified && !device.uuid.empty())
            return fail(Errc::locked, "volume " + v.name +
                                          " stays attached: what its endpoints "
                                          "beneath hold is known when its header can be verified" +
                                          (v.reason.empty() ? "" : " (" + v.reason + ")"));
        if (device.copying && v.encryptor == layers::Encryptor::endpoints)
            return fail(Errc::busy, "volume " + v.name + " stays attached: " + title(device) +
                                        " is copying from leg to leg by itself");
    }
    return {};
}

// Its endpoint, or the device that has no endpoint of its own, is there.
Result<bool> Controller::is_served(const Volume& v) {
    if (v.encryptor != layers::Encryptor::top)
        return site(v).backend->exposed(v.node()).has_value();
    auto endpoint = site(v).shim->find(v.header.uuid);
    return endpoint ? Result<bool>(endpoint->has_value()) : tl::unexpected(endpoint.error());
}

// Neither this device nor this volume may be attached. One that is down, its endpoint gone, is
// cleared away.
Result<void> Controller::check_detached(const Device& device, const std::optional<Uuid>& uuid) {
    auto attached = parts_.registry->on_device(device.identity());
    if (!attached && uuid)
        attached = parts_.registry->with_uuid(*uuid);
    if (!attached)
        return {};
    if (attached->state == VolumeState::down) {
        auto served = is_served(*attached);
        if (!served)
            return tl::unexpected(served.error());
        for (const auto& record : records_.all())
            if (!*served && record.name == attached->name && !record.complete)
                return remove_half_made(*attached, record);
        if (!*served)
            return clear_away(*attached);
    }
    if (attached->identity != device.identity())
        return fail(Errc::busy, device.path + " holds a header of volume " + attached->name + " (" +
                                    volume::uuid_text(attached->header.uuid) +
                                    "), which is attached from " + attached->device +
                                    ": it is a copy of that, or another way to it; dekctl detach " +
                                    attached->name + " first");
    return fail(Errc::busy, device.path + " is attached already, as volume " + attached->name +
                                "; dekctl detach " + attached->name + " first");
}

// A detach that failed half way: what it took away comes back, unless it was gone before.
void Controller::keep_attached(const Volume& v) {
    if (v.block_device.empty() || v.state == VolumeState::down)
        return;
    Volume kept = v;
    auto node = site(v).backend->expose(v.node());
    if (!node)
        return log_error("block-device-lost", node.error(), {{"volume", v.name}});
    kept.block_device = *node;
    if (auto linked = link(kept); !linked)
        log_error("link-not-made", linked.error(), {{"volume", v.name}});
    if (kept.block_device != v.block_device)
        parts_.registry->publish(kept);
}

Result<void> Controller::detach(const std::string& name, std::chrono::milliseconds patience) {
    const auto found = parts_.registry->find(name);
    if (!found)
        return fail(Errc::not_found, "no volume named " + name + " is attached");
    const Volume v = *found;
    if (auto r = site(v).shim->version(); !r && r.error().code == Errc::timeout)
        return tl::unexpected(r.error()); // its block device would not let go either
    if (auto r = check_legs_known(v); !r)
        return r;
    unlink(name); // before its number may be somebody else's
    if (auto r = site(v).backend->conceal(v.node(), patience); !r) {
        keep_attached(v);
        return fail(r.error().code, "volume " + name + " stays attached: " + r.error().reason);
    }
    if (auto r = site(v).backend->remove(*site(v).shim, v.node(), patience); !r) {
        keep_attached(v);
        return fail(r.error().code, "volume " + name + " stays attached: " + r.error().reason);
    }
    if (auto r = leave_legs(v); !r)
        log_error("legs-not-left", r.error(), {{"volume", v.name}});
    records_.remove(name);
    parts_.registry->withdraw(name);
    reviews_.erase(v.header.uuid);
    for (const auto& key : v.header.keys)
        if (parts_.registry->using_key(key.id).empty())
            parts_.keys->forget(key.id);
    keep_guard();
    tell("volume-detached", v);
    return {};
}

namespace {

std::string what_is_lost(const HeaderSite& site, const volume::Header* header) {
    const std::string who =
        header ? "volume " + header->name + " (" + volume::uuid_text(header->uuid) + ")"
               : std::string("what the unreadable header belongs to");
    return "erasing the header at " + site.text() + " makes everything encrypted in " + who +
           " unreadable for ever, unless there is a backup of the header; --force does it";
}

// A header that cannot be read (damaged, too new for this program, written for another place) can
// only be erased where the caller says. `why`: what reading it gave.
Result<HeaderSite> unreadable_site(const Device& device, const HeaderQuery& told,
                                   const Error& why) {
    if (why.code == Errc::timeout) // it may be there, and of a volume that is attached
        return tl::unexpected(why);
    if (!told.lba && told.file.empty())
        return why.code == Errc::corrupt || why.code == Errc::unsupported
                   ? fail(why.code,
                          why.reason + "; it is erased where --header-at or --header says")
                   : tl::unexpected(why);
    auto site = header_site(device, told, Access::write);
    if (!site)
        return site;
    auto trace = volume::has_trace(site->location);
    if (!trace)
        return tl::unexpected(trace.error());
    return *trace ? std::move(site) : tl::unexpected(why);
}

bool made_for(const keys::KeyInfo& key, const Uuid& uuid) {
    const auto volume = key.attributes.find("volume");
    return volume != key.attributes.end() && volume->second == volume::uuid_text(uuid);
}

// A header file serves nobody once it is erased.
void drop_file(const std::string& file) {
    if (file.empty())
        return;
    ::unlink(file.c_str());
    if (auto synced = sync_directory_of(file); !synced)
        log_error("removal-not-durable", synced.error());
}

} // namespace

Result<void> Controller::check_key_free(const std::string& id) const {
    if (const auto users = parts_.registry->using_key(id); !users.empty())
        return fail(Errc::busy, "key " + id + " is in use by volume " + users.front());
    for (const auto& volume : parts_.registry->all())
        if (volume->keys_unknown())
            return fail(Errc::busy, "key " + id + " may be in use by volume " + volume->name +
                                        ", whose header could not be verified yet");
    return {};
}

// Keys that were made for the volume, and that nobody uses; `kept`: the others of its header, which
// detached volumes may share. Only a header that is proven to be authentic names keys.
Result<std::vector<std::string>> Controller::keys_of_its_own(const SitedHeader& sited,
                                                             std::vector<std::string>& kept) {
    auto header = authenticated(sited);
    if (!header)
        return fail(header.error().code, "nobody can tell whether this header names the right "
                                         "keys to destroy: " +
                                             header.error().reason);
    std::vector<std::string> own;
    for (const auto& key : header->keys) {
        auto info = parts_.keys->info(key.id);
        if (!info && info.error().code != Errc::not_found && info.error().code != Errc::unknown_key)
            return tl::unexpected(info.error());
        if (!info || !made_for(*info, header->uuid)) {
            kept.push_back(key.id);
            continue;
        }
        if (auto unused = check_key_free(key.id); !unused)
            return tl::unexpected(unused.error());
        own.push_back(key.id);
    }
    return own;
}

Result<void> Controller::destroy_keys(const std::vector<std::string>& ids, Erased& erased) {
    for (const auto& id : ids) {
        if (auto gone = parts_.keys->destroy(id); !gone)
            return fail(gone.error().code, "the header is erased, but key " + id +
                                               " is not destroyed: " + gone.error().reason);
        erased.keys_destroyed.push_back(id);
    }
    return {};
}

Result<Erased> Controller::erase(const EraseRequest& request) {
    if (auto r = guard_.admit(request.device); !r)
        return tl::unexpected(r.error());
    auto device = open_device(request.device, Access::write);
    if (!device)
        return tl::unexpected(device.error());
    if (auto r = check_detached(*device, std::nullopt); !r)
        return tl::unexpected(r.error());
    const auto claimed = claim_unused(*device, parts_.kernel); // until it is erased
    if (!claimed)
        return tl::unexpected(claimed.error());
    auto sited = find_header(*device, request.header, Access::write);
    Erased erased;
    if (sited) {
        erased.uuid = sited->found.copy.header.uuid;
        if (auto r = check_detached(*device, erased.uuid); !r)
            return tl::unexpected(r.error());
    }
    auto site =
        sited ? Result<HeaderSite>() : unreadable_site(*device, request.header, sited.error());
    if (!site)
        return tl::unexpected(site.error());
    if (!request.force)
        return fail(Errc::refused, what_is_lost(sited ? sited->site : *site,
                                                sited ? &sited->found.copy.header : nullptr));
    std::vector<std::string> doomed;
    if (request.destroy_keys) {
        if (!sited)
            return fail(Errc::refused,
                        "the header cannot be read, so nobody knows which keys to destroy");
        auto own = keys_of_its_own(*sited, erased.keys_kept);
        if (!own)
            return tl::unexpected(own.error());
        doomed = std::move(*own);
    }
    if (sited)
        site = std::move(sited->site);
    if (auto r = volume::erase(site->location); !r)
        return tl::unexpected(r.error());
    drop_file(site->file);
    log(Level::notice, "erased", {{"device", device->path}, {"header", site->text()}});
    if (auto r = destroy_keys(doomed, erased); !r)
        return tl::unexpected(r.error());
    erased.site = std::move(*site);
    return erased;
}

} // namespace dek::kcm
