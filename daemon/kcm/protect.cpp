// SPDX-License-Identifier: Apache-2.0
// The second half of `protect`: keys, header, attached, in this order; each durable before the
// next.
#include <cerrno>

#include <fcntl.h>
#include <unistd.h>

#include "base/durable.h"
#include "base/log.h"
#include "kcm/plan.h"

namespace dek::kcm {
namespace {

Result<void> write_bytes(int fd, std::uint64_t byte, const std::vector<std::uint8_t>& bytes) {
    for (std::size_t done = 0; done < bytes.size();) {
        const ssize_t n =
            ::pwrite(fd, bytes.data() + done, bytes.size() - done, static_cast<off_t>(byte + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return fail_errno(errno, "writing");
        done += static_cast<std::size_t>(n);
    }
    return ::fsync(fd) == 0 ? Result<void>() : fail_errno(errno, "flushing");
}

// What lay where the header goes, and what was written over it (empty: perhaps half of it).
struct Overwritten {
    std::uint64_t byte = 0;
    std::vector<std::uint8_t> before, after;
};

// Only under the claim, and not over what somebody else has written since it was let go of.
Result<void> put_back(const Device& device, const Overwritten& place) {
    const auto claimed = claim(device);
    if (!claimed)
        return tl::unexpected(claimed.error());
    auto now = read_bytes(device, place.byte, place.after.size());
    if (!now)
        return tl::unexpected(now.error());
    if (*now != place.after)
        return fail(Errc::busy, "somebody else has written there");
    return write_bytes(device.fd.get(), place.byte, place.before);
}

// Where a header is written on the device, and how that is taken back.
struct Target {
    const Device& device;
    const Fd& claim;
    Undo& undo;
    std::string& stays; // told here: what could not be taken back
};

// While it is still claimed, whatever is there is ours.
void add_put_back(const Target& on, const std::shared_ptr<Overwritten>& place) {
    on.undo.add([on, place] {
        auto r = on.claim || place->after.empty()
                     ? write_bytes(on.device.fd.get(), place->byte, place->before)
                     : put_back(on.device, *place);
        if (r)
            return;
        log_error("old-contents-not-put-back", r.error(), {{"device", on.device.path}});
        on.stays += "; what was at LBA " + std::to_string(place->byte / 512) + " of " +
                    on.device.path + " is not put back: " + r.error().reason;
    });
}

// With force over whatever header is there, and its sequence number with it.
Result<void> write_on_device(const Target& on, const dek_range& place, volume::Header& header,
                             const Secret& key, bool force) {
    auto before = read_bytes(on.device, place.first * 512, place.count * 512);
    if (!before)
        return tl::unexpected(before.error());
    auto kept = std::make_shared<Overwritten>();
    kept->byte = place.first * 512;
    kept->before = std::move(*before);
    add_put_back(on, kept);
    const volume::Location at{on.device.fd.get(), kept->byte, false};
    if (force) {
        auto sequence = volume::overwrite(at, header, key);
        if (!sequence)
            return tl::unexpected(sequence.error());
        header.sequence = *sequence;
    } else if (auto written = volume::write(at, header, key); !written) {
        return written;
    }
    auto after = read_bytes(on.device, kept->byte, kept->before.size());
    if (!after)
        return tl::unexpected(after.error());
    kept->after = std::move(*after);
    return {};
}

// What is left of a header of another place; only its copies: the rest may be the new header's.
Result<void> erase_header(const Target& on, std::uint64_t lba) {
    const volume::Location at{on.device.fd.get(), lba * 512, false};
    auto trace = volume::has_trace(at);
    if (!trace || !*trace)
        return trace ? Result<void>() : tl::unexpected(trace.error());
    auto before = read_bytes(on.device, at.byte, volume::journal_byte);
    if (!before)
        return tl::unexpected(before.error());
    auto kept = std::make_shared<Overwritten>();
    kept->byte = at.byte;
    kept->before = std::move(*before);
    add_put_back(on, kept);
    auto erased = volume::erase_copies(at);
    if (!erased)
        return tl::unexpected(erased.error());
    auto after = read_bytes(on.device, at.byte, kept->before.size());
    if (!after)
        return tl::unexpected(after.error());
    kept->after = std::move(*after);
    if (*erased)
        log(Level::notice, "old-header-erased", {{"device", on.device.path}, {"lba", lba}});
    return {};
}

// With force: the headers that would be found beside the new one. That is durable by now: a crash
// leaves it, and perhaps both.
Result<void> erase_others(const Target& on, const volume::Header& header) {
    for (const auto lba : volume::probe_lbas(on.device.lbas)) {
        if (header.place != volume::Place::detached && lba == header.header_lba)
            continue;
        if (auto r = erase_header(on, lba); !r)
            return fail(r.error().code, "the old header at LBA " + std::to_string(lba) + " of " +
                                            on.device.path +
                                            " cannot be erased: " + r.error().reason);
    }
    return {};
}

// Under its name only when it is whole, and never over another file.
Result<void> write_in_file(const std::string& path, const volume::Header& header, const Secret& key,
                           Undo& undo) {
    const std::string fresh = sibling_name(path);
    const Fd fd(::open(fresh.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fd)
        return fail_errno(errno, "header file " + path + " cannot be made");
    const auto size = static_cast<off_t>(volume::place_lbas(volume::Place::detached) * 512);
    Result<void> done;
    if (::ftruncate(fd.get(), size) != 0)
        done = fail_errno(errno, "header file " + path + " cannot be made");
    if (done)
        done = volume::write({fd.get(), 0, true}, header, key);
    if (done)
        done = install_file_durably(fresh, path, true);
    if (!done) {
        ::unlink(fresh.c_str());
        return done;
    }
    undo.add([path] {
        ::unlink(path.c_str());
        (void)sync_directory_of(path);
    });
    return {};
}

} // namespace

// Named after the volume where that name is free.
Result<void> Controller::make_key(Plan& plan) {
    const auto& h = plan.header;
    const std::map<std::string, std::string> attributes = {{"volume", volume::uuid_text(h.uuid)}};
    auto material = Secret::random(64);
    auto info = parts_.keys->put(h.name, material.clone(), attributes);
    const bool name_no_good =
        !info && (info.error().code == Errc::exists || !keys::check_key_name(h.name));
    if (name_no_good)
        info =
            parts_.keys->put("volume-" + volume::uuid_text(h.uuid), material.clone(), attributes);
    if (!info)
        return tl::unexpected(info.error());
    plan.header.keys[*plan.new_key] =
        volume::make_header_key(info->id, parts_.keys->provider(), material);
    plan.ring[info->id] = std::move(material);
    log(Level::notice, "key-made", {{"key", info->id}, {"name", info->name}});
    return {};
}

Result<void> Controller::carry_out(const ProtectRequest& request, Plan& plan, Undo& undo,
                                   std::string& stays) {
    auto& h = plan.header;
    const Secret& first = plan.ring.at(h.keys.front().id);
    const auto place = plan.header_place();
    const Target target{plan.device, plan.claim, undo, stays};
    auto written = place ? write_on_device(target, *place, h, first, request.force)
                         : write_in_file(plan.header_file, h, first, undo);
    if (written && request.force)
        written = erase_others(target, h);
    if (!written)
        return written;
    if (auto remembered = remember_sequence(h); !remembered)
        return remembered;
    Volume v;
    v.header = h;
    v.name = h.name;
    v.device = plan.device.path;
    v.identity = plan.device.identity();
    v.header_file = plan.header_file;
    v.shim = plan.shim;
    const auto from_ring = [&](const volume::HeaderKey& key) -> Result<Secret> {
        return plan.ring.at(key.id).clone();
    };
    return bring_up(v, from_ring, request.force, std::move(plan.claim));
}

Result<VolumePtr> Controller::make_volume(const ProtectRequest& request, Plan& plan) {
    std::string stays;
    Undo undo;
    auto done = carry_out(request, plan, undo, stays);
    if (!done) {
        undo.run();
        return fail(done.error().code, done.error().reason + stays);
    }
    undo.done();
    log(Level::notice, "protected", {{"volume", plan.header.name}, {"device", plan.device.path}});
    return parts_.registry->find(plan.header.name);
}

Result<VolumePtr> Controller::protect(const ProtectRequest& request) {
    if (auto r = guard_.admit(request.device); !r)
        return tl::unexpected(r.error());
    auto plan = plan_protect(request);
    if (!plan)
        return tl::unexpected(plan.error());
    if (plan->new_key)
        if (auto made = make_key(*plan); !made)
            return tl::unexpected(made.error());
    auto done = make_volume(request, *plan);
    if (!done && plan->new_key)
        return fail(done.error().code, done.error().reason + "; key " +
                                           plan->header.keys[*plan->new_key].id +
                                           " was made and stays");
    return done;
}

} // namespace dek::kcm
