// SPDX-License-Identifier: Apache-2.0
// The first half of `protect`: from what was asked to a header, with nothing written yet.
#include <algorithm>

#include <dek/lunmap.hpp>

#include "kcm/plan.h"

namespace dek::kcm {
namespace {

constexpr std::uint64_t default_in_place_lba =
    1024;                              // where probing looks, clear of what starts a disk
constexpr std::uint64_t page_lbas = 8; // caches and disks may rewrite 4096 bytes at once
constexpr const char* key_to_come = "to-be-made"; // stands for the ID of a key that is not made yet

std::uint32_t default_unit(const ProtectRequest& request, const Device& device) {
    // What lies there in place was made for blocks of the device's size.
    return request.in_place ? std::min<std::uint32_t>(device.logical_block, 4096) : 4096;
}

Result<void> check_unit(std::uint32_t unit, const Device& device) {
    if (unit != 512 && unit != 1024 && unit != 2048 && unit != 4096)
        return fail(Errc::invalid_argument, "a data unit has 512, 1024, 2048 or 4096 bytes");
    if (device.logical_block > 4096 || device.lbas < unit / 512)
        return fail(Errc::unsupported, device.path + " (" + std::to_string(device.logical_block) +
                                           "-byte blocks) cannot have data units of " +
                                           std::to_string(unit) + " bytes");
    return {};
}

// In place the blocks that the header lies in stay plain.
std::string everything_of(const volume::Header& h) {
    if (h.place != volume::Place::in_place)
        return "all";
    const std::uint64_t block = h.logical_block / 512;
    const std::uint64_t first = h.header_lba / block * block;
    const std::uint64_t end = (h.header_lba + volume::header_lbas + block - 1) / block * block;
    std::string ranges;
    if (first > 0)
        ranges = "0-" + std::to_string(first - 1);
    if (end < h.size)
        ranges += (ranges.empty() ? "" : ",") + std::to_string(end) + "-";
    return ranges;
}

} // namespace

Result<void> Controller::plan_layout(const ProtectRequest& request, Plan& plan) {
    auto& h = plan.header;
    const std::uint32_t unit = request.data_unit.value_or(default_unit(request, plan.device));
    if (auto allowed = check_unit(unit, plan.device); !allowed)
        return allowed;
    if (request.header.lba && !request.header.file.empty())
        return fail(Errc::invalid_argument, "the header is either at an LBA or in a file");
    if (request.header.lba && !request.in_place)
        return fail(Errc::invalid_argument, "a header at an LBA of its own goes with --in-place");
    if (request.in_place && !request.header.file.empty())
        return fail(Errc::invalid_argument,
                    "a header in a file goes without --in-place: the volume is the whole device "
                    "then, one to one");
    h.uuid = volume::random_uuid();
    h.sequence = 1;
    h.name = request.name;
    h.data_unit = unit;
    h.logical_block = std::max(unit, plan.device.logical_block);
    h.tweak = request.tweak;
    h.endpoint_policy = request.endpoint;
    h.device_lbas = plan.device.lbas;
    plan.header_file = request.header.file;
    if (!plan.header_file.empty()) {
        h.place = volume::Place::detached;
    } else if (request.in_place) {
        h.place = volume::Place::in_place;
        h.header_lba = request.header.lba.value_or(default_in_place_lba);
    } else {
        h.place = volume::Place::leading;
        h.offset = volume::default_data_lba;
    }
    const std::uint64_t block_lbas = h.logical_block / 512;
    if (h.device_lbas < h.offset + block_lbas)
        return fail(Errc::invalid_argument,
                    plan.device.path + " is too small: the header takes 1 MiB");
    h.size = (h.device_lbas - h.offset) / block_lbas * block_lbas;
    if (h.place == volume::Place::in_place &&
        (h.size < volume::header_lbas || h.header_lba > h.size - volume::header_lbas))
        return fail(Errc::invalid_argument, "a header at LBA " + std::to_string(h.header_lba) +
                                                " does not fit on " + plan.device.path);
    if (h.header_lba % page_lbas != 0)
        return fail(Errc::invalid_argument, "a new header begins at a multiple of " +
                                                std::to_string(page_lbas) +
                                                " LBAs, so that it shares no page with data");
    return {};
}

// The index in header.keys of a key by ID or name, or of the one to be made.
Result<void> Controller::plan_key(const std::string& key, Plan& plan, std::uint16_t& index) {
    auto& keys = plan.header.keys;
    if (key.empty()) {
        if (!plan.new_key) {
            plan.new_key = keys.size();
            keys.push_back({key_to_come, parts_.keys->provider(), 512, {}, {}});
        }
        index = static_cast<std::uint16_t>(*plan.new_key);
        return {};
    }
    auto info = parts_.keys->info(key);
    if (!info)
        return tl::unexpected(info.error());
    for (std::size_t i = 0; i < keys.size(); i++)
        if (keys[i].id == info->id) {
            index = static_cast<std::uint16_t>(i);
            return {};
        }
    if (info->state != keys::KeyState::active)
        return fail(Errc::refused, "key " + key + " is " + keys::state_name(info->state) +
                                       "; only an active key may protect something new");
    if (info->algorithm != "AES" || (info->bits != 256 && info->bits != 512))
        return fail(Errc::invalid_argument,
                    "key " + key + " is not an AES-XTS key of 256 or 512 bits");
    auto material = parts_.keys->material(info->id);
    if (!material)
        return tl::unexpected(material.error());
    index = static_cast<std::uint16_t>(keys.size());
    keys.push_back(volume::make_header_key(info->id, parts_.keys->provider(), *material));
    plan.ring[info->id] = std::move(*material);
    return {};
}

Result<void> Controller::plan_ranges(const ProtectRequest& request, Plan& plan) {
    auto wanted = request.encrypt;
    if (wanted.empty())
        wanted.push_back({everything_of(plan.header), ""});
    auto& ranges = plan.header.ranges;
    for (const auto& entry : wanted) {
        auto map = LunMap::parse(entry.ranges, plan.header.size);
        if (!map)
            return fail(Errc::invalid_argument, map.error());
        std::uint16_t index = 0;
        if (auto key = plan_key(entry.key.empty() ? request.key : entry.key, plan, index); !key)
            return key;
        for (const auto& range : map->ranges())
            ranges.push_back({range, index});
    }
    std::sort(ranges.begin(), ranges.end(),
              [](const auto& a, const auto& b) { return a.lbas.first < b.lbas.first; });
    return {};
}

Result<Controller::Plan> Controller::plan_protect(const ProtectRequest& request) {
    if (!volume::name_is_valid(request.name))
        return fail(Errc::invalid_argument, "\"" + request.name +
                                                "\" cannot be the name of a volume (1 to 64 of "
                                                "A-Z a-z 0-9 . _ -, not starting with a dot)");
    if (auto free = check_name_free(request.name); !free)
        return tl::unexpected(free.error());
    auto device = open_device(request.device, Access::write);
    if (!device)
        return tl::unexpected(device.error());
    Plan plan;
    plan.device = std::move(*device);
    if (auto usable = check_target(request, plan); !usable)
        return tl::unexpected(usable.error());
    if (auto laid = plan_layout(request, plan); !laid)
        return tl::unexpected(laid.error());
    auto shim = choose_shim(request.shim, request.endpoint);
    if (!shim)
        return tl::unexpected(shim.error());
    plan.shim = *shim;
    const auto nothing = [](keys::Keystore&) -> Result<void> { return {}; };
    if (auto keystore = parts_.seat->with(nothing); !keystore)
        return tl::unexpected(keystore.error());
    if (parts_.seat->sealed())
        return fail(Errc::locked, "the keystore is sealed; dekctl keystore unlock opens it");
    if (auto mapped = plan_ranges(request, plan); !mapped)
        return tl::unexpected(mapped.error());
    if (auto valid = volume::validate(plan.header); !valid)
        return tl::unexpected(valid.error());
    if (auto harmless = check_contents(request, plan); !harmless)
        return tl::unexpected(harmless.error());
    return plan;
}

} // namespace dek::kcm
