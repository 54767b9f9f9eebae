// SPDX-License-Identifier: Apache-2.0
// Attach, detach, erase, resize, restarts of kcmd and of the shim.
#include <fstream>

#include <catch2/catch.hpp>
#include <openssl/evp.h>

#include "bench.h"
#include "kcm/status.h"

using namespace dek;
using namespace dek::kcm;
using kcmtest::Bench;
namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t mib = 2048;
constexpr std::chrono::milliseconds patience{100};

AttachRequest attach_request(const std::string& device, bool force = false) {
    return {device, {}, force, ShimChoice::automatic, ""};
}

VolumePtr protected_volume(Bench& b, const std::string& ranges = "all") {
    auto r = b.request(b.image("disk", 16 * mib), "data");
    r.encrypt = {{ranges, ""}};
    auto v = b.controller->protect(r);
    REQUIRE(v);
    return *v;
}

void seal(Bench& b) {
    REQUIRE(b.seat->with([](keys::Keystore& store) -> Result<void> {
        store.seal();
        return {};
    }));
}

// The header as it is, changed, sealed with the volume's own key again.
void rewrite(Bench& b, const std::string& device,
             const std::function<void(volume::Header&)>& change) {
    auto d = open_device(device, Access::write);
    auto sited = find_header(*d, {}, Access::write);
    REQUIRE(sited);
    auto header = sited->found.copy.header;
    change(header);
    auto key = b.keys->material(header.keys.front());
    REQUIRE(key);
    REQUIRE(volume::write(sited->site.location, header, *key));
}

// The first range of both copies begins 8 LBAs later, and the SHA-256 is right again: what somebody
// does who wants plaintext written and has no key. Offsets as in docs/header.md.
void edit_map(const std::string& device) {
    std::fstream file(device, std::ios::in | std::ios::out | std::ios::binary);
    for (const std::streamoff copy : {0, 65536}) {
        std::string bytes(65536, '\0');
        file.seekg(copy);
        file.read(bytes.data(), 65536);
        const std::size_t size = dek_get_le32(bytes.data() + 12);
        dek_put_le64(bytes.data() + 512, dek_get_le64(bytes.data() + 512) + 8);
        dek_put_le64(bytes.data() + 520, dek_get_le64(bytes.data() + 520) - 8);
        const std::string covered = bytes.substr(0, 448) + bytes.substr(480, size - 480);
        unsigned char hash[32];
        unsigned int length = sizeof hash;
        REQUIRE(EVP_Digest(covered.data(), covered.size(), hash, &length, EVP_sha256(), nullptr) ==
                1);
        bytes.replace(448, 32, reinterpret_cast<char*>(hash), 32);
        file.seekp(copy);
        file.write(bytes.data(), 65536);
    }
}

} // namespace

TEST_CASE("detach undoes attach, and attach brings back the same volume") {
    Bench b;
    const auto v = protected_volume(b);
    REQUIRE(b.controller->detach("data", patience));
    CHECK(b.registry->all().empty());
    CHECK(b.controller->shims().all().back().shim->list()->empty());
    CHECK_FALSE(fs::is_symlink(b.folder / "dev/data"));
    CHECK(fs::is_empty(b.folder / "run/volumes"));
    auto again = b.controller->attach(attach_request(v->device));
    REQUIRE(again);
    CHECK((*again)->header.uuid == v->header.uuid);
    CHECK((*again)->header.ranges == v->header.ranges);
    CHECK(b.shim->keys[0] == b.shim->keys[1]);
    CHECK(b.controller->attach(attach_request(v->device)).error().code == Errc::busy);
    REQUIRE(b.controller->detach("data", patience));
    auto renamed = attach_request(v->device);
    renamed.name = "other";
    CHECK(b.controller->attach(renamed));
    CHECK(fs::is_symlink(b.folder / "dev/other"));
    CHECK(b.controller->detach("data", patience).error().code == Errc::not_found);
}

