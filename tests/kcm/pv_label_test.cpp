// SPDX-License-Identifier: Apache-2.0
// LVM's label: one that pvcreate wrote, and ones that nobody should.
#include <cstring>

#include <catch2/catch.hpp>
#include <dek/platform.h>

#include "kcm/pv_label.h"

using namespace dek;
using namespace dek::kcm;

namespace {

constexpr std::uint64_t lbas = 32768; // 16 MiB

void put(std::vector<std::uint8_t>& disk, std::size_t at, std::uint64_t value, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; i++)
        disk[at + i] = static_cast<std::uint8_t>(value >> 8 * i);
}

// pvcreate of lvm2 2.03.16 on 16 MiB, its checksum included; in `sector`.
std::vector<std::uint8_t> written(std::uint64_t sector = 1) {
    std::vector<std::uint8_t> disk(pv_label_bytes);
    const std::size_t at = sector * 512;
    std::memcpy(&disk[at], "LABELONE", 8);
    put(disk, at + 8, sector, 8);
    put(disk, at + 16, 0x053f072b, 4);
    put(disk, at + 20, 32, 4);
    std::memcpy(&disk[at + 24], "LVM2 001zu6etg2I0vxa5RViTZIuIdMszqprBaLP", 40);
    put(disk, at + 64, lbas * 512, 8);
    put(disk, at + 72, 1 << 20, 8);  // data, to the end
    put(disk, at + 104, 4096, 8);    // metadata
    put(disk, at + 112, 0xff000, 8); // up to 1 MiB
    put(disk, at + 136, 2, 4);
    return disk;
}

// With a checksum that is right.
Result<LunMap> read_changed(std::size_t at, std::uint64_t value, std::size_t bytes = 8,
                            std::uint64_t size = lbas) {
    auto disk = written();
    put(disk, 512 + at, value, bytes);
    std::uint32_t crc = 0xf597a6cf;
    for (std::size_t i = 512 + 20; i < 1024; i++)
        for (int bit = (crc ^= disk[i], 0); bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    if (at != 16)
        put(disk, 512 + 16, crc, 4);
    return pv_data_area(disk, size);
}

std::string text(const Result<LunMap>& map) {
    return map ? map->to_string() : std::string("error ") + errc_name(map.error().code);
}

} // namespace

TEST_CASE("The data area of a physical volume") {
    CHECK(text(pv_data_area(written(), lbas)) == "2048-32767");
    CHECK(text(pv_data_area(written(0), lbas)) == "2048-32767"); // its place is not in its checksum
    CHECK(text(pv_data_area(written(3), lbas)) == "2048-32767");
    CHECK(text(read_changed(80, 1 << 20)) == "2048-4095"); // of a size
    // Metadata inside it, as with two copies, and what overlaps the labels.
    CHECK(text(read_changed(104, 2 << 20)) == "2048-4095,6136-32767");
    CHECK(text(read_changed(72, 512)) == "4-7,2048-32767");
}

TEST_CASE("What is no label of LVM's") {
    CHECK(text(pv_data_area(std::vector<std::uint8_t>(pv_label_bytes), lbas)) == "error not-found");
    CHECK(text(pv_data_area({}, lbas)) == "error not-found");
    CHECK(text(pv_data_area(std::vector<std::uint8_t>(700, 'L'), lbas)) == "error not-found");
    CHECK(text(read_changed(8, 2)) == "error not-found"); // of another sector
    CHECK(text(read_changed(16, 0, 4)) == "error corrupt");
    CHECK(text(read_changed(24, 'X', 1)) == "error corrupt");
    CHECK(text(read_changed(20, 31, 4)) == "error corrupt");
    CHECK(text(read_changed(20, 513, 4)) == "error corrupt");
    CHECK(text(read_changed(20, 480, 4)) == "error corrupt"); // areas behind the sector
    CHECK(text(read_changed(72, 1 << 20 | 1)) == "error corrupt");
    CHECK(text(read_changed(80, 1)) == "error corrupt");
    CHECK(text(read_changed(72, lbas * 512)) == "error corrupt");
    CHECK(text(read_changed(80, lbas * 512)) == "error corrupt");
    CHECK(text(read_changed(80, ~0ull << 9)) == "error corrupt");
    CHECK(text(read_changed(104, 0x8000000000000000)) == "error corrupt");
    CHECK(text(read_changed(72, 0)) == ""); // no data at all
}
