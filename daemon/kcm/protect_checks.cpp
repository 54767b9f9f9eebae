// SPDX-License-Identifier: Apache-2.0
// What `protect` would destroy or get in the way of.
#include <algorithm>

#include <unistd.h>

#include "kcm/lvm_filter.h"
#include "kcm/plan.h"
#include "kcm/signature.h"

namespace dek::kcm {
namespace {

constexpr std::uint64_t mib_lbas = 2048;

Result<void> check_no_header(const Device& device) {
    auto here = find_header(device, {}, Access::read);
    if (here)
        return fail(Errc::refused, device.path + " already holds volume " +
                                       here->found.copy.header.name + " (header at LBA " +
                                       std::to_string(here->site.lba) +
                                       "); --force writes over it");
    if (here.error().code == Errc::not_found)
        return {};
    return fail(Errc::refused, here.error().reason + "; --force writes over it");
}

tl::unexpected<Error> fail_signature(const Device& device, const Signature& s) {
    return fail(Errc::refused, device.path + " holds " + s.text() + " at byte " +
                                   std::to_string(s.byte) +
                                   "; --force goes ahead, and what it belongs to is lost");
}

bool is_inside(const volume::Header& header, const Signature& s) {
    const std::uint64_t lba = s.byte / 512;
    return std::any_of(header.ranges.begin(), header.ranges.end(), [&](const auto& r) {
        return lba >= r.lbas.first && lba - r.lbas.first < r.lbas.count;
    });
}

// The volume is the device one to one: only what lies in an encrypted range is lost.
Result<void> check_ranges_bare(const Device& device, const volume::Header& header) {
    auto whole = find_signatures(device.fd.get(), 0, device.lbas * 512, device.path);
    if (!whole)
        return tl::unexpected(whole.error());
    for (const auto& s : *whole)
        if (is_inside(header, s))
            return fail_signature(device, s);
    for (const auto& r : header.ranges) {
        auto within =
            find_signatures(device.fd.get(), r.lbas.first * 512, r.lbas.count * 512, device.path);
        if (!within)
            return tl::unexpected(within.error());
        if (!within->empty())
            return fail_signature(device, within->front());
    }
    return {};
}

// What is no signature may be data all the same, and a header is written over it.
Result<void> check_place_zero(const Device& device, const volume::Header& header) {
    if (header.place == volume::Place::detached)
        return {};
    const std::uint64_t count = volume::place_lbas(header.place);
    auto zero = is_zero(device, header.header_lba * 512, count * 512);
    if (!zero)
        return tl::unexpected(zero.error());
    return *zero ? Result<void>()
                 : fail(Errc::refused,
                        "there is data in LBAs " + std::to_string(header.header_lba) + "-" +
                            std::to_string(header.header_lba + count - 1) + " of " + device.path +
                            ", where the header would lie; --force writes over it");
}

// Of what becomes encrypted; and of the whole volume where it begins elsewhere than the device, so
// that nothing that lies there would be found again.
Result<void> check_ends_zero(const Device& device, const volume::Header& header) {
    std::vector<dek_range> parts;
    for (const auto& r : header.ranges)
        parts.push_back({header.offset + r.lbas.first, r.lbas.count});
    if (header.offset != 0)
        parts.push_back({header.offset, header.size});
    for (const auto& part : parts) {
        const std::uint64_t n = std::min<std::uint64_t>(part.count, mib_lbas);
        for (const std::uint64_t first : {part.first, part.first + part.count - n}) {
            auto zero = is_zero(device, first * 512, n * 512);
            if (!zero)
                return tl::unexpected(zero.error());
            if (!*zero)
                return fail(Errc::refused,
                            "there is data in LBAs " + std::to_string(first) + "-" +
                                std::to_string(first + n - 1) + " of " + device.path +
                                ", which would read as garbage; --force goes ahead all the same");
        }
    }
    return {};
}

} // namespace

Result<void> Controller::check_target(const ProtectRequest& request, Plan& plan) {
    if (plan.device.read_only)
        return fail(Errc::permission, plan.device.path + " is read-only");
    if (auto detached = check_detached(plan.device, std::nullopt); !detached)
        return detached;
    auto claimed = claim_unused(plan.device, parts_.kernel);
    if (!claimed)
        return tl::unexpected(claimed.error());
    plan.claim = std::move(*claimed);
    // What force would go over.
    for (const auto& [lba, there] : probe_headers(plan.device)) {
        if (!there && there.error().code == Errc::timeout)
            return tl::unexpected(there.error());
        if (there)
            if (auto r = check_detached(plan.device, there->found.copy.header.uuid); !r)
                return r;
    }
    const auto& file = request.header.file;
    if (file.empty())
        return {};
    if (file[0] != '/')
        return fail(Errc::invalid_argument, "\"" + file + "\" is not an absolute path");
    if (::access(file.c_str(), F_OK) == 0)
        return fail(Errc::exists, "header file " + file + " exists already");
    const std::string directory = file.substr(0, file.rfind('/') + 1);
    if (::access(directory.c_str(), W_OK) != 0)
        return fail_errno(errno, "header file " + file + " cannot be made");
    return {};
}

Result<void> Controller::check_physical_volume(const Plan& plan) {
    auto signatures =
        find_signatures(plan.device.fd.get(), 0, plan.device.lbas * 512, plan.device.path);
    if (!signatures)
        return tl::unexpected(signatures.error());
    const bool pv = std::any_of(signatures->begin(), signatures->end(),
                                [](const auto& s) { return s.type == "LVM2_member"; });
    const auto names = names_of_device(plan.device.path);
    if (!pv || lvm_rejects(names, parts_.lvm_files))
        return {};
    return fail(Errc::refused,
                plan.device.path +
                    " is a physical volume of LVM, which would go on using the raw "
                    "disk; first add to section `devices` of /etc/lvm/lvmlocal.conf: " +
                    lvm_filter_line(names));
}

Result<void> Controller::check_contents(const ProtectRequest& request, const Plan& plan) {
    const bool one_to_one = plan.header.place != volume::Place::leading;
    if (one_to_one) // not even --force: nothing else keeps LVM off
        if (auto r = check_physical_volume(plan); !r)
            return r;
    if (request.force)
        return {};
    if (auto r = check_no_header(plan.device); !r)
        return r;
    if (one_to_one) {
        if (auto r = check_ranges_bare(plan.device, plan.header); !r)
            return r;
        if (auto r = check_place_zero(plan.device, plan.header); !r)
            return r;
        return check_ends_zero(plan.device, plan.header);
    }
    auto signatures =
        find_signatures(plan.device.fd.get(), 0, plan.device.lbas * 512, plan.device.path);
    if (!signatures)
        return tl::unexpected(signatures.error());
    if (!signatures->empty())
        return fail_signature(plan.device, signatures->front());
    if (auto r = check_place_zero(plan.device, plan.header); !r)
        return r;
    return check_ends_zero(plan.device, plan.header);
}

} // namespace dek::kcm