TEST_CASE("a volume in use stays attached") {
    Bench b;
    const auto v = protected_volume(b);
    const auto before = b.fingerprint();
    b.backend->in_use = true;
    auto done = b.controller->detach("data", patience);
    REQUIRE_FALSE(done);
    CHECK(done.error().code == Errc::busy);
    CHECK(b.fingerprint() == before);
    CHECK(*is_established(*b.controller->shims().all().back().shim, v->header));
}

TEST_CASE("a header that is not what it should be is not attached") {
    Bench b;
    const auto v = protected_volume(b);
    REQUIRE(b.controller->detach("data", patience));
    const auto attach_fails = [&](Errc code) {
        const auto before = b.fingerprint();
        auto done = b.controller->attach(attach_request(v->device));
        REQUIRE_FALSE(done);
        INFO(done.error().reason);
        CHECK(done.error().code == code);
        CHECK(b.fingerprint() == before);
        CHECK(b.controller->shims().all().back().shim->list()->empty());
    };
    SECTION("none") {
        REQUIRE(b.controller->erase({v->device, {}, true, false}));
        attach_fails(Errc::not_found);
    }
    SECTION("a map edited on disk, with a checksum that holds") {
        edit_map(v->device);
        attach_fails(Errc::corrupt);
    }
    SECTION("a header under another key of the same ID") {
        auto d = open_device(v->device, Access::write);
        auto header = v->header;
        header.sequence++;
        const Secret other = Secret::random(64);
        const auto kept = header.keys[0];
        header.keys[0] = volume::make_header_key(kept.id, kept.provider, other);
        REQUIRE(volume::erase({d->fd.get(), 0, false}));
        REQUIRE(volume::write({d->fd.get(), 0, false}, header, other));
        attach_fails(Errc::wrong_key);
    }
    SECTION("an older one than was seen") {
        rewrite(b, v->device, [](volume::Header& h) { h.sequence = 7; });
        REQUIRE(b.controller->attach(attach_request(v->device)));
        REQUIRE(b.controller->detach("data", patience));
        auto d = open_device(v->device, Access::write);
        auto key = b.keys->material(v->header.keys[0]);
        REQUIRE(volume::erase({d->fd.get(), 0, false}));
        REQUIRE(volume::write({d->fd.get(), 0, false}, v->header, *key));
        attach_fails(Errc::refused);
        CHECK(b.controller->attach(attach_request(v->device, true)));
    }
    SECTION("its key is being changed") {
        rewrite(b, v->device, [](volume::Header& h) {
            h.sequence++;
            h.incompatible |= volume::feature_rekey;
            h.rekey_state = R"({"step": 1})";
        });
        attach_fails(Errc::unsupported);
        auto done = b.controller->attach(attach_request(v->device, true));
        REQUIRE_FALSE(done);
        CHECK(done.error().reason.find("is being changed") != std::string::npos);
    }
    SECTION("the device has shrunk") {
        fs::resize_file(v->device, 8 * mib * 512);
        attach_fails(Errc::refused);
    }
    SECTION("its key is destroyed") {
        REQUIRE(b.keys->destroy(v->header.keys[0].id));
        attach_fails(Errc::refused);
    }
    SECTION("the keystore is sealed") {
        seal(b);
        auto done = b.controller->attach(attach_request(v->device));
        REQUIRE_FALSE(done);
        CHECK(done.error().code == Errc::locked);
    }
}

