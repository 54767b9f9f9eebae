// SPDX-License-Identifier: Apache-2.0
// Whose a key, a link, an endpoint or a sequence number is: nothing is taken from others.
#include <fstream>

#include <catch2/catch.hpp>
#include <openssl/evp.h>

#include "bench.h"

using namespace dek;
using namespace dek::kcm;
using kcmtest::Bench;
namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t mib = 2048;
constexpr std::chrono::milliseconds patience{100};

VolumePtr protected_volume(Bench& b, const std::string& name, const std::string& key = "") {
    auto r = b.request(b.image(name, 16 * mib), name);
    r.key = key;
    auto v = b.controller->protect(r);
    REQUIRE(v);
    return *v;
}

AttachRequest attach_request(const VolumePtr& v, bool force = false) {
    return {v->device, {}, force, ShimChoice::automatic, ""};
}

keys::KeyState state_of_key(Bench& b, const VolumePtr& v) {
    return b.keys->info(v->header.keys[0].id)->state;
}

// Both copies of a header with `from` replaced by `to`, their SHA-256 right again.
void forge(const std::string& device, const std::string& from, const std::string& to) {
    std::fstream file(device, std::ios::in | std::ios::out | std::ios::binary);
    for (const std::streamoff copy : {0, 65536}) {
        std::string bytes(65536, '\0');
        file.seekg(copy);
        file.read(bytes.data(), 65536);
        const auto at = bytes.find(from);
        REQUIRE(at != std::string::npos);
        bytes.replace(at, from.size(), to);
        const std::size_t size = dek_get_le32(reinterpret_cast<std::uint8_t*>(bytes.data()) + 12);
        const std::string covered = bytes.substr(0, 448) + bytes.substr(480, size - 480);
        unsigned char hash[32];
        REQUIRE(EVP_Digest(covered.data(), covered.size(), hash, nullptr, EVP_sha256(), nullptr) ==
                1);
        bytes.replace(448, 32, reinterpret_cast<char*>(hash), 32);
        file.seekp(copy);
        file.write(bytes.data(), 65536);
    }
}

std::uint64_t remembered(Bench& b, const VolumePtr& v) {
    auto n = b.seat->with([&](keys::Keystore& store) {
        return store.header_sequence(volume::uuid_text(v->header.uuid));
    });
    return n->value_or(0);
}

void remember(Bench& b, const VolumePtr& v, std::uint64_t sequence) {
    REQUIRE(b.seat->with([&](keys::Keystore& store) {
        return store.remember_header_sequence(volume::uuid_text(v->header.uuid), sequence);
    }));
}

bool is_linked(Bench& b) {
    return fs::is_symlink(b.folder / "dev/data");
}

} // namespace

TEST_CASE("a forged header names no keys to destroy") {
    Bench b;
    const auto other = protected_volume(b, "other");
    const auto v = protected_volume(b, "data");
    REQUIRE(b.controller->detach("other", patience));
    REQUIRE(b.controller->detach("data", patience));
    SECTION("another volume's key") {
        forge(v->device, v->header.keys[0].id, other->header.keys[0].id);
    }
    SECTION("its own, and another name") {
        forge(v->device, "\"data\"", "\"dat2\"");
    }
    const auto before = b.fingerprint();
    CHECK_FALSE(b.controller->erase({v->device, {}, true, true}));
    CHECK(b.fingerprint() == before);
    CHECK(state_of_key(b, v) == keys::KeyState::active);
    CHECK(state_of_key(b, other) == keys::KeyState::active);
}

TEST_CASE("a key that was not made for the volume outlives it") {
    Bench b;
    const auto other = protected_volume(b, "other");
    const auto v = protected_volume(b, "data", "other");
    REQUIRE(b.controller->detach("other", patience));
    REQUIRE(b.controller->detach("data", patience));
    auto done = b.controller->erase({v->device, {}, true, true});
    REQUIRE(done);
    CHECK(done->keys_destroyed.empty());
    CHECK(done->keys_kept == std::vector<std::string>{v->header.keys[0].id});
    CHECK(b.controller->attach(attach_request(other)));
}

