// SPDX-License-Identifier: Apache-2.0
// A volume takes over its device's new size, or part of it.
#include "base/log.h"
#include "kcm/controller.h"
#include "kcm/layers.h"

namespace dek::kcm {
namespace {

// What was encrypted to the very end stays so: nothing new is ever plain by itself.
Result<void> fit_ranges(volume::Header& next, std::uint64_t old_size) {
    if (next.ranges.empty())
        return {};
    auto& last = next.ranges.back().lbas;
    const std::uint64_t end = last.first + last.count;
    if (end == old_size && next.size > old_size)
        last.count += next.size - old_size;
    else if (end > next.size)
        return fail(Errc::refused, "LBAs up to " + std::to_string(end - 1) +
                                       " are encrypted; a volume cannot be cut there");
    return {};
}

HeaderQuery header_query(const Volume& v) {
    if (!v.header_file.empty())
        return {std::nullopt, v.header_file};
    return {v.header.header_lba, ""};
}

} // namespace

Result<void> Controller::plan_resize(const Volume& v, const Device& device,
                                     std::optional<std::uint64_t> lbas, volume::Header& next) {
    const std::uint64_t block = v.header.logical_block / 512;
    if (device.lbas < v.header.offset + block)
        return fail(Errc::invalid_argument, device.path + " is too small");
    const std::uint64_t room = (device.lbas - v.header.offset) / block * block;
    const std::uint64_t size = lbas.value_or(room);
    if (size == 0 || size > room || size % block != 0)
        return fail(Errc::invalid_argument, "the size has to be a multiple of " +
                                                std::to_string(block) + " LBAs, at most " +
                                                std::to_string(room));
    next = v.header;
    next.size = size;
    next.device_lbas = device.lbas;
    next.sequence++;
    if (auto r = fit_ranges(next, v.header.size); !r)
        return r;
    return volume::validate(next);
}

Result<void> Controller::write_header(const Volume& v, const Device& device,
                                      const volume::Header& next) {
    auto key = parts_.keys->material(next.keys.front());
    if (!key)
        return tl::unexpected(key.error());
    auto site = header_site(device, header_query(v), Access::write);
    if (!site)
        return tl::unexpected(site.error());
    return volume::write(site->location, next, *key);
}

// A write that failed half way may have left a newer header than the one in force: that one counts.
Result<void> Controller::catch_up(Volume& v, const Device& device) {
    auto now = read_current(device, header_query(v), v.header.uuid);
    if (!now)
        return tl::unexpected(now.error());
    if (now->sequence == v.header.sequence)
        return {};
    auto endpoint = site(v).shim->find(v.header.uuid);
    if (!endpoint || !*endpoint)
        return fail(Errc::unavailable, "the shim does not serve volume " + v.name);
    v.header = *now;
    if (auto r = restore_service(v, **endpoint); !r)
        return r;
    parts_.registry->publish(v);
    return {};
}

// The endpoint's size and the header. What an endpoint grows by is fenced until a map says more,
// and can be cut off again until then: so the map comes last, with establish().
Result<void> Controller::take_size(Volume& v, const Device& device, const volume::Header& next) {
    if (auto r = site(v).backend->resize(*site(v).shim, v.node(), next.size); !r)
        return r;
    auto written = write_header(v, device, next);
    if (written) {
        v.header = next;
        if (auto r = remember_sequence(next); !r)
            log_error("sequence-not-remembered", r.error(), {{"volume", v.name}});
        return {};
    }
    log_error("header-not-written", written.error(), {{"volume", v.name}});
    if (auto r = catch_up(v, device); !r)
        v.verified = false; // whoever comes next reads it again
    if (!v.verified || v.header.sequence != next.sequence) {
        if (auto r = site(v).backend->resize(*site(v).shim, v.node(), v.header.size); !r)
            log_error("size-not-taken-back", r.error(), {{"volume", v.name}});
        parts_.registry->publish(v);
        return written;
    }
    v.reason = "its header was only written in part: " + written.error().reason;
    return {};
}

Result<VolumePtr> Controller::resize(const std::string& name, std::optional<std::uint64_t> lbas) {
    const auto found = parts_.registry->find(name);
    if (!found)
        return fail(Errc::not_found, "no volume named " + name + " is attached");
    if (found->state != VolumeState::up || found->read_only)
        return fail(Errc::unavailable,
                    "volume " + name + " is " +
                        (found->read_only ? "read-only" : state_name(found->state)));
    Volume v = *found;
    auto device = open_device(v.device, Access::write);
    if (!device)
        return tl::unexpected(device.error());
    if (auto r = catch_up(v, *device); !r)
        return tl::unexpected(r.error());
    v.verified = true;
    v.reason.clear();
    volume::Header next;
    if (auto r = plan_resize(v, *device, lbas, next); !r)
        return tl::unexpected(r.error());
    if (next.size == v.header.size)
        return parts_.registry->find(name);
    if (auto r = take_size(v, *device, next); !r)
        return tl::unexpected(r.error());
    const auto find_key = [this](const volume::HeaderKey& key) {
        return parts_.keys->material(key);
    };
    auto keyed = establish(*site(v).shim, v.header, find_key);
    auto scaled = keyed ? site(v).backend->rescale(v.node()) : keyed;
    if (!scaled)
        v.reason = scaled.error().reason;
    parts_.registry->publish(v);
    if (!scaled)
        return fail(scaled.error().code,
                    "the volume has its new size, but " + scaled.error().reason);
    log(Level::notice, "resized", {{"volume", name}, {"lbas", v.header.size}});
    return parts_.registry->find(name);
}

} // namespace dek::kcm
