// SPDX-License-Identifier: Apache-2.0
// Protect: what it makes, and every reason for which it makes nothing.
#include <fstream>
#include <thread>

#include <catch2/catch.hpp>

#include "bench.h"

using namespace dek;
using namespace dek::kcm;
using kcmtest::Bench;
namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t mib = 2048; // LBAs

void poke(const std::string& path, std::uint64_t byte, const std::string& text) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(byte));
    file << text;
}

// Refused with this code, its sentence has the word, and nothing on disk or in the shim is
// different.
void check_refused(Bench& b, const ProtectRequest& r, Errc code, const std::string& word) {
    const auto before = b.fingerprint();
    auto done = b.controller->protect(r);
    REQUIRE_FALSE(done);
    INFO(done.error().reason);
    CHECK(done.error().code == code);
    CHECK(done.error().reason.find(word) != std::string::npos);
    CHECK(b.fingerprint() == before);
    CHECK(b.registry->find(r.name) == nullptr);
    CHECK(b.controller->shims().all().back().shim->list()->empty());
}

// A swap header blkid knows.
void make_swap(const std::string& path, std::uint64_t byte) {
    std::string page(4096, '\0');
    page[1024] = 1; // version
    page[1028] = 100;
    page.replace(4086, 10, "SWAPSPACE2");
    poke(path, byte, page);
}

} // namespace

TEST_CASE("protect writes a header, makes a key and brings the volume up") {
    Bench b;
    const auto image = b.image("disk", 16 * mib);
    auto v = b.controller->protect(b.request(image, "data"));
    REQUIRE(v);
    CHECK((*v)->state == VolumeState::up);
    CHECK((*v)->header.offset == 2048);
    CHECK((*v)->header.size == 15 * mib);
    CHECK((*v)->header.data_unit == 4096);
    CHECK((*v)->header.sequence == 1);
    REQUIRE((*v)->keys.size() == 1);
    CHECK((*v)->keys[0].name == "data");
    CHECK((*v)->keys[0].bits == 512);
    CHECK(fs::read_symlink(b.folder / "dev/data") == (*v)->block_device);
    CHECK(fs::exists(b.folder / "run/volumes/data.json"));
    CHECK(b.events_text() == "volume-attached ");
    CHECK(*is_established(*b.controller->shims().all().back().shim, (*v)->header));
    auto found = find_header(*open_device(image, Access::read), {}, Access::read);
    REQUIRE(found);
    CHECK(found->found.a == volume::CopyState::valid);
    CHECK(found->found.b == volume::CopyState::valid);
}

TEST_CASE("the document's example: in place, header at 1024, two ranges") {
    Bench b;
    auto r = b.request(b.image("disk", 20480), "example");
    r.in_place = true;
    r.header.lba = 1024;
    r.encrypt = {{"1536-10239,11264-20479", ""}};
    r.data_unit = 512;
    auto v = b.controller->protect(r);
    REQUIRE(v);
    CHECK((*v)->header.offset == 0);
    CHECK((*v)->header.size == 20480);
    auto ranges = b.controller->shims().all().back().shim->ranges((*v)->header.uuid);
    REQUIRE(ranges);
    REQUIRE(ranges->size() == 3);
    CHECK((*ranges)[0].first == 1024);
    CHECK((*ranges)[0].state == DEK_RANGE_RESERVED);
    CHECK((*ranges)[1].first == 1536);
    CHECK((*ranges)[1].count == 8704);
    CHECK((*ranges)[2].first == 11264);
}

