// SPDX-License-Identifier: Apache-2.0
// Headers that cannot be read: protect --force goes over them, erase takes them where it is told.
#include <algorithm>
#include <filesystem>
#include <fstream>

#include <catch2/catch.hpp>
#include <openssl/evp.h>
#include <unistd.h>

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

namespace {

std::vector<std::uint64_t> header_lbas(const std::string& path) {
    auto device = open_device(path, Access::read);
    std::vector<std::uint64_t> lbas_found;
    for (const auto& probed : probe_headers(*device))
        lbas_found.push_back(probed.lba);
    return lbas_found;
}

// A detached volume of its own at this place.
std::string one_at(Bench& b, std::optional<std::uint64_t> in_place) {
    const auto image = b.image("disk", lbas);
    auto r = b.request(image, "old");
    if (in_place) {
        r.in_place = true;
        r.header.lba = *in_place;
    }
    REQUIRE(b.controller->protect(r));
    REQUIRE(b.controller->detach("old", patience));
    REQUIRE(header_lbas(image).size() == 1);
    return image;
}

ProtectRequest forced(Bench& b, const std::string& image, std::optional<std::uint64_t> in_place) {
    auto r = b.request(image, "new");
    r.force = true;
    if (in_place) {
        r.in_place = true;
        r.header.lba = *in_place;
    }
    return r;
}

} // namespace

TEST_CASE("a forced protect leaves no other header to be found") {
    Bench b;
    const auto last = lbas - volume::header_lbas;
    const auto [old, next] =
        GENERATE_COPY(table<std::optional<std::uint64_t>, std::optional<std::uint64_t>>(
            {{std::nullopt, 1024},
             {std::nullopt, 4096},
             {std::nullopt, 8},   // over the old copies, but not all of them
             {std::nullopt, 128}, // its first copy where the old second one lies
             {std::nullopt, last},
             {1024, std::nullopt},
             {1024, last},
             {1024, 1152},
             {last, 1024},
             {last, std::nullopt},
             {0, 1024}}));
    CAPTURE(old.value_or(0), next.value_or(0));
    const auto image = one_at(b, old);
    auto r = forced(b, image, next);
    SECTION("done") {
        auto v = b.controller->protect(r);
        INFO((v ? "" : v.error().reason));
        REQUIRE(v);
        REQUIRE(b.controller->detach("new", patience));
        const auto found = header_lbas(image);
        CHECK(std::all_of(found.begin(), found.end(),
                          [next = next](auto lba) { return lba == next.value_or(0); }));
        CHECK(b.controller->attach(
            {image, {next.value_or(0), ""}, false, ShimChoice::automatic, ""}));
    }
    SECTION("failed later: all is as it was") {
        REQUIRE(b.keys->create("mine", 512, {}));
        const auto before = b.fingerprint();
        r.key = "mine";
        b.backend->expose_fails = true;
        CHECK_FALSE(b.controller->protect(r));
        CHECK(b.fingerprint() == before);
    }
}

TEST_CASE("a forced protect with its header in a file leaves no header on the device") {
    Bench b;
    const auto image = left_behind(b);
    poke_both(image, 200, GENERATE("", "damage"));
    auto r = b.request(image, "new");
    r.force = true;
    r.header.file = b.folder / "header";
    REQUIRE(b.controller->protect(r));
    REQUIRE(b.controller->detach("new", patience));
    CHECK(header_lbas(image).empty());
    CHECK(*is_zero(*open_device(image, Access::read), 0, 512));
    CHECK(b.controller->attach({image, {}, false, ShimChoice::automatic, ""}).error().code ==
          Errc::not_found);
    CHECK(b.controller->attach({image, r.header, false, ShimChoice::automatic, ""}));
}

TEST_CASE("a partition's header, seen through the whole disk, is left where it is") {
    Bench b;
    const auto image = left_behind(b);
    misplace(image); // at 1024, written for LBA 0
    const auto before = *read_bytes(*open_device(image, Access::read), 1024 * 512, 131072);
    auto r = forced(b, image, 8192);
    r.encrypt = {{"16384-", ""}};
    REQUIRE(b.controller->protect(r));
    CHECK(*read_bytes(*open_device(image, Access::read), 1024 * 512, 131072) == before);
}

TEST_CASE("an erasure leaves a volume in place beside it alone") {
    Bench b;
    const auto image = left_behind(b);
    auto device = open_device(image, Access::write);
    const auto old = *read_bytes(*device, 0, 131072);
    REQUIRE(b.controller->protect(forced(b, image, 1024)));
    REQUIRE(b.controller->detach("new", patience));
    REQUIRE(::pwrite(device->fd.get(), old.data(), old.size(), 0) ==
            static_cast<ssize_t>(old.size()));
    const std::vector<std::uint8_t> data(512, 0x5a); // of the volume in place
    for (const off_t byte : {8192, 131072, 900 * 1024})
        REQUIRE(::pwrite(device->fd.get(), data.data(), data.size(), byte) == 512);
    REQUIRE(header_lbas(image).size() == 2);
    REQUIRE(b.controller->erase({image, {0, ""}, true, false}));
    for (const std::uint64_t byte : {8192, 131072, 900 * 1024})
        CHECK(*read_bytes(*device, byte, 512) == data);
    auto v = b.controller->attach({image, {}, false, ShimChoice::automatic, ""});
    INFO((v ? "" : v.error().reason));
    REQUIRE(v);
    CHECK((*v)->header.name == "new");
}

