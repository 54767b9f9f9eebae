// SPDX-License-Identifier: Apache-2.0
// Any bytes as the first sectors of a physical volume. Its checksum is made right, or nothing would
// be read behind it.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "kcm/pv_label.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::vector<std::uint8_t> disk(dek::kcm::pv_label_bytes);
    std::memcpy(disk.data(), data, std::min(size, disk.size()));
    std::memcpy(disk.data(), "LABELONE\0\0\0\0\0\0\0\0", 16);
    std::uint32_t crc = 0xf597a6cf;
    for (std::size_t i = 20; i < 512; i++)
        for (int bit = (crc ^= disk[i], 0); bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    std::memcpy(&disk[16], &crc, sizeof crc);
    const std::uint64_t lbas = size ? 1ull << (data[size - 1] & 55) : 0;
    const auto area = dek::kcm::pv_data_area(disk, lbas);
    if (area && (area->fits(lbas, 0) != DEK_OK || area->overlaps({0, 4})))
        std::abort();
    return 0;
}
