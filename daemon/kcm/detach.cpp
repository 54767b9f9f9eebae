// SPDX-License-Identifier: Apache-2.0
// Detaching, erasing, and what both ask first.
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/durable.h"
#include "base/log.h"
#include "kcm/controller.h"

namespace dek::kcm {

// What is left of a volume that the shim has lost.
Result<void> Controller::clear_away(const Volume& v) {
    if (auto r = site(v).backend->conceal(v.node(), std::chrono::milliseconds(500)); !r)
        return fail(r.error().code,
                    "what is left of volume " + v.name + " is still in use: " + r.error().reason);
    if (auto r = site(v).backend->remove(*site(v).shim, v.node(), std::chrono::milliseconds(500));
        !r)
        return r;
    unlink(v.name);
    records_.remove(v.name);
    parts_.registry->withdraw(v.name);
    return {};
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
        auto endpoint = site(*attached).shim->find(attached->header.uuid);
        if (!endpoint)
            return tl::unexpected(endpoint.error());
        if (!*endpoint)
            return clear_away(*attached);
    }
    return fail(Errc::busy, device.path + " is attached already, as volume " + attached->name +
                                "; dekctl detach " + attached->name + " first");
}

Result<void> Controller::detach(const std::string& name, std::chrono::milliseconds patience) {
    const auto found = parts_.registry->find(name);
    if (!found)
        return fail(Errc::not_found, "no volume named " + name + " is attached");
    const Volume v = *found;
    if (auto r = site(v).backend->conceal(v.node(), patience); !r)
        return fail(r.error().code, "volume " + name + " stays attached: " + r.error().reason);
    if (auto r = site(v).backend->remove(*site(v).shim, v.node(), patience); !r) {
        if (auto again = site(v).backend->expose(v.node()); !again) {
            log_error("block-device-lost", again.error(), {{"volume", name}});
        } else if (*again != v.block_device) {
            Volume moved = v;
            moved.block_device = *again;
            (void)link(moved);
            parts_.registry->publish(moved);
        }
        return fail(r.error().code, "volume " + name + " stays attached: " + r.error().reason);
    }
    unlink(name);
    records_.remove(name);
    parts_.registry->withdraw(name);
    for (const auto& key : v.header.keys)
        if (parts_.registry->using_key(key.id).empty())
            parts_.keys->forget(key.id);
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
    if (!told.lba && told.file.empty())
        return tl::unexpected(why);
    auto site = header_site(device, told, Access::write);
    if (!site)
        return site;
    auto trace = volume::has_trace(site->location);
    if (!trace)
        return tl::unexpected(trace.error());
    return *trace ? std::move(site) : tl::unexpected(why);
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

// The keys of a header that is erased may be destroyed: they are known, and nobody uses them.
Result<void> Controller::check_keys_free(const volume::Header* header) {
    if (!header)
        return fail(Errc::refused,
                    "the header cannot be read, so nobody knows which keys to destroy");
    for (const auto& key : header->keys)
        if (const auto users = parts_.registry->using_key(key.id); !users.empty())
            return fail(Errc::busy, "key " + key.id + " is in use by volume " + users.front());
    return {};
}

Result<Erased> Controller::erase(const EraseRequest& request) {
    auto device = open_device(request.device, Access::write);
    if (!device)
        return tl::unexpected(device.error());
    if (auto r = check_detached(*device, std::nullopt); !r)
        return tl::unexpected(r.error());
    const auto claimed = claim_unused(*device, parts_.kernel); // until it is erased
    if (!claimed)
        return tl::unexpected(claimed.error());
    auto sited = find_header(*device, request.header, Access::write);
    auto site = sited ? Result<HeaderSite>(std::move(sited->site))
                      : unreadable_site(*device, request.header, sited.error());
    if (!site)
        return tl::unexpected(site.error());
    const volume::Header* header = sited ? &sited->found.copy.header : nullptr;
    if (auto r = check_detached(*device, header ? std::optional(header->uuid) : std::nullopt); !r)
        return tl::unexpected(r.error());
    if (!request.force)
        return fail(Errc::refused, what_is_lost(*site, header));
    if (request.destroy_keys)
        if (auto r = check_keys_free(header); !r)
            return tl::unexpected(r.error());
    if (auto r = volume::erase(site->location); !r)
        return tl::unexpected(r.error());
    drop_file(site->file);
    log(Level::notice, "erased", {{"device", device->path}, {"header", site->text()}});
    Erased erased;
    erased.uuid = header ? std::optional(header->uuid) : std::nullopt;
    if (request.destroy_keys)
        for (const auto& key : header->keys) {
            if (auto gone = parts_.keys->destroy(key.id); !gone)
                return fail(gone.error().code, "the header is erased, but key " + key.id +
                                                   " is not destroyed: " + gone.error().reason);
            erased.keys_destroyed.push_back(key.id);
        }
    erased.site = std::move(*site);
    return erased;
}

} // namespace dek::kcm