TEST_CASE("the copy of an attached device is told from it, and left alone") {
    Bench b;
    const auto image = left_behind(b);
    const auto copy = b.folder / "copy";
    std::filesystem::copy_file(image, copy);
    REQUIRE(b.controller->attach({image, {}, false, ShimChoice::automatic, ""}));
    const auto before = b.fingerprint();
    auto r = b.request(copy, "other");
    r.force = true;
    for (const auto& error :
         {b.controller->attach({copy, {}, true, ShimChoice::automatic, ""}).error(),
          b.controller->erase({copy, {}, true, false}).error(), b.controller->protect(r).error()}) {
        INFO(error.reason);
        CHECK(error.code == Errc::busy);
        CHECK(error.reason.find("attached from " + image) != std::string::npos);
    }
    CHECK(b.fingerprint() == before);
}

namespace {

volume::Copy copy_of(const std::string& path, const HeaderQuery& query) {
    auto sited = find_header(*open_device(path, Access::read), query, Access::read);
    REQUIRE(sited);
    return std::move(sited->found.copy);
}

} // namespace

TEST_CASE("without force no header is restored beside another volume's") {
    Bench b;
    const auto other = left_behind(b);
    const std::uint64_t at = GENERATE(1024u, 4096u);
    auto r = b.request(b.image("second", lbas), "second");
    r.in_place = true;
    r.header.lba = at;
    r.encrypt = {{"8192-16383", ""}};
    REQUIRE(b.controller->protect(r));
    REQUIRE(b.controller->detach("second", patience));
    const auto backup = copy_of(r.device, {at, ""});
    SECTION("a whole one") {}
    SECTION("an unreadable one") {
        poke_both(other, 200, "damage");
    }
    const auto before = b.fingerprint();
    for (const HeaderQuery& query : {HeaderQuery{}, HeaderQuery{at, ""}}) {
        auto done = b.controller->header_restore(other, query, backup, false);
        REQUIRE_FALSE(done);
        INFO(done.error().reason);
        CHECK(done.error().code == Errc::refused);
        CHECK(done.error().reason.find("--force") != std::string::npos);
    }
    CHECK(b.fingerprint() == before);
    CHECK(b.controller->header_restore(r.device, {}, backup, false)); // its own
    CHECK(b.controller->header_restore(other, {}, backup, true));
}

TEST_CASE("a torn header is restored without force") {
    Bench b;
    const auto image = left_behind(b);
    const auto backup = copy_of(image, {});
    poke_both(image, 200, "damage");
    CHECK(b.controller->header_restore(image, {}, backup, false));
}

TEST_CASE("a detached header goes with a device of its own size, unless forced") {
    Bench b;
    const auto image = b.image("disk", lbas);
    auto r = b.request(image, "data");
    r.header.file = b.folder / "header";
    REQUIRE(b.controller->protect(r));
    REQUIRE(b.controller->detach("data", patience));
    const auto attach = [&](const std::string& device, bool force) {
        return b.controller->attach({device, r.header, force, ShimChoice::automatic, ""});
    };
    const auto larger = b.image("larger", 2 * lbas);
    const auto before = b.fingerprint();
    auto wrong = attach(larger, false);
    REQUIRE_FALSE(wrong);
    INFO(wrong.error().reason);
    CHECK(wrong.error().code == Errc::refused);
    CHECK(wrong.error().reason.find("--force") != std::string::npos);
    CHECK(b.fingerprint() == before);
    REQUIRE(attach(image, false));
    SECTION("grown while attached, and made known") {
        std::filesystem::resize_file(image, 2 * lbas * 512);
        REQUIRE(b.controller->resize("data", GENERATE(false, true)
                                                 ? std::optional<std::uint64_t>()
                                                 : std::optional<std::uint64_t>(lbas)));
        REQUIRE(b.controller->detach("data", patience));
    }
    SECTION("grown while detached") {
        REQUIRE(b.controller->detach("data", patience));
        std::filesystem::resize_file(image, 2 * lbas * 512);
        CHECK_FALSE(attach(image, false));
        REQUIRE(attach(image, true));
        REQUIRE(b.controller->resize("data", std::nullopt));
        REQUIRE(b.controller->detach("data", patience));
    }
    CHECK(attach(image, false));
}
