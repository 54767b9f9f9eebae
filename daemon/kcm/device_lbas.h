// SPDX-License-Identifier: Apache-2.0
// How LBAs of the volume become LBAs of the device beneath, and what goes along with them. One
// layer today: the linear shift of a volume that starts at `offset` of its device.
#pragma once

#include <vector>

#include <dek/codec.h>
#include <dek/ioctl.h>
#include <dek/lunmap.hpp>

#include "volume/header.h"

namespace dek::kcm {

// Of a valid header (volume::validate). Pure; LBAs are 512-byte sectors.
struct LinearLayer {
    std::uint64_t offset = 0; // device LBA of the volume's LBA 0
    std::uint64_t size = 0;   // of the volume

    explicit LinearLayer(const volume::Header& header) : offset(header.offset), size(header.size) {}
    dek_range to_device(dek_range of_volume) const {
        return {of_volume.first + offset, of_volume.count};
    }
    dek_range to_volume(dek_range of_device) const {
        return {of_device.first - offset, of_device.count};
    }
};

// The tweak geometry of every association of the volume: what makes the ciphertext independent of
// where the volume lies.
dek_geometry tweak_geometry(const volume::Header& header);
// The XTS tweak of the data unit that holds this LBA of the volume.
std::uint64_t tweak_of(const volume::Header& header, std::uint64_t volume_lba);

// The volume's ranges encrypted with key `index`, as device LBAs.
LunMap device_map_of_key(const volume::Header& header, std::size_t index);
// All encrypted ranges, neighbours joined, as device LBAs.
LunMap encrypted_device_map(const volume::Header& header);
// The whole data units in which an in-place header lies, as LBAs of the volume; they stay plain.
// Empty for one outside the volume.
dek_range header_units(const volume::Header& header);
// What the shim's must-encrypt map has to say: encrypted ranges, and the reserved place of an
// in-place header.
std::vector<dek_map_entry> must_encrypt_map(const volume::Header& header);

} // namespace dek::kcm