TEST_CASE("a detached header is a new file, and ranges have keys of their own") {
    Bench b;
    auto one = b.keys->create("one", 512, {});
    auto two = b.keys->create("two", 256, {});
    REQUIRE(one);
    REQUIRE(two);
    auto r = b.request(b.image("disk", 8 * mib), "data");
    r.header.file = b.folder / "header";
    r.encrypt = {{"8192-", two->id}, {"0-4095", "one"}};
    auto v = b.controller->protect(r);
    REQUIRE(v);
    CHECK((*v)->header.place == volume::Place::detached);
    CHECK((*v)->header.size == 8 * mib);
    REQUIRE((*v)->header.keys.size() == 2);
    CHECK((*v)->header.keys[0].id == two->id);
    CHECK((*v)->header.ranges[0].key == 1);
    CHECK(b.keys->list()->size() == 2); // none was made
    CHECK(fs::file_size(r.header.file) > 0);
    CHECK(volume::read({open_device(b.folder / "disk", Access::read)->fd.get(), 0, false})
              .error()
              .code == Errc::not_found);
}

TEST_CASE("what is asked for has to make sense") {
    Bench b;
    const auto image = b.image("disk", 16 * mib);
    auto r = b.request(image, "data");
    SECTION("name") {
        r.name = "../x";
        check_refused(b, r, Errc::invalid_argument, "name");
    }
    SECTION("device that is not there") {
        r.device = b.folder / "none";
        check_refused(b, r, Errc::not_found, "none");
    }
    SECTION("device too small") {
        r.device = b.image("small", 2047);
        check_refused(b, r, Errc::invalid_argument, "too small");
    }
    SECTION("data unit") {
        r.data_unit = 1000;
        check_refused(b, r, Errc::invalid_argument, "data unit");
    }
    SECTION("ranges not aligned to the unit") {
        r.encrypt = {{"1-8", ""}};
        check_refused(b, r, Errc::invalid_argument, "range");
    }
    SECTION("overlapping ranges") {
        r.encrypt = {{"0-79", ""}, {"72-159", ""}};
        check_refused(b, r, Errc::invalid_argument, "range");
    }
    SECTION("a range beyond the volume") {
        r.encrypt = {{"0-30720", ""}};
        check_refused(b, r, Errc::invalid_argument, "30720");
    }
    SECTION("no range at all") {
        r.encrypt = {{"", ""}};
        check_refused(b, r, Errc::invalid_argument, "");
    }
    SECTION("too many ranges") {
        std::string many;
        for (int i = 0; i < 2049; i++)
            many += (i ? "," : "") + std::to_string(i * 8) + "-" + std::to_string(i * 8 + 3);
        r.data_unit = 512;
        r.encrypt = {{many, ""}};
        check_refused(b, r, Errc::invalid_argument, "2048");
    }
    SECTION("a header in place that overlaps an encrypted range") {
        r.in_place = true;
        r.encrypt = {{"0-1535", ""}};
        check_refused(b, r, Errc::invalid_argument, "header");
    }
    SECTION("a header in place beyond the device") {
        r.in_place = true;
        r.header.lba = 16 * mib - 100;
        check_refused(b, r, Errc::invalid_argument, "does not fit");
    }
    SECTION("a header in a file, in place") {
        r.in_place = true;
        r.header.file = b.folder / "header";
        check_refused(b, r, Errc::invalid_argument, "without --in-place");
    }
    SECTION("a header's LBA without in place") {
        r.header.lba = 1024;
        check_refused(b, r, Errc::invalid_argument, "in-place");
    }
    SECTION("a header at two places") {
        r.in_place = true;
        r.header.lba = 1024;
        r.header.file = b.folder / "h";
        check_refused(b, r, Errc::invalid_argument, "either");
    }
    SECTION("a header file that is there") {
        r.header.file = image;
        check_refused(b, r, Errc::exists, "exists");
    }
    SECTION("a header file in a directory that is not") {
        r.header.file = b.folder / "no/h";
        check_refused(b, r, Errc::not_found, "header file");
    }
    SECTION("an unknown key") {
        r.key = "nobody";
        check_refused(b, r, Errc::unknown_key, "nobody");
    }
    SECTION("a key that is not active") {
        auto key = b.keys->create("old", 512, {});
        REQUIRE(b.keys->set_state(key->id, keys::KeyState::deactivated));
        r.key = "old";
        check_refused(b, r, Errc::refused, "deactivated");
    }
    SECTION("the kernel shim, which is not there") {
        r.shim = ShimChoice::kernel;
        check_refused(b, r, Errc::unavailable, "is dm-dek loaded?");
    }
    SECTION("hardware only, without hardware") {
        r.endpoint = "hardware-only";
        check_refused(b, r, Errc::unsupported, "hardware");
    }
    SECTION("never an endpoint, without device-mapper") {
        r.endpoint = "never";
        check_refused(b, r, Errc::unsupported, "dm-crypt");
    }
    SECTION("a sealed keystore") {
        REQUIRE(b.seat->with([](keys::Keystore& store) -> Result<void> {
            store.seal();
            return {};
        }));
        auto done = b.controller->protect(r);
        REQUIRE_FALSE(done);
        CHECK(done.error().code == Errc::locked);
    }
}

