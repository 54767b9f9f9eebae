// SPDX-License-Identifier: Apache-2.0
#include "sector.h"

#include <array>
#include <cstring>

#include <endian.h>

namespace {

// Where things are: mark 16, LBA 8, pass 4, contents, CRC-32C of all before it 4.
constexpr std::size_t lba_at = sector_mark_size, pass_at = lba_at + 8, body_at = pass_at + 4,
                      sum_at = sector_size - 4;

constexpr std::array<std::uint32_t, 256> make_table() {
    std::array<std::uint32_t, 256> table{};
    for (std::uint32_t n = 0; n < table.size(); n++) {
        std::uint32_t c = n;
        for (int bit = 0; bit < 8; bit++)
            c = c & 1 ? c >> 1 ^ 0x82f63b78 : c >> 1;
        table[n] = c;
    }
    return table;
}
constexpr auto table = make_table();

std::uint32_t crc32c(const std::uint8_t* data, std::size_t size) {
    std::uint32_t c = ~0U;
    for (std::size_t i = 0; i < size; i++)
        c = table[(c ^ data[i]) & 0xff] ^ c >> 8;
    return ~c;
}

// SplitMix64: each word of a sector differs from its neighbours, and from the same of another.
std::uint64_t next(std::uint64_t& state) {
    std::uint64_t z = state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

template <class T>
T load(const std::uint8_t* at) {
    T value;
    std::memcpy(&value, at, sizeof value);
    return value;
}

} // namespace

void sector_fill(std::uint8_t* sector, SectorName name) {
    const std::uint64_t lba = htole64(name.lba);
    const std::uint32_t pass = htole32(name.pass);
    std::memcpy(sector, sector_mark, sector_mark_size);
    std::memcpy(sector + lba_at, &lba, sizeof lba);
    std::memcpy(sector + pass_at, &pass, sizeof pass);
    std::uint64_t state = name.lba << 32 ^ name.pass;
    for (std::size_t at = body_at; at < sum_at; at += 8) {
        const std::uint64_t word = htole64(next(state));
        std::memcpy(sector + at, &word, sizeof word);
    }
    const std::uint32_t sum = htole32(crc32c(sector, sum_at));
    std::memcpy(sector + sum_at, &sum, sizeof sum);
}

std::optional<SectorName> sector_read(const std::uint8_t* sector) {
    if (!sector_has_mark(sector) ||
        le32toh(load<std::uint32_t>(sector + sum_at)) != crc32c(sector, sum_at))
        return std::nullopt;
    const SectorName name{le64toh(load<std::uint64_t>(sector + lba_at)),
                          le32toh(load<std::uint32_t>(sector + pass_at))};
    std::array<std::uint8_t, sector_size> expected;
    sector_fill(expected.data(), name);
    if (std::memcmp(expected.data(), sector, sector_size) != 0)
        return std::nullopt;
    return name;
}

bool sector_has_mark(const std::uint8_t* sector) {
    return std::memcmp(sector, sector_mark, sector_mark_size) == 0;
}
