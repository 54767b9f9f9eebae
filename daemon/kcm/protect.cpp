// SPDX-License-Identifier: Apache-2.0
// The second half of `protect`: keys, header, attached, in this order; each durable before the
// next.
#include <cerrno>

#include <fcntl.h>
#include <unistd.h>

#include "base/durable.h"
#include "base/log.h"
#include "kcm/plan.h"
#include "kcm/undo.h"

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

void put_back(const Device& device, std::uint64_t byte, const std::vector<std::uint8_t>& before) {
    if (auto r = write_bytes(device.fd.get(), byte, before); !r)
        log_error("old-contents-not-put-back", r.error(), {{"device", device.path}});
}

// Taken back by `undo`. With force over whatever header is there, and its sequence number with it.
Result<void> write_on_device(const Device& device, const dek_range& place, volume::Header& header,
                             const Secret& key, bool force, Undo& undo) {
    auto before = read_bytes(device, place.first * 512, place.count * 512);
    if (!before)
        return tl::unexpected(before.error());
    const volume::Location at{device.fd.get(), place.first * 512, false};
    undo.add([&device, place, bytes = std::move(*before)] {
        put_back(device, place.first * 512, bytes);
    });
    if (!force)
        return volume::write(at, header, key);
    auto sequence = volume::overwrite(at, header, key);
    if (!sequence)
        return tl::unexpected(sequence.error());
    header.sequence = *sequence;
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

Result<VolumePtr> Controller::carry_out(const ProtectRequest& request, Plan& plan) {
    auto& h = plan.header;
    const Secret& first = plan.ring.at(h.keys.front().id);
    Undo undo;
    const auto place = plan.header_place();
    auto written = place ? write_on_device(plan.device, *place, h, first, request.force, undo)
                         : write_in_file(plan.header_file, h, first, undo);
    if (!written)
        return tl::unexpected(written.error());
    if (auto remembered = remember_sequence(h); !remembered)
        return tl::unexpected(remembered.error());
    Volume v;
    v.header = h;
    v.name = h.name;
    v.device = plan.device.path;
    v.identity = plan.device.identity();
    v.header_file = plan.header_file;
    const auto from_ring = [&](const volume::HeaderKey& key) -> Result<Secret> {
        return plan.ring.at(key.id).clone();
    };
    if (auto up = bring_up(v, from_ring, request.force); !up)
        return tl::unexpected(up.error());
    undo.done();
    log(Level::notice, "protected", {{"volume", v.name}, {"device", v.device}});
    return parts_.registry->find(v.name);
}

Result<VolumePtr> Controller::protect(const ProtectRequest& request) {
    auto plan = plan_protect(request);
    if (!plan)
        return tl::unexpected(plan.error());
    if (plan->new_key)
        if (auto made = make_key(*plan); !made)
            return tl::unexpected(made.error());
    auto done = carry_out(request, *plan);
    if (!done && plan->new_key)
        return fail(done.error().code, done.error().reason + "; key " +
                                           plan->header.keys[*plan->new_key].id +
                                           " was made and stays");
    return done;
}

} // namespace dek::kcm