TEST_CASE("a new header shares no page with data") {
    Bench b;
    auto r = b.request(b.image("disk", 16 * mib), "data");
    r.in_place = true;
    r.data_unit = 512;
    r.encrypt = {{"8192-", ""}};
    r.header.lba = 1025;
    check_refused(b, r, Errc::invalid_argument, "a multiple of 8");
    r.header.lba = 1032;
    CHECK(b.controller->protect(r));
}

TEST_CASE("no shim, no volume, and nothing is written") {
    Bench b;
    auto r = b.request(b.image("disk", 4 * mib), "data");
    const auto before = b.fingerprint();
    b.shim->up = false;
    auto done = b.controller->protect(r);
    REQUIRE_FALSE(done);
    CHECK(done.error().code == Errc::unavailable);
    CHECK(b.fingerprint() == before);
}

TEST_CASE("a device in use is left alone") {
    Bench b;
    const auto image = b.image("disk", 4 * mib);
    REQUIRE(b.controller->protect(b.request(image, "data")));
    auto again = b.request(image, "other");
    again.force = true;
    auto done = b.controller->protect(again);
    REQUIRE_FALSE(done);
    CHECK(done.error().code == Errc::busy);
    CHECK(done.error().reason.find("data") != std::string::npos);
    auto same_name = b.request(b.image("disk2", 4 * mib), "data");
    CHECK(b.controller->protect(same_name).error().code == Errc::exists);
}

TEST_CASE("what lies on a device is not written over without force") {
    Bench b;
    const auto image = b.image("disk", 16 * mib);
    auto r = b.request(image, "data");
    SECTION("a filesystem") {
        make_swap(image, 0);
        check_refused(b, r, Errc::refused, "swap");
    }
    SECTION("LUKS") {
        poke(image, 0, std::string("LUKS\xba\xbe\0\1", 8));
        check_refused(b, r, Errc::refused, "crypto_LUKS");
    }
    SECTION("a partition table") {
        std::string mbr(512, '\0');
        mbr[446 + 4] = '\x83';
        mbr[446 + 9] = 8; // from LBA 2048
        mbr[446 + 12] = '\x10';
        mbr[510] = '\x55';
        mbr[511] = '\xaa';
        poke(image, 0, mbr);
        check_refused(b, r, Errc::refused, "dos");
    }
    SECTION("a dekstack header") {
        REQUIRE(b.controller->protect(r));
        REQUIRE(b.controller->detach("data", std::chrono::milliseconds(100)));
        r.name = "again";
        check_refused(b, r, Errc::refused, "data");
        CHECK(b.controller->attach({image, {}, false, ShimChoice::automatic, ""}));
        REQUIRE(b.controller->detach("data", std::chrono::milliseconds(100)));
    }
    r.force = true;
    r.name = "forced";
    CHECK(b.controller->protect(r));
}

