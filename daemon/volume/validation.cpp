// SPDX-License-Identifier: Apache-2.0
// What a header may say.
#include <algorithm>
#include <bit>
#include <string>
#include <unordered_set>

#include <nlohmann/json.hpp>

#include "volume/header.h"
#include "volume/layout.h"
#include "volume/payload.h"
#include "volume/rule.h"

namespace dek::volume {
namespace {

constexpr std::uint32_t sector = 512;

tl::unexpected<Error> invalid(Rule rule, const std::string& detail = "") {
    return broken(rule, detail, Errc::invalid_argument);
}

// "100-199", as ranges are written everywhere: inclusive.
std::string text_of(const dek_range& range) {
    return std::to_string(range.first) + "-" + std::to_string(range.first + range.count - 1);
}

bool unit_is_valid(std::uint32_t bytes) {
    return std::has_single_bit(bytes) && bytes >= 512 && bytes <= 4096;
}

bool key_id_is_valid(const std::string& id) {
    const auto control = [](unsigned char c) { return c < 0x20 || c == 0x7f; };
    return !id.empty() && id.size() <= key_id_max_bytes &&
           std::none_of(id.begin(), id.end(), control) && is_utf8(id);
}

Result<void> check_identity(const Header& header) {
    if (header.sequence == 0 || header.sequence > max_sequence)
        return invalid(Rule::sequence);
    if (header.uuid == Uuid{})
        return invalid(Rule::uuid);
    if (!name_is_valid(header.name))
        return invalid(Rule::name);
    const auto& policy = header.endpoint_policy;
    if (policy != "prefer" && policy != "hardware-only" && policy != "never")
        return invalid(Rule::endpoint);
    return {};
}

// Sizes first: all that follows adds them up without fear of overflow.
Result<void> check_sizes(const Header& header) {
    if (header.device_lbas == 0 || header.device_lbas > max_lbas)
        return invalid(Rule::device_size);
    if (!unit_is_valid(header.data_unit) || !unit_is_valid(header.logical_block) ||
        header.logical_block < header.data_unit)
        return invalid(Rule::units);
    if (header.offset > header.device_lbas)
        return invalid(Rule::volume_offset);
    if (header.size == 0 || header.size % (header.logical_block / sector) != 0 ||
        header.size > header.device_lbas - header.offset)
        return invalid(Rule::volume_size);
    return {};
}

Result<void> check_place(const Header& header) {
    const std::uint64_t block = header.logical_block / sector;
    const bool leading = header.place == Place::leading;
    if (leading ? header.offset < default_data_lba || header.offset % block != 0
                : header.offset != 0)
        return invalid(Rule::volume_offset);
    if (header.place != Place::in_place)
        return header.header_lba == 0 ? Result<void>{} : invalid(Rule::header_place);
    if (header.header_lba % block != 0 || header.device_lbas < header_lbas ||
        header.header_lba > header.device_lbas - header_lbas)
        return invalid(Rule::header_place);
    return {};
}

Result<void> check_keys(const Header& header) {
    if (header.keys.empty() || header.keys.size() > max_keys)
        return invalid(Rule::key_count);
    std::unordered_set<std::string> seen;
    for (const HeaderKey& key : header.keys) {
        if (!key_id_is_valid(key.id))
            return invalid(Rule::key_id);
        if (!seen.insert(key.id).second)
            return invalid(Rule::key_duplicate, key.id);
        if (!name_is_valid(key.provider))
            return invalid(Rule::key_provider);
        if (key.bits != 256 && key.bits != 512)
            return invalid(Rule::key_bits, key.id);
    }
    return {};
}

bool overlaps_header(const Header& header, const dek_range& range) {
    return header.place == Place::in_place && range.first < header.header_lba + header_lbas &&
           range.first + range.count > header.header_lba;
}

Result<void> check_range(const Header& header, const EncryptedRange& range, std::uint64_t free) {
    const std::uint64_t unit = std::max(header.data_unit, header.logical_block) / sector;
    const dek_range& lbas = range.lbas;
    if (lbas.count == 0)
        return invalid(Rule::range_empty, "at LBA " + std::to_string(lbas.first));
    if (lbas.first >= header.size || lbas.count > header.size - lbas.first)
        return invalid(Rule::range_outside, "from LBA " + std::to_string(lbas.first) +
                                                ", the volume has " + std::to_string(header.size));
    if (lbas.first < free)
        return invalid(Rule::range_order, text_of(lbas));
    if (lbas.first % unit != 0 || lbas.count % unit != 0)
        return invalid(Rule::range_alignment, text_of(lbas) + ", they are at multiples of " +
                                                  std::to_string(unit) + " LBAs");
    if (overlaps_header(header, lbas))
        return invalid(Rule::range_header, text_of(lbas) + ", the header has " +
                                               text_of({header.header_lba, header_lbas}));
    if (range.key >= header.keys.size())
        return invalid(Rule::range_key, text_of(lbas));
    return {};
}

Result<void> check_ranges(const Header& header) {
    if (header.ranges.size() > max_ranges)
        return invalid(Rule::range_count);
    std::uint64_t free = 0; // the first LBA after the ranges so far
    for (const EncryptedRange& range : header.ranges) {
        if (auto checked = check_range(header, range, free); !checked)
            return checked;
        free = range.lbas.first + range.lbas.count;
    }
    return {};
}

Result<void> check_rekey(const Header& header) {
    const bool flagged = (header.incompatible & feature_rekey) != 0;
    if (flagged != !header.rekey_state.empty())
        return invalid(Rule::features);
    if (!flagged)
        return {};
    if (header.rekey_state.size() > rekey_max_bytes)
        return invalid(Rule::rekey);
    const auto state = parse_json(header.rekey_state, json_max_depth - 1);
    return state && state->is_object() ? Result<void>{} : invalid(Rule::rekey);
}

} // namespace

bool name_is_valid(std::string_view name) {
    const auto allowed = [](char c) {
        return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
               c == '.' || c == '_' || c == '-';
    };
    return !name.empty() && name.size() <= name_max_bytes && name.front() != '.' &&
           std::all_of(name.begin(), name.end(), allowed);
}

Result<void> validate(const Header& header) {
    for (const auto check :
         {check_identity, check_sizes, check_place, check_keys, check_ranges, check_rekey})
        if (auto checked = check(header); !checked)
            return checked;
    return {};
}

Result<void> check_device(const Header& header, const Location& at, std::uint64_t device_lbas) {
    const bool detached = header.place == Place::detached;
    if (detached != at.header_file)
        return fail(Errc::refused,
                    detached ? "the header found on the device says that it belongs in a "
                               "file of its own"
                             : "the header in the file says that it belongs on the device");
    if (!detached && header.header_lba * sector != at.byte)
        return fail(Errc::refused, "the header says that it belongs at LBA " +
                                       std::to_string(header.header_lba) + ", not here");
    const std::uint64_t header_end =
        header.place == Place::in_place ? header.header_lba + header_lbas : 0;
    const std::uint64_t needed = std::max(header.offset + header.size, header_end);
    if (device_lbas < needed)
        return fail(Errc::refused, "the device is too small for the volume: it has " +
                                       std::to_string(device_lbas) + " LBAs, " +
                                       std::to_string(needed) + " are needed");
    return {};
}

} // namespace dek::volume
