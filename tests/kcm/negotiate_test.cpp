// SPDX-License-Identifier: Apache-2.0
// Handshake, query, associate against the real core, from every state an endpoint may be in.
#include <cstring>

#include <catch2/catch.hpp>

#include "core_shim.h"
#include "kcm/device_lbas.h"
#include "kcm/negotiate.h"

using namespace dek;
using namespace dek::kcm;
using namespace kcmtest;

namespace {

struct Fixture {
    std::shared_ptr<CoreShim> core = std::make_shared<CoreShim>();
    Shim shim{std::make_unique<CoreTransport>(core), std::chrono::milliseconds(50)};
    volume::Header header;
    std::map<std::string, Secret> ring;
    unsigned asked = 0;

    explicit Fixture(std::size_t ranges = 3, std::size_t keys = 1) {
        header.sequence = 1;
        header.uuid = volume::random_uuid();
        header.offset = volume::default_data_lba;
        header.size = 1 << 20;
        for (std::size_t i = 0; i < keys; i++) {
            const std::string id = "key-" + std::to_string(i);
            ring[id] = Secret::random(i % 2 ? 32 : 64);
            header.keys.push_back(volume::make_header_key(id, "keystore", ring[id]));
        }
        for (std::size_t i = 0; i < ranges; i++)
            header.ranges.push_back({{i * 16 + 8, 8}, static_cast<std::uint16_t>(i % keys)});
        dek_ioc_volume v{};
        std::copy(header.uuid.begin(), header.uuid.end(), v.uuid);
        v.offset = header.offset;
        v.count = header.size;
        v.data_unit = v.logical_block = 4096;
        std::strcpy(v.name, "v");
        std::strcpy(v.device, "/d");
        REQUIRE(shim.volume_create(v));
    }
    KeyFinder finder() {
        return [this](const volume::HeaderKey& key) -> Result<Secret> {
            asked++;
            return ring.at(key.id).clone();
        };
    }
};

} // namespace

TEST_CASE("an endpoint gets map and keys, and nothing is asked for the second time") {
    Fixture f(3, 2);
    CHECK_FALSE(*is_established(f.shim, f.header));
    REQUIRE(establish(f.shim, f.header, f.finder()));
    CHECK(*is_established(f.shim, f.header));
    CHECK(f.asked == 2);
    auto ranges = f.shim.ranges(f.header.uuid);
    REQUIRE(ranges);
    REQUIRE(ranges->size() == 3);
    CHECK((*ranges)[0].first == f.header.offset + 8);
    for (const auto& range : *ranges)
        CHECK(range.state == DEK_RANGE_KEYED);
    REQUIRE(establish(f.shim, f.header, f.finder()));
    CHECK(f.asked == 2);
    CHECK(f.core->keys.size() == 2);
}

TEST_CASE("the endpoint is given the very key, its ID and the tweak geometry") {
    Fixture f(1, 1);
    f.header.tweak = volume::TweakRule::lba512;
    REQUIRE(establish(f.shim, f.header, f.finder()));
    REQUIRE(f.core->keys.size() == 1);
    CHECK(f.ring.at("key-0").equals(f.core->keys[0]));
    auto a = f.shim.associations(f.header.uuid);
    REQUIRE(a);
    REQUIRE(a->size() == 1);
    CHECK(std::string(reinterpret_cast<const char*>(a->front().key_id), a->front().key_id_length) ==
          "key-0");
    const auto* info = reinterpret_cast<const dek_wire_app_info*>(a->front().app_info);
    CHECK(dek_get_le32(&info->data_unit) == 4096);
    CHECK(info->tweak_rule == DEK_TWEAK_LBA512);
    CHECK(dek_get_le64(&info->device_origin) == f.header.offset);
    CHECK(dek_get_le64(&info->logical_origin) == 0);
}

TEST_CASE("2048 ranges are queried by sixty and associated by the block's capacity") {
    Fixture f(2048, 1);
    REQUIRE(establish(f.shim, f.header, f.finder()));
    CHECK(*is_established(f.shim, f.header));
    CHECK(f.shim.ranges(f.header.uuid)->size() == 2048);
    dek_blob blob{};
    blob.present = true;
    blob.type = DEK_BLOB_UNWRAPPED;
    const auto capacity = dek_associate_capacity(&blob, 5);
    const auto associations = (2048 + capacity - 1) / capacity;
    CHECK(f.shim.associations(f.header.uuid)->size() == associations);
    CHECK(f.core->commands == 1 + (2048 + 59) / 60 + associations);
    CHECK(f.asked == 1);
}

TEST_CASE("Busy is tried again, and given up in the end") {
    Fixture f;
    f.core->busy = 5;
    REQUIRE(establish(f.shim, f.header, f.finder()));
    Fixture g;
    g.core->busy = ~0u;
    g.shim.busy_patience(std::chrono::milliseconds(20));
    auto done = establish(g.shim, g.header, g.finder());
    REQUIRE_FALSE(done);
    CHECK(done.error().code == Errc::busy);
}