TEST_CASE("a header is not written over data that has no signature, without force") {
    Bench b;
    const auto image = b.image("disk", 16 * mib);
    poke(image, GENERATE(0u, 777u, (1u << 20) - 12), "somebody's");
    auto r = b.request(image, "data");
    check_refused(b, r, Errc::refused, "data in LBAs 0-2047");
    r.force = true;
    CHECK(b.controller->protect(r));
}

TEST_CASE("data behind an empty start of the device is not buried without force") {
    Bench b;
    const auto image = b.image("disk", 16 * mib);
    const auto [where, lbas] = GENERATE(table<std::uint64_t, std::string>(
        {{1u << 20, "2048-4095"}, {(16u << 20) - 12, "30720-32767"}}));
    poke(image, static_cast<std::streamoff>(where), "somebody's");
    auto r = b.request(image, "data");
    if (GENERATE(false, true))
        r.encrypt = {{"8192-16383", ""}}; // what stays plain would lie elsewhere
    check_refused(b, r, Errc::refused, "data in LBAs " + lbas);
    r.force = true;
    CHECK(b.controller->protect(r));
}

TEST_CASE("in place, only what an encrypted range would bury counts") {
    Bench b;
    const auto image = b.image("disk", 16 * mib);
    auto r = b.request(image, "data");
    r.in_place = true;
    r.encrypt = {{"8192-16383", ""}};
    SECTION("a signature in a plain range is fine") {
        poke(image, 0, std::string("LUKS\xba\xbe\0\1", 8));
        CHECK(b.controller->protect(r));
    }
    SECTION("unless it is swap, which the userspace shim should not carry") {
        make_swap(image, 0);
        auto done = b.controller->protect(r);
        REQUIRE_FALSE(done);
        CHECK(done.error().code == Errc::refused);
    }
    SECTION("one where an encrypted range begins is not") {
        make_swap(image, 8192 * 512);
        check_refused(b, r, Errc::refused, "swap");
    }
    SECTION("nor data in its first MiB") {
        poke(image, 8192 * 512 + 100000, "data");
        check_refused(b, r, Errc::refused, "8192-10239");
    }
    SECTION("nor in its last") {
        poke(image, 16384 * 512 - 1, "d");
        check_refused(b, r, Errc::refused, "14336-16383");
    }
    SECTION("in the middle it is not looked for") {
        poke(image, 12000 * 512, "d");
        CHECK(b.controller->protect(r));
    }
    SECTION("force goes ahead") {
        poke(image, 8192 * 512, "data");
        r.force = true;
        CHECK(b.controller->protect(r));
    }
    SECTION("but not over a physical volume that LVM would still see") {
        std::string label(512, '\0');
        label.replace(0, 8, "LABELONE");
        label[8] = 1; // its own sector
        label[20] = 32;
        label.replace(24, 8, "LVM2 001");
        label.replace(32, 32, "abcdefghijklmnopqrstuvwxyz012345");
        // CRC as LVM computes it, over bytes 20..511.
        std::uint32_t crc = 0xf597a6cf;
        for (int i = 20; i < 512; i++) {
            crc ^= static_cast<unsigned char>(label[static_cast<std::size_t>(i)]);
            for (int k = 0; k < 8; k++)
                crc = crc & 1 ? (crc >> 1) ^ 0xedb88320u : crc >> 1;
        }
        for (int i = 0; i < 4; i++)
            label[static_cast<std::size_t>(16 + i)] = static_cast<char>(crc >> (8 * i));
        poke(image, 512, label);
        r.force = true;
        check_refused(b, r, Errc::refused, "global_filter");
        std::ofstream(b.folder / "lvm.conf") << "devices { global_filter = [ \"r|.*|\" ] }";
        CHECK(b.controller->protect(r));
    }
}

