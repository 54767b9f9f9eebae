// SPDX-License-Identifier: Apache-2.0
// CRC-32C against the examples of RFC 3720, B.4, which lists the CRC's bytes in the order sent.
#include <catch2/catch.hpp>

#include <cstdint>
#include <numeric>
#include <vector>

#include <dek/codec.h>

namespace {

std::uint32_t crc(const std::vector<std::uint8_t>& bytes) {
    return dek_crc32c(bytes.data(), bytes.size());
}

} // namespace

TEST_CASE("CRC-32C agrees with the examples of RFC 3720", "[crc]") {
    std::vector<std::uint8_t> up(32), down(32);
    std::iota(up.begin(), up.end(), std::uint8_t{0});
    std::iota(down.rbegin(), down.rend(), std::uint8_t{0});
    std::vector<std::uint8_t> read_pdu{0x01, 0xc0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
                                       0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00,
                                       0x00, 0x00, 0x04, 0x00, 0x00, 0x00, 0x00, 0x14, 0x00, 0x00,
                                       0x00, 0x18, 0x28, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
                                       0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00};
    CHECK(crc(std::vector<std::uint8_t>(32, 0x00)) == 0x8a9136aau);
    CHECK(crc(std::vector<std::uint8_t>(32, 0xff)) == 0x62a8ab43u);
    CHECK(crc(up) == 0x46dd794eu);
    CHECK(crc(down) == 0x113fdb5cu);
    CHECK(crc(read_pdu) == 0xd9963a56u);
}

TEST_CASE("CRC-32C of nothing and of the customary check string", "[crc]") {
    CHECK(dek_crc32c("", 0) == 0u);
    CHECK(dek_crc32c("123456789", 9) == 0xe3069283u);
}
