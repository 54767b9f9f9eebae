// SPDX-License-Identifier: Apache-2.0
#include "kcm/pv_label.h"

#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include <dek/platform.h>

namespace dek::kcm {
namespace {

using Bytes = std::span<const std::uint8_t>;

constexpr std::size_t sector = 512;
// The label: "LABELONE", its own sector, a checksum of all from the next field to the end of the
// sector, where its contents begin, "LVM2 001".
constexpr std::size_t at_sector = 8, at_checksum = 16, at_contents = 20, at_type = 24,
                      label_size = 32;
// The contents: a UUID, the device's size, then data areas, then metadata areas, each list ended
// by an area at 0.
constexpr std::size_t at_areas = 32 + 8, area_size = 16;

bool has(Bytes bytes, std::size_t at, std::string_view text) {
    return std::memcmp(bytes.data() + at, text.data(), text.size()) == 0;
}

// CRC-32 as LVM begins it, and without a last inversion.
std::uint32_t checksum(Bytes bytes) {
    std::uint32_t crc = 0xf597a6cf;
    for (const auto byte : bytes) {
        crc ^= byte;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return crc;
}

tl::unexpected<Error> nonsense(const std::string& why) {
    return fail(Errc::corrupt, "the label of the physical volume " + why);
}

std::optional<std::size_t> find_label(Bytes head) {
    for (std::size_t i = 0; i < pv_label_bytes / sector && (i + 1) * sector <= head.size(); i++) {
        const auto label = head.subspan(i * sector, sector);
        if (has(label, 0, "LABELONE") && dek_get_le64(label.data() + at_sector) == i)
            return i;
    }
    return std::nullopt;
}

// In LBAs; 0 bytes of data are all to the device's end.
Result<dek_range> range_of(std::uint64_t first, std::uint64_t bytes, std::uint64_t lbas) {
    const std::uint64_t from = first / sector, count = bytes / sector;
    if (first % sector || bytes % sector || from >= lbas || count > lbas - from)
        return nonsense("has an area outside the device");
    return dek_range{from, count ? count : lbas - from};
}

// One list of areas; `at` moves behind it.
Result<LunMap> read_areas(Bytes label, std::size_t& at, std::uint64_t lbas) {
    LunMap all;
    for (;; at += area_size) {
        if (at + area_size > label.size())
            return nonsense("has a list without an end");
        const auto first = dek_get_le64(label.data() + at);
        if (first == 0)
            break;
        auto range = range_of(first, dek_get_le64(label.data() + at + 8), lbas);
        if (!range)
            return tl::unexpected(range.error());
        all = all.unite(LunMap::from({*range}).value());
    }
    at += area_size;
    return all;
}

} // namespace

Result<LunMap> pv_data_area(Bytes head, std::uint64_t lbas) {
    const auto which = find_label(head);
    if (!which)
        return fail(Errc::not_found, "is no physical volume of LVM");
    const auto label = head.subspan(*which * sector, sector);
    if (dek_get_le32(label.data() + at_checksum) != checksum(label.subspan(at_contents)))
        return nonsense("is damaged");
    if (!has(label, at_type, "LVM2 001"))
        return nonsense("is of another kind than LVM2's");
    const std::size_t contents = dek_get_le32(label.data() + at_contents);
    if (contents < label_size || contents > sector)
        return nonsense("does not say where it goes on");
    std::size_t at = contents + at_areas;
    const auto data = read_areas(label, at, lbas);
    const auto metadata = data ? read_areas(label, at, lbas) : data;
    if (!metadata)
        return metadata;
    const auto labels = LunMap::from({{0, pv_label_bytes / sector}}).value();
    return data->subtract(*metadata).subtract(labels).merged();
}

} // namespace dek::kcm
