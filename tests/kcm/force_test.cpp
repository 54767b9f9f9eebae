// SPDX-License-Identifier: Apache-2.0
// Headers that cannot be read: protect --force goes over them, erase takes them where it is told.
#include <fstream>

#include <catch2/catch.hpp>
#include <openssl/evp.h>

#include "bench.h"

using namespace dek;
using namespace dek::kcm;
using kcmtest::Bench;

namespace {

constexpr std::uint64_t lbas = 16 * 2048;
constexpr std::chrono::milliseconds patience{100};

// A device with the header of a volume that is detached.
std::string left_behind(Bench& b) {
    const auto image = b.image("disk", lbas);
    REQUIRE(b.controller->protect(b.request(image, "data")));
    REQUIRE(b.controller->detach("data", patience));
    return image;
}

void poke_both(const std::string& path, std::streamoff byte, const std::string& text) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    for (const std::streamoff copy : {0, 65536}) {
        file.seekp(copy + byte);
        file << text;
    }
}

// Both copies as they would be at LBA 1024: whole, and written for LBA 0.
void misplace(const std::string& path) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    std::string place(128 * 1024, '\0');
    file.read(place.data(), static_cast<std::streamsize>(place.size()));
    file.seekp(1024 * 512);
    file << place;
    file.seekp(0);
    file << std::string(place.size(), '\0');
}

// A header of sequence number 9 under a feature flag nobody knows.
void make_too_new(const std::string& path) {
    auto device = open_device(path, Access::write);
    auto bytes = read_bytes(*device, 0, 4096);
    REQUIRE(bytes);
    dek_put_le32(bytes->data() + 16, 0x100);
    dek_put_le64(bytes->data() + 24, 9);
    const std::size_t size = dek_get_le32(bytes->data() + 12);
    REQUIRE(size == bytes->size());
    std::vector<std::uint8_t> covered(bytes->begin(), bytes->begin() + 448);
    covered.insert(covered.end(), bytes->begin() + 480, bytes->end());
    REQUIRE(EVP_Digest(covered.data(), covered.size(), bytes->data() + 448, nullptr, EVP_sha256(),
                       nullptr) == 1);
    poke_both(path, 0, std::string(bytes->begin(), bytes->end()));
}

void check_forced(Bench& b, ProtectRequest r) {
    r.name = "new";
    CHECK_FALSE(b.controller->protect(r));
    r.force = true;
    auto v = b.controller->protect(r);
    INFO((v ? "" : v.error().reason));
    REQUIRE(v);
    REQUIRE(b.controller->detach("new", patience));
    auto again = b.controller->attach(
        {r.device, {(*v)->header.header_lba, ""}, false, ShimChoice::automatic, ""});
    INFO((again ? "" : again.error().reason));
    REQUIRE(again);
    CHECK((*again)->header.uuid == (*v)->header.uuid);
    CHECK((*again)->header.sequence == (*v)->header.sequence);
}

void check_erased(Bench& b, const std::string& device, std::uint64_t lba, Errc unread) {
    CHECK(b.controller->erase({device, {}, true, false}).error().code == unread);
    CHECK(b.controller->erase({device, {lba, ""}, false, false}).error().code == Errc::refused);
    auto done = b.controller->erase({device, {lba, ""}, true, false});
    INFO((done ? "" : done.error().reason));
    REQUIRE(done);
    CHECK(*is_zero(*open_device(device, Access::read), 0, lbas * 512));
    CHECK(b.controller->erase({device, {lba, ""}, true, false}).error().code == Errc::not_found);
}

} // namespace

TEST_CASE("a forced protect goes over a whole header, and over its sequence number") {
    Bench b;
    const auto image = left_behind(b);
    auto r = b.request(image, "new");
    r.force = true;
    auto v = b.controller->protect(r);
    REQUIRE(v);
    CHECK((*v)->header.sequence == 2);
    REQUIRE(b.controller->detach("new", patience));
    CHECK(b.controller->attach({image, {}, false, ShimChoice::automatic, ""}));
}

TEST_CASE("a torn header: forced over, or erased") {
    Bench b;
    const auto image = left_behind(b);
    poke_both(image, 200, "damage");
    SECTION("protect") {
        check_forced(b, b.request(image, "new"));
    }
    SECTION("erase") {
        check_erased(b, image, 0, Errc::corrupt);
    }
}

TEST_CASE("a header too new for this program: forced over, or erased") {
    Bench b;
    const auto image = left_behind(b);
    make_too_new(image);
    SECTION("protect") {
        check_forced(b, b.request(image, "new"));
    }
    SECTION("erase") {
        check_erased(b, image, 0, Errc::unsupported);
    }
}

TEST_CASE("a header written for another place: forced over, or erased") {
    Bench b;
    const auto image = left_behind(b);
    misplace(image);
    SECTION("protect") {
        auto r = b.request(image, "new");
        r.in_place = true;
        r.encrypt = {{"8192-16383", ""}};
        check_forced(b, r);
    }
    SECTION("erase") {
        check_erased(b, image, 1024, Errc::not_found);
    }
}

TEST_CASE("a forced protect that fails later leaves the old header") {
    Bench b;
    const auto image = left_behind(b);
    REQUIRE(b.keys->create("mine", 512, {}));
    const auto before = b.fingerprint();
    auto r = b.request(image, "new");
    r.key = "mine";
    r.force = true;
    b.backend->expose_fails = true;
    CHECK_FALSE(b.controller->protect(r));
    CHECK(b.fingerprint() == before);
}
