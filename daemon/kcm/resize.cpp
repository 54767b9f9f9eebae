// SPDX-License-Identifier: Apache-2.0
// A volume takes over its device's new size, or part of it.
#include "base/log.h"
#include "kcm/controller.h"
#include "kcm/device_lbas.h"

namespace dek::kcm {
namespace {

// What was encrypted to the very end stays so: nothing new is ever plain by itself. A header at the
// end is not what makes a volume end plain.
void extend_ranges(volume::Header& next, std::uint64_t old_size) {
    auto& last = next.ranges.back();
    const std::uint64_t end = last.lbas.first + last.lbas.count;
    const dek_range hole = header_units(next);
    const std::uint64_t behind = hole.first + hole.count;
    if (end == old_size)
        last.lbas.count += next.size - old_size;
    else if (hole.count > 0 && end == hole.first && behind >= old_size && behind < next.size)
        next.ranges.push_back({{behind, next.size - behind}, last.key});
}

// What a cut must leave: the header, and what is encrypted.
Result<void> check_cut(const volume::Header& next) {
    const dek_range hole = header_units(next);
    if (next.size < hole.first + hole.count)
        return fail(Errc::refused, "the header lies at LBA " + std::to_string(next.header_lba) +
                                       "; a volume cannot be cut there");
    if (next.ranges.empty())
        return {};
    const auto& last = next.ranges.back().lbas;
    return last.first + last.count <= next.size
               ? Result<void>()
               : fail(Errc::refused, "LBAs up to " + std::to_string(last.first + last.count - 1) +
                                         " are encrypted; a volume cannot be cut there");
}

Result<void> fit_ranges(volume::Header& next, std::uint64_t old_size) {
    if (next.size <= old_size)
        return next.size < old_size ? check_cut(next) : Result<void>();
    if (!next.ranges.empty())
        extend_ranges(next, old_size);
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
    v.header = *now;
    if (auto r = follow_header(v); !r)
        return r;
    parts_.registry->publish(v);
    return {};
}

// What the endpoint serves is brought in line with the header in force.
Result<void> Controller::follow_header(Volume& v) {
    if (v.encryptor != layers::Encryptor::top)
        return resume_lines(v, true);
    auto endpoint = site(v).shim->find(v.header.uuid);
    if (!endpoint)
        return tl::unexpected(endpoint.error());
    if (!*endpoint)
        return fail(Errc::unavailable, "the shim does not serve volume " + v.name);
    return restore_service(v, **endpoint);
}

// The header. What grows, the endpoint does first: it is fenced until a map says more, and can be
// cut off again until then. What shrinks, the header does first: nothing that may have to stay is
// fenced for a moment.
Result<void> Controller::take_size(Volume& v, const Device& device, const volume::Header& next) {
    if (next.size > v.header.size && v.encryptor == layers::Encryptor::top)
        if (auto r = site(v).backend->resize(*site(v).shim, v.node(), next.size); !r)
            return r;
    auto written = write_header(v, device, next);
    if (written) {
        v.header = next;
        return {};
    }
    log_error("header-not-written", written.error(), {{"volume", v.name}});
    if (auto r = catch_up(v, device); !r)
        v.verified = false; // whoever comes next reads it again
    if (!v.verified || v.header.sequence != next.sequence) {
        if (auto r = follow_header(v); !r)
            log_error("size-not-taken-back", r.error(), {{"volume", v.name}});
        parts_.registry->publish(v);
        return written;
    }
    v.reason = "its header was only written in part: " + written.error().reason;
    return {};
}

// All that follows from a header that is in force, as far as it goes; the first trouble is told.
Result<void> Controller::settle_size(Volume& v) {
    auto done = remember_sequence(v.header);
    auto served = follow_header(v);
    if (served)
        served = site(v).backend->rescale(v.node());
    return done ? served : done;
}

// What is cut off may be a filesystem's.
Result<Fd> Controller::keep_closed(const Volume& v, const volume::Header& next, bool force) {
    if (force || next.size >= v.header.size)
        return Fd();
    auto seized = site(v).backend->seize(v.node(), std::chrono::seconds(1));
    if (!seized)
        return fail(seized.error().code, "volume " + v.name + " would shrink while it is in use: " +
                                             seized.error().reason +
                                             "; --force cuts it all the same");
    return seized;
}

Result<VolumePtr> Controller::resize(const std::string& name, std::optional<std::uint64_t> lbas,
                                     bool force) {
    const auto found = parts_.registry->find(name);
    if (!found)
        return fail(Errc::not_found, "no volume named " + name + " is attached");
    if (found->state != VolumeState::up || found->read_only)
        return fail(Errc::unavailable,
                    "volume " + name + " is " +
                        (found->read_only ? "read-only" : state_name(found->state)));
    Volume v = *found;
    if (auto r = guard_.admit(v.device); !r)
        return tl::unexpected(r.error());
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
    const auto closed = keep_closed(v, next, force); // until all have the new size
    if (!closed)
        return tl::unexpected(closed.error());
    // A new size of the device alone as well: it is what tells the device of a detached header.
    if (next.size != v.header.size || next.device_lbas != v.header.device_lbas)
        if (auto r = take_size(v, *device, next); !r)
            return tl::unexpected(r.error());
    auto settled = settle_size(v); // also where the size is right: it may not have come that far
    if (!settled)
        v.reason = settled.error().reason;
    parts_.registry->publish(v);
    if (!settled)
        return fail(settled.error().code,
                    "the volume's header has its new size, but " + settled.error().reason);
    log(Level::notice, "resized", {{"volume", name}, {"lbas", v.header.size}});
    return parts_.registry->find(name);
}

} // namespace dek::kcm