TEST_CASE("swap on the userspace shim asks for force") {
    Bench b;
    const auto v = protected_volume(b);
    REQUIRE(b.controller->detach("data", patience));
    b.backend->shows =
        b.image("decrypted", 15 * mib); // the core decrypts nothing: this is what the volume shows
    {
        std::string page(4096, '\0');
        page[1024] = 1;
        page[1028] = 100;
        page.replace(4086, 10, "SWAPSPACE2");
        std::fstream file(b.backend->shows, std::ios::in | std::ios::out);
        file << page;
    }
    auto done = b.controller->attach(attach_request(v->device));
    REQUIRE_FALSE(done);
    CHECK(done.error().code == Errc::refused);
    CHECK(done.error().reason.find("swap") != std::string::npos);
    CHECK(b.controller->shims().all().back().shim->list()->empty());
    CHECK(b.controller->attach(attach_request(v->device, true)));
}

TEST_CASE("erase needs force, a detached volume, and destroys keys only when told") {
    Bench b;
    const auto v = protected_volume(b);
    CHECK(b.controller->erase({v->device, {}, true, false}).error().code == Errc::busy);
    REQUIRE(b.controller->detach("data", patience));
    const auto before = b.fingerprint();
    auto timid = b.controller->erase({v->device, {}, false, false});
    REQUIRE_FALSE(timid);
    CHECK(timid.error().code == Errc::refused);
    CHECK(b.fingerprint() == before);
    SECTION("keys stay") {
        auto done = b.controller->erase({v->device, {}, true, false});
        REQUIRE(done);
        CHECK(done->uuid == v->header.uuid);
        CHECK(done->keys_destroyed.empty());
        CHECK(b.keys->info(v->header.keys[0].id)->state == keys::KeyState::active);
    }
    SECTION("keys go") {
        auto done = b.controller->erase({v->device, {}, true, true});
        REQUIRE(done);
        CHECK(done->keys_destroyed.size() == 1);
        CHECK(b.keys->info(v->header.keys[0].id)->state == keys::KeyState::destroyed);
    }
    CHECK(*is_zero(*open_device(v->device, Access::read), 0, 16 * mib * 512));
    CHECK(b.controller->erase({v->device, {}, true, false}).error().code == Errc::not_found);
}

TEST_CASE("a damaged header is erased only where the caller says") {
    Bench b;
    const auto v = protected_volume(b);
    REQUIRE(b.controller->detach("data", patience));
    {
        std::fstream file(v->device, std::ios::in | std::ios::out);
        for (const std::uint64_t byte : {200u, 200u + 65536u}) {
            file.seekp(static_cast<std::streamoff>(byte));
            file << "damage";
        }
    }
    CHECK(b.controller->erase({v->device, {}, true, false}).error().code == Errc::corrupt);
    CHECK(b.controller->erase({v->device, {0, ""}, false, false}).error().code == Errc::refused);
    CHECK(b.controller->erase({v->device, {0, ""}, true, true}).error().code == Errc::refused);
    auto done = b.controller->erase({v->device, {0, ""}, true, false});
    REQUIRE(done);
    CHECK_FALSE(done->uuid);
}

TEST_CASE("kcmd restarts: volumes stay up, and no key is asked for but the header's") {
    Bench b;
    const auto v = protected_volume(b);
    const auto associated = b.shim->keys.size();
    b.restart();
    CHECK(b.registry->find("data")->state == VolumeState::down); // nothing is known yet
    CHECK_FALSE(b.controller->resync());
    const auto back = b.registry->find("data");
    REQUIRE(back);
    CHECK(back->state == VolumeState::up);
    CHECK(back->header.ranges == v->header.ranges);
    CHECK(back->block_device == v->block_device);
    CHECK(b.shim->keys.size() == associated);
    CHECK(b.controller->detach("data", patience));
}