TEST_CASE("keys of volumes whose headers are not read yet are in use") {
    Bench b;
    const auto v = protected_volume(b, "data");
    auto free_key = b.keys->create("free", 512, {});
    REQUIRE(free_key);
    const auto& key = v->header.keys[0].id;
    CHECK(b.controller->check_key_free(free_key->id));
    SECTION("by its record") {
        b.restart();
        CHECK(b.controller->check_key_free(key).error().code == Errc::busy);
        CHECK(b.controller->check_key_free(free_key->id));
    }
    SECTION("by its record, whatever an edited header says") {
        forge(v->device, key, free_key->id);
        b.restart();
        b.controller->resync();
        CHECK(b.registry->find("data")->state != VolumeState::up);
        CHECK(b.controller->check_key_free(key).error().code == Errc::busy);
    }
    SECTION("any key, where the record does not tell") {
        const std::string path = b.folder / "run/volumes/data.json";
        auto record = nlohmann::json::parse(std::ifstream(path));
        REQUIRE(record.at("keys").size() == 1);
        record.erase("keys");
        std::ofstream(path) << record;
        b.restart();
        CHECK(b.controller->check_key_free(key).error().code == Errc::busy);
        CHECK(b.controller->check_key_free(free_key->id).error().code == Errc::busy);
        CHECK_FALSE(b.controller->resync());
        CHECK(b.controller->check_key_free(free_key->id));
        CHECK(b.controller->check_key_free(key).error().code == Errc::busy);
    }
}

TEST_CASE("the link goes with its block device, before anybody else has its number") {
    Bench b;
    const auto v = protected_volume(b, "data");
    SECTION("the block device is gone") {
        fs::remove(v->block_device);
        b.controller->resync();
        CHECK(b.registry->find("data")->state == VolumeState::down);
        CHECK_FALSE(is_linked(b));
        SECTION("and a detach that fails does not bring it back") {
            b.backend->in_use = true;
            CHECK_FALSE(b.controller->detach("data", patience));
            CHECK_FALSE(is_linked(b));
        }
    }
    SECTION("it is gone, and there are no keys") {
        fs::remove(v->block_device);
        REQUIRE(b.seat->with([](keys::Keystore& store) -> Result<void> {
            store.seal();
            return {};
        }));
        b.shim->restart();
        b.controller->resync();
        CHECK(b.registry->find("data")->state == VolumeState::waiting_for_keys);
        CHECK_FALSE(is_linked(b));
    }
    SECTION("the shim has lost the volume") {
        b.shim->die();
        b.shim->up = true;
        b.controller->resync();
        CHECK_FALSE(is_linked(b));
    }
    SECTION("detach") {
        bool linked = true;
        b.backend->before_conceal = [&] { linked = is_linked(b); };
        SECTION("done") {
            REQUIRE(b.controller->detach("data", patience));
            CHECK_FALSE(is_linked(b));
        }
        SECTION("refused: it comes back") {
            b.backend->in_use = true;
            CHECK_FALSE(b.controller->detach("data", patience));
            CHECK(fs::read_symlink(b.folder / "dev/data") == v->block_device);
        }
        CHECK_FALSE(linked);
    }
}

TEST_CASE("a forced attach that fails does not lower the remembered sequence number") {
    Bench b;
    const auto v = protected_volume(b, "data");
    REQUIRE(b.controller->detach("data", patience));
    remember(b, v, 9);
    b.backend->expose_fails = true;
    CHECK_FALSE(b.controller->attach(attach_request(v, true)));
    CHECK(remembered(b, v) == 9);
    b.backend->expose_fails = false;
    CHECK(b.controller->attach(attach_request(v)).error().code == Errc::refused);
    REQUIRE(b.controller->attach(attach_request(v, true)));
    CHECK(remembered(b, v) == 1);
}

TEST_CASE("an endpoint whose making was not answered is removed; one of others stays") {
    Bench b;
    const auto v = protected_volume(b, "data");
    auto& shim = *b.controller->shims().all().back().shim;
    SECTION("the answer was lost") {
        REQUIRE(b.controller->detach("data", patience));
        b.backend->answer_lost = true;
        CHECK(b.controller->attach(attach_request(v)).error().code == Errc::exists);
        CHECK(shim.list()->empty());
        b.backend->answer_lost = false;
        CHECK(b.controller->attach(attach_request(v)));
    }
    SECTION("somebody's endpoint") {
        fs::remove(b.folder / "run/volumes/data.json");
        fs::remove(b.folder / "dev/data");
        b.restart();
        auto& now = *b.controller->shims().all().back().shim;
        CHECK(b.controller->attach(attach_request(v)).error().code == Errc::exists);
        CHECK(now.list()->size() == 1);
        CHECK(fs::exists(v->block_device));
    }
}