TEST_CASE("a failure after the header takes everything back and names the key that stays") {
    Bench b;
    const auto image = b.image("disk", 4 * mib);
    poke(image, 300000, "what was there"); // within the header's place
    const auto before = b.fingerprint();
    auto r = b.request(image, "data");
    r.force = true;
    auto key = b.keys->create("mine", 512, {});
    const auto with_key = b.fingerprint();
    SECTION("the endpoint takes no key") {
        r.key = "mine";
        b.shim->associates_left = 0;
        auto done = b.controller->protect(r);
        REQUIRE_FALSE(done);
        CHECK(done.error().code == Errc::no_space);
        CHECK(b.fingerprint() == with_key);
    }
    SECTION("no block device") {
        b.backend->expose_fails = true;
        auto done = b.controller->protect(r);
        REQUIRE_FALSE(done);
        CHECK(done.error().reason.find("was made and stays") != std::string::npos);
        CHECK(b.keys->list()->size() == 2);
    }
    SECTION("the detached header file goes again") {
        r.header.file = b.folder / "h";
        r.encrypt = {{"4096-8191", "mine"}};
        b.backend->expose_fails = true;
        CHECK_FALSE(b.controller->protect(r));
        CHECK(b.fingerprint() == with_key);
    }
    CHECK(b.controller->shims().all().back().shim->list()->empty());
    CHECK_FALSE(fs::exists(b.folder / "run/volumes/data.json"));
    CHECK_FALSE(fs::is_symlink(b.folder / "dev/data"));
    b.shim->associates_left = ~0u;
    b.backend->expose_fails = false;
    CHECK(before != with_key);
    CHECK(key);
}

namespace {

// Answers nothing, ever, like a network appliance that is not there. Honours its deadline or not.
class Hanging : public keys::Provider {
  public:
    explicit Hanging(std::unique_ptr<keys::Provider> real) : real_(std::move(real)) {}
    std::string name() const override { return "keystore"; }
    Result<Key> get(const std::string&, const keys::Deadline& d) override { return hang<Key>(d); }
    Result<keys::KeyInfo> info(const std::string& id, const keys::Deadline& d) override {
        return real_->info(id, d);
    }
    Result<std::vector<keys::KeyInfo>> list(const keys::Deadline& d) override {
        return real_->list(d);
    }
    Result<keys::KeyInfo> put(const std::string&, Secret, const std::map<std::string, std::string>&,
                              const keys::Deadline& d) override {
        return hang<keys::KeyInfo>(d);
    }
    Result<keys::KeyInfo> set_state(const std::string&, keys::KeyState,
                                    const keys::Deadline& d) override {
        return hang<keys::KeyInfo>(d);
    }

  private:
    template <class T>
    Result<T> hang(const keys::Deadline& d) {
        while (!d.expired())
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        return fail(Errc::timeout, "the provider does not answer");
    }
    std::unique_ptr<keys::Provider> real_;
};

} // namespace

TEST_CASE("a provider that hangs costs the deadline and changes nothing") {
    Bench b;
    const auto image = b.image("disk", 4 * mib);
    const auto other = b.image("other", 4 * mib);
    REQUIRE(b.keys->create("mine", 512, {}));
    REQUIRE(b.controller->protect(b.request(other, "other")));
    REQUIRE(b.controller->detach("other", std::chrono::milliseconds(100)));
    b.restart([](auto real) { return std::make_unique<Hanging>(std::move(real)); });
    const auto before = b.fingerprint();
    const auto start = std::chrono::steady_clock::now();
    auto made = b.controller->protect(b.request(image, "data"));
    REQUIRE_FALSE(made);
    CHECK(made.error().code == Errc::timeout);
    auto attached = b.controller->attach({other, {}, false, ShimChoice::automatic, ""});
    REQUIRE_FALSE(attached);
    CHECK((attached.error().code == Errc::timeout || attached.error().code == Errc::unavailable));
    CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(3));
    CHECK(b.fingerprint() == before);
    CHECK(b.controller->shims().all().back().shim->list()->empty());
}