TEST_CASE("a restarted kcmd with a sealed keystore waits, touches nothing, and goes on when it is "
          "opened") {
    Bench b;
    const auto v = protected_volume(b);
    b.restart();
    seal(b);
    b.shim->restart();
    CHECK(b.controller->resync());
    CHECK(b.registry->find("data")->state == VolumeState::waiting_for_keys);
    CHECK(b.registry->find("data")->reason.find("seal") != std::string::npos);
    CHECK(b.controller->shims().all().back().shim->list()->front().map_generation == 0);
    auto told = volume_json(*b.registry->find("data"), *b.controller->shims().all().back().shim,
                            "/dev/dek");
    CHECK(told["state"] == "waiting-for-keys");
    b.shim->recovered();
    told = volume_json(*b.registry->find("data"), *b.controller->shims().all().back().shim,
                       "/dev/dek");
    CHECK(told["state"] == "fenced");
    CHECK(told["reason"].get<std::string>().find("seal") != std::string::npos);
    REQUIRE(b.seat->with([](keys::Keystore& store) { return store.unseal_automatically(); }));
    CHECK_FALSE(b.controller->resync());
    CHECK(b.registry->find("data")->state == VolumeState::up);
    CHECK(*is_established(*b.controller->shims().all().back().shim, v->header));
}

TEST_CASE(
    "a restarted kcmd tells of a volume that the shim goes on with though no key can be had") {
    Bench b;
    const auto v = protected_volume(b, "80-4095,8192-16383");
    const auto before = volume_json(*v, *b.controller->shims().all().back().shim, "/dev/dek");
    const auto drawn = topology_json(*v, *b.controller->shims().all().back().shim, "/dev/dek");
    b.restart();
    seal(b);
    CHECK(b.controller->resync()); // once more later
    const auto back = b.registry->find("data");
    CHECK_FALSE(back->verified);
    auto now = volume_json(*back, *b.controller->shims().all().back().shim, "/dev/dek");
    CHECK(now["state"] == "up");
    CHECK(now["reason"].get<std::string>().find("seal") != std::string::npos);
    for (const char* same : {"size", "offset", "encrypted_blocks", "plain_blocks", "data_unit",
                             "logical_block", "associations", "block_device", "place"})
        CHECK(now[same] == before[same]);
    CHECK(now["keys"].size() == 1);
    CHECK(*topology_json(*back, *b.controller->shims().all().back().shim, "/dev/dek") == *drawn);
    // Nothing is done by a header that is not verified.
    CHECK(b.controller->resize("data", std::nullopt).error().code == Errc::unavailable);
    REQUIRE(b.seat->with([](keys::Keystore& store) { return store.unseal_automatically(); }));
    CHECK_FALSE(b.controller->resync());
    CHECK(b.registry->find("data")->verified);
    CHECK(volume_json(*b.registry->find("data"), *b.controller->shims().all().back().shim,
                      "/dev/dek")["reason"] == "");
}

TEST_CASE("the shim restarts: every volume has its map and keys again") {
    Bench b;
    const auto v = protected_volume(b, "0-4095,8192-");
    b.shim->restart();
    CHECK_FALSE(*is_established(*b.controller->shims().all().back().shim, v->header));
    CHECK_FALSE(b.controller->resync());
    CHECK(*is_established(*b.controller->shims().all().back().shim, v->header));
    CHECK(b.shim->keys[0] == b.shim->keys[1]);
}

TEST_CASE("the shim dies: the volume is down, and attach works when it is back") {
    Bench b;
    const auto v = protected_volume(b);
    b.shim->die();
    b.controller->resync();
    CHECK(b.registry->find("data")->state == VolumeState::down);
    CHECK(b.controller->attach(attach_request(v->device)).error().code == Errc::unavailable);
    b.shim->up = true;
    b.controller->resync();
    CHECK(b.registry->find("data")->state == VolumeState::down);
    CHECK(b.registry->find("data")->reason.find("attach") != std::string::npos);
    SECTION("what is left of it is still in use") {
        b.backend->in_use = true;
        CHECK(b.controller->attach(attach_request(v->device)).error().code == Errc::busy);
        b.backend->in_use = false;
    }
    auto again = b.controller->attach(attach_request(v->device));
    REQUIRE(again);
    CHECK((*again)->state == VolumeState::up);
}