TEST_CASE("what was begun is finished: some associations are there, the rest is added") {
    Fixture f(2048, 1);
    f.core->associates_left = 3;
    auto cut = establish(f.shim, f.header, f.finder());
    REQUIRE_FALSE(cut);
    CHECK(cut.error().code == Errc::no_space);
    CHECK_FALSE(*is_established(f.shim, f.header));
    f.core->associates_left = ~0u;
    REQUIRE(establish(f.shim, f.header, f.finder()));
    CHECK(*is_established(f.shim, f.header));
    CHECK(f.shim.ranges(f.header.uuid)->size() == 2048);
}

TEST_CASE("an association that the header does not know is taken away") {
    Fixture f(2, 1);
    REQUIRE(establish(f.shim, f.header, f.finder()));
    auto other = f.header;
    SECTION("another key") {
        f.ring["key-9"] = Secret::random(64);
        other.keys[0] = volume::make_header_key("key-9", "keystore", f.ring["key-9"]);
    }
    SECTION("another tweak rule") {
        other.tweak = volume::TweakRule::lba512;
    }
    SECTION("other ranges") {
        other.ranges[1].lbas = {800, 80};
    }
    SECTION("fewer ranges") {
        other.ranges.pop_back();
    }
    CHECK_FALSE(*is_established(f.shim, other));
    REQUIRE(establish(f.shim, other, f.finder()));
    CHECK(*is_established(f.shim, other));
    CHECK_FALSE(*is_established(f.shim, f.header));
}

TEST_CASE("a restarted shim gets everything again") {
    Fixture f(100, 2);
    REQUIRE(establish(f.shim, f.header, f.finder()));
    f.core->restart();
    CHECK_FALSE(*is_established(f.shim, f.header));
    REQUIRE(establish(f.shim, f.header, f.finder()));
    CHECK(*is_established(f.shim, f.header));
}

TEST_CASE("no key, no association, and the ranges are fenced, not plain") {
    Fixture f(2, 1);
    auto done = establish(f.shim, f.header, [](const auto&) -> Result<Secret> {
        return fail(Errc::locked, "sealed");
    });
    REQUIRE_FALSE(done);
    CHECK(done.error().code == Errc::locked);
    const auto ranges = f.shim.ranges(f.header.uuid);
    REQUIRE(ranges);
    for (const auto& range : *ranges)
        CHECK(range.state == DEK_RANGE_FENCED);
}

TEST_CASE("a key the endpoint cannot take is refused with its sentence") {
    Fixture f(1, 1);
    f.ring["key-0"] = Secret(64); // equal halves
    auto done = establish(f.shim, f.header, f.finder());
    REQUIRE_FALSE(done);
    CHECK(done.error().code == Errc::invalid_argument);
    f.ring["key-0"] = Secret::random(48);
    CHECK(establish(f.shim, f.header, f.finder()).error().code == Errc::invalid_argument);
}

TEST_CASE("nobody under the UUID, and no shim at all") {
    Fixture f;
    f.header.uuid = volume::random_uuid();
    CHECK(establish(f.shim, f.header, f.finder()).error().code == Errc::not_found);
    f.core->up = false;
    CHECK(establish(f.shim, f.header, f.finder()).error().code == Errc::unavailable);
}

TEST_CASE("an in-place header's place is reserved in the map") {
    volume::Header h;
    h.place = volume::Place::in_place;
    h.header_lba = 1024;
    h.size = 20480;
    h.ranges = {{{0, 512}, 0}, {{1536, 8704}, 0}, {{10240, 64}, 0}};
    const auto map = must_encrypt_map(h);
    REQUIRE(map.size() == 3);
    CHECK(map[1].first == 1024);
    CHECK(map[1].count == 512);
    CHECK(map[1].kind == DEK_MAP_RESERVED);
    CHECK(map[2].count == 8768); // neighbours joined
}

TEST_CASE("tweaks count data units of the volume, not of the device") {
    volume::Header h;
    h.offset = 2048;
    h.size = 4096;
    h.data_unit = 4096;
    CHECK(tweak_of(h, 0) == 0);
    CHECK(tweak_of(h, 24) == 3);
    CHECK(tweak_of(h, 31) == 3);
    h.tweak = volume::TweakRule::lba512;
    CHECK(tweak_of(h, 24) == 24);
    CHECK(tweak_of(h, 31) == 24);
    const auto g = tweak_geometry(h);
    CHECK(dek_geometry_valid(&g));
    struct dek_tweak_run run;
    dek_tweak_run(&g, 2048 + 24, 8, &run);
    CHECK(run.tweak == tweak_of(h, 24));
    h.tweak = volume::TweakRule::unit;
    const auto u = tweak_geometry(h);
    dek_tweak_run(&u, 2048 + 24, 8, &run);
    CHECK(run.tweak == tweak_of(h, 24));
}
