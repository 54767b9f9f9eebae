// SPDX-License-Identifier: Apache-2.0
#include "kcm/device_lbas.h"

#include <algorithm>

namespace dek::kcm {
namespace {

// Ranges of a valid header are sorted and apart, and shifting them by the offset stays within the
// device.
LunMap map_of(std::vector<dek_range> ranges) {
    return LunMap::from(std::move(ranges)).value();
}

} // namespace

dek_geometry tweak_geometry(const volume::Header& header) {
    dek_geometry g{};
    g.data_unit = header.data_unit;
    g.tweak_rule = static_cast<__u8>(header.tweak);
    g.device_origin = header.offset;
    g.logical_origin = 0;
    return g;
}

std::uint64_t tweak_of(const volume::Header& header, std::uint64_t volume_lba) {
    const std::uint64_t lbas_per_unit = header.data_unit / 512;
    const std::uint64_t unit = volume_lba / lbas_per_unit;
    return header.tweak == volume::TweakRule::unit ? unit : unit * lbas_per_unit;
}

LunMap device_map_of_key(const volume::Header& header, std::size_t index) {
    const LinearLayer layer(header);
    std::vector<dek_range> ranges;
    for (const auto& range : header.ranges)
        if (range.key == index)
            ranges.push_back(layer.to_device(range.lbas));
    return map_of(std::move(ranges)).merged();
}

LunMap encrypted_device_map(const volume::Header& header) {
    const LinearLayer layer(header);
    std::vector<dek_range> ranges;
    for (const auto& range : header.ranges)
        ranges.push_back(layer.to_device(range.lbas));
    return map_of(std::move(ranges)).merged();
}

dek_range header_units(const volume::Header& h) {
    if (h.place != volume::Place::in_place)
        return {0, 0};
    const std::uint64_t unit = h.data_unit / 512;
    const std::uint64_t first = h.header_lba / unit * unit;
    return {first, (h.header_lba + volume::header_lbas + unit - 1) / unit * unit - first};
}

std::vector<dek_map_entry> must_encrypt_map(const volume::Header& header) {
    std::vector<dek_map_entry> entries;
    const LunMap encrypted = encrypted_device_map(header);
    for (const auto& range : encrypted.ranges())
        entries.push_back({range.first, range.count, DEK_MAP_ENCRYPT, 0});
    if (header.place == volume::Place::in_place)
        entries.push_back({header.header_lba, volume::header_lbas, DEK_MAP_RESERVED, 0});
    std::sort(entries.begin(), entries.end(),
              [](const auto& a, const auto& b) { return a.first < b.first; });
    return entries;
}

} // namespace dek::kcm