TEST_CASE("an endpoint whose making was cut short is finished; a record without endpoint goes") {
    Bench b;
    const auto v = protected_volume(b);
    auto record = nlohmann::json::parse(std::ifstream(b.folder / "run/volumes/data.json"));
    record["complete"] = false;
    std::ofstream(b.folder / "run/volumes/data.json") << record;
    fs::remove(b.folder / "dev/data");
    fs::remove(v->block_device);
    SECTION("endpoint made, not associated") {
        b.shim->restart();
        b.restart();
        CHECK_FALSE(b.controller->resync());
        CHECK(b.registry->find("data")->state == VolumeState::up);
        CHECK(fs::is_symlink(b.folder / "dev/data"));
        CHECK(*is_established(*b.controller->shims().all().back().shim, v->header));
    }
    SECTION("no endpoint yet") {
        b.shim->die();
        b.shim->up = true;
        b.restart();
        CHECK_FALSE(b.controller->resync());
        CHECK(b.registry->all().empty());
        CHECK(fs::is_empty(b.folder / "run/volumes"));
        CHECK(b.controller->attach(attach_request(v->device)));
    }
}

TEST_CASE("the run directory is wiped: endpoints are recognised by the headers beneath them") {
    Bench b;
    protected_volume(b);
    fs::remove(b.folder / "run/volumes/data.json");
    b.restart();
    CHECK_FALSE(b.controller->resync());
    REQUIRE(b.registry->find("data"));
    CHECK(b.registry->find("data")->state == VolumeState::up);
    CHECK(fs::exists(b.folder / "run/volumes/data.json"));
}

TEST_CASE("a record nobody can read is set aside") {
    Bench b;
    std::ofstream(b.folder / "run/volumes/bad.json") << "{\"name\": 5}";
    b.restart();
    CHECK(b.registry->all().empty());
    CHECK(fs::exists(b.folder / "run/volumes/bad.json.bad"));
}

TEST_CASE("a block device that has gone is reported, not made anew") {
    Bench b;
    const auto v = protected_volume(b);
    fs::remove(v->block_device);
    b.restart();
    b.controller->resync();
    CHECK(b.registry->find("data")->state == VolumeState::down);
    CHECK_FALSE(fs::exists(v->block_device));
    CHECK(b.controller->detach("data", patience));
    CHECK(b.controller->attach(attach_request(v->device)));
}

TEST_CASE("holds that a dead kcmd left behind are lifted") {
    Bench b;
    const auto v = protected_volume(b);
    REQUIRE(b.shim->quiesce(v->header.uuid, 2048, 80) != 0);
    REQUIRE(b.controller->shims().all().back().shim->tokens(v->header.uuid)->size() == 1);
    b.restart();
    b.controller->resync();
    CHECK(b.controller->shims().all().back().shim->tokens(v->header.uuid)->empty());
}

TEST_CASE("a header that was edited while the shim served it is not followed") {
    Bench b;
    const auto v = protected_volume(b);
    {
        std::fstream file(v->device, std::ios::in | std::ios::out);
        for (const std::uint64_t byte : {200u, 200u + 65536u}) {
            file.seekp(static_cast<std::streamoff>(byte));
            file << "damage";
        }
    }
    b.restart();
    b.shim->restart();
    b.controller->resync();
    CHECK(b.registry->find("data")->state != VolumeState::up);
    CHECK(b.controller->shims().all().back().shim->list()->front().map_generation == 0);
}

TEST_CASE("a volume grows with its device, encrypted to its end, and a cut is refused") {
    Bench b;
    const auto v = protected_volume(b, "8192-");
    fs::resize_file(v->device, 32 * mib * 512);
    auto grown = b.controller->resize("data", std::nullopt);
    REQUIRE(grown);
    CHECK((*grown)->header.size == 31 * mib);
    CHECK((*grown)->header.sequence == 2);
    CHECK((*grown)->header.ranges.back().lbas.count == 31 * mib - 8192);
    CHECK(*is_established(*b.controller->shims().all().back().shim, (*grown)->header));
    CHECK(b.controller->shims().all().back().shim->list()->front().count == 31 * mib);
    CHECK(b.controller->resize("data", 16384).error().code == Errc::refused);
    CHECK(b.controller->resize("data", 31 * mib + 8).error().code == Errc::invalid_argument);
    CHECK(b.controller->resize("data", 31 * mib - 1).error().code == Errc::invalid_argument);
    REQUIRE(b.controller->detach("data", patience));
    CHECK((*b.controller->attach(attach_request(v->device)))->header.size == 31 * mib);
}

TEST_CASE("a header's backup is put back, and not while the volume is attached") {
    Bench b;
    const auto v = protected_volume(b);
    auto device = open_device(v->device, Access::read);
    auto copy = find_header(*device, {}, Access::read)->found.copy;
    CHECK(b.controller->header_restore(v->device, {}, copy, true).error().code == Errc::busy);
    REQUIRE(b.controller->detach("data", patience));
    REQUIRE(b.controller->erase({v->device, {}, true, false}));
    auto restored = b.controller->header_restore(v->device, {}, copy, false);
    REQUIRE(restored);
    CHECK(restored->header.sequence > v->header.sequence);
    CHECK(b.controller->attach(attach_request(v->device)));
}

TEST_CASE("topology names every LBA once") {
    Bench b;
    const auto v = protected_volume(b, "80-4095,8192-16383");
    auto j = topology_json(*v, *b.controller->shims().all().back().shim, "/dev/dek");
    REQUIRE(j);
    std::uint64_t next = 0;
    for (const auto& range : (*j)["ranges"]) {
        CHECK(range["first"] == next);
        next = range["last"].get<std::uint64_t>() + 1;
    }
    CHECK(next == v->header.size);
    CHECK((*j)["ranges"].size() == 5);
    CHECK((*j)["ranges"][1]["state"] == "keyed");
    CHECK((*j)["ranges"][1]["key"] == v->header.keys[0].id);
    CHECK((*j)["ranges"][1]["tweak_first"] == 10);
    CHECK((*j)["ranges"][2]["key"].is_null());
}

TEST_CASE("switching needs device-mapper, and the endpoint is where a volume is already") {
    Bench b;
    protected_volume(b);
    CHECK(b.controller->switch_to("data", "endpoint"));
    CHECK(b.controller->switch_to("data", "software").error().code == Errc::unsupported);
    CHECK(b.controller->switch_to("data", "sideways").error().code == Errc::invalid_argument);
    CHECK(b.controller->switch_to("none", "endpoint").error().code == Errc::not_found);
}

TEST_CASE("a damaged keystore is told of, stops nothing else, and can be restored") {
    Bench b;
    const auto v = protected_volume(b);
    const std::string backup = b.folder / "backup.db";
    REQUIRE(b.seat->with([&](keys::Keystore& store) { return store.backup(backup, false); }));
    REQUIRE(b.controller->detach("data", patience));
    KeystoreSeat seat(b.folder / "other.db");
    std::ofstream(seat.path()) << "this is no keystore";
    CHECK_FALSE(seat.open());
    const auto ask = [](keys::Keystore& store) { return store.enrolments(); };
    auto asked = seat.with(ask);
    REQUIRE_FALSE(asked);
    CHECK(asked.error().code == Errc::corrupt);
    CHECK(seat.present());
    CHECK(seat.trouble()->code == Errc::corrupt);
    REQUIRE(seat.restore(backup, keys::FileUnsealer{b.folder / "master.key"}, true));
    CHECK(seat.with(ask));
    CHECK_FALSE(seat.sealed());
    CHECK_FALSE(seat.trouble());
    CHECK_FALSE(b.seat->trouble());
}
