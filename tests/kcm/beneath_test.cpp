// SPDX-License-Identifier: Apache-2.0
// What legs do for the volumes above them, against the real core.
#include <cstring>

#include <catch2/catch.hpp>

#include "core_shim.h"
#include "kcm/beneath.h"
#include "kcm/cover.h"
#include "kcm/device_lbas.h"
#include "kcm/engine_loan.h"
#include "kcm/hold.h"
#include "kcm/negotiate.h"
#include "kcm/shim_port.h"

using namespace dek;
using namespace dek::kcm;
using namespace kcmtest;
using layers::Kind;

namespace {

constexpr std::uint64_t leg_lbas = 65536;

LunMap map_of(std::vector<dek_range> ranges) {
    return LunMap::from(std::move(ranges)).value();
}

// A volume over a mirror of two legs.
struct Bench {
    std::shared_ptr<CoreShim> core = std::make_shared<CoreShim>();
    Shim shim{std::make_unique<CoreTransport>(core), std::chrono::milliseconds(50)};
    std::vector<Uuid> legs;
    volume::Header header;
    Secret key = Secret::random(64);
    unsigned asked = 0;

    Bench() {
        for (const char* name : {"/a", "/b"}) {
            dek_ioc_volume v{};
            legs.push_back(volume::random_uuid());
            std::copy(legs.back().begin(), legs.back().end(), v.uuid);
            v.count = leg_lbas;
            v.data_unit = v.logical_block = 4096;
            std::strcpy(v.name, name + 1);
            std::strcpy(v.device, name);
            REQUIRE(shim.volume_create(v));
            REQUIRE(shim.map(legs.back(), 1, {}));
        }
        header = header_of("mine", {{{2048, 4096}, 0}, {{8192, 800}, 0}});
    }
    volume::Header header_of(const std::string& key_id,
                             std::vector<volume::EncryptedRange> ranges) {
        volume::Header h;
        h.uuid = volume::random_uuid();
        h.size = leg_lbas;
        h.place = volume::Place::detached;
        h.keys.push_back(volume::make_header_key(key_id, "keystore", key));
        h.ranges = std::move(ranges);
        return h;
    }
    std::shared_ptr<const Survey> survey(const volume::Header& h, bool second_can = true) const {
        auto s = std::make_shared<Survey>();
        layers::Device mirror;
        mirror.name = "top";
        mirror.kind = Kind::multipath;
        mirror.size = leg_lbas;
        for (std::size_t i = 0; i < legs.size(); i++) {
            layers::Device leg;
            leg.name = std::string("leg ") + static_cast<char>('a' + i);
            leg.uuid = volume::uuid_text(legs[i]);
            leg.kind = i == 0 || second_can ? Kind::endpoint : Kind::fence;
            leg.size = leg_lbas;
            leg.endpoint.engines = leg.kind == Kind::endpoint ? DEK_ENGINE_CPU : 0;
            s->stack.devices.push_back(leg);
            mirror.legs.push_back({i, 0, 0, 0, layers::PathState::active});
        }
        s->stack.devices.push_back(mirror);
        s->stack.top = legs.size();
        s->decision = layers::decide(
            s->stack, {encrypted_device_map(h), tweak_geometry(h), layers::Policy::prefer, {}});
        return s;
    }
    Beneath of(const volume::Header& h, bool second_can = true) {
        return Beneath(shim, h, survey(h, second_can));
    }
    KeyFinder finder() {
        return [this](const volume::HeaderKey&) -> Result<Secret> {
            asked++;
            return key.clone();
        };
    }
    LunMap in_state(std::size_t leg, std::uint32_t state) {
        std::vector<dek_range> found;
        const auto ranges = shim.ranges(legs[leg]);
        for (const auto& r : *ranges)
            if (r.state == state)
                found.push_back({r.first, r.count});
        return map_of(std::move(found)).merged();
    }
    std::vector<std::uint64_t> handles(std::size_t leg) {
        std::vector<std::uint64_t> all;
        const auto associations = shim.associations(legs[leg]);
        for (const auto& a : *associations)
            all.push_back(a.handle);
        return all;
    }
    bool held(std::size_t leg) { return !shim.tokens(legs[leg])->empty(); }
};

} // namespace

TEST_CASE("every leg that can is keyed, and the other one is fenced", "[beneath]") {
    Bench b;
    const auto wanted = encrypted_device_map(b.header);
    SECTION("both can") {
        REQUIRE(b.of(b.header).encrypt(b.finder()));
        for (std::size_t leg : {0, 1})
            CHECK(b.in_state(leg, DEK_RANGE_KEYED) == wanted);
    }
    SECTION("one can") {
        REQUIRE(b.shim.engine(b.legs[1], 0));
        REQUIRE(b.of(b.header, false).encrypt(b.finder()));
        CHECK(b.in_state(0, DEK_RANGE_KEYED) == wanted);
        CHECK(b.in_state(1, DEK_RANGE_FENCED) == wanted);
        CHECK(b.handles(1).empty());
    }
    CHECK(b.of(b.header).query());
}

TEST_CASE("a new controller takes over what legs hold already", "[beneath]") {
    Bench b;
    REQUIRE(b.of(b.header).encrypt(b.finder()));
    const auto before = b.handles(0);
    const auto keyed = b.core->keys.size();
    REQUIRE(b.of(b.header).encrypt(b.finder())); // new layers, new handles above
    CHECK(b.handles(0) == before);
    CHECK(b.core->keys.size() == keyed);
}

TEST_CASE("what no longer fits is updated, under the same key only", "[beneath]") {
    Bench b;
    REQUIRE(b.of(b.header).encrypt(b.finder()));
    const auto handles = b.handles(0);
    auto grown = b.header;
    grown.ranges[1].lbas.count = 1600;
    REQUIRE(b.of(grown).encrypt(b.finder()));
    CHECK(b.in_state(0, DEK_RANGE_KEYED) == encrypted_device_map(grown));
    CHECK(b.handles(0) == handles); // the association has never gone
    CHECK_FALSE(b.held(0));
    const auto other = b.header_of("theirs", {{{4096, 800}, 0}});
    CHECK(b.of(other).encrypt(b.finder()).error().code == Errc::invalid_argument);
    CHECK(b.in_state(0, DEK_RANGE_KEYED) == encrypted_device_map(grown));
}

TEST_CASE("who is above encrypts: nothing is keyed, and ciphertext passes", "[beneath]") {
    Bench b;
    const auto wanted = encrypted_device_map(b.header);
    const bool was_keyed = GENERATE(true, false);
    if (was_keyed)
        REQUIRE(b.of(b.header).encrypt(b.finder()));
    REQUIRE(b.of(b.header).yield());
    for (std::size_t leg : {0, 1}) {
        CHECK(b.in_state(leg, DEK_RANGE_YIELDED) == wanted);
        CHECK(b.handles(leg).empty());
        CHECK_FALSE(b.held(leg));
    }
    REQUIRE(b.of(b.header).yield());
    REQUIRE(b.shim.engine(b.legs[1], 0));
    REQUIRE(b.of(b.header, false).encrypt(b.finder()));
    CHECK(b.in_state(0, DEK_RANGE_KEYED) == wanted);
    CHECK(b.in_state(1, DEK_RANGE_FENCED) == wanted);
}

TEST_CASE("two volumes share their legs, and neither touches the other's", "[beneath]") {
    Bench b;
    const auto other = b.header_of("theirs", {{{16384, 800}, 0}});
    REQUIRE(b.of(other).yield());
    REQUIRE(b.of(b.header).encrypt(b.finder()));
    CHECK(b.in_state(0, DEK_RANGE_YIELDED) == encrypted_device_map(other));
    CHECK(b.in_state(0, DEK_RANGE_KEYED) == encrypted_device_map(b.header));
    REQUIRE(b.of(b.header).yield());
    CHECK(b.in_state(0, DEK_RANGE_YIELDED) ==
          encrypted_device_map(b.header).unite(encrypted_device_map(other)));
    REQUIRE(b.of(b.header).leave());
    CHECK(b.in_state(0, DEK_RANGE_YIELDED) == encrypted_device_map(other));
    CHECK(b.in_state(0, DEK_RANGE_FENCED).empty());
    REQUIRE(b.of(other).leave());
    CHECK(b.shim.ranges(b.legs[0])->empty());
}

TEST_CASE("a yield that fails lets nothing pass that was not yielded", "[beneath]") {
    Bench b;
    REQUIRE(b.of(b.header).encrypt(b.finder()));
    b.core->yields_left = 1;
    CHECK_FALSE(b.of(b.header).yield());
    b.core->yields_left = ~0u;
    CHECK(b.in_state(0, DEK_RANGE_YIELDED) == map_of({{2048, 4096}}));
    CHECK(b.in_state(0, DEK_RANGE_FENCED) == map_of({{8192, 800}}));
    CHECK_FALSE(b.held(0));
    REQUIRE(b.of(b.header).encrypt(b.finder()));
    CHECK(b.in_state(0, DEK_RANGE_KEYED) == encrypted_device_map(b.header));
}

TEST_CASE("a change that is cut short leaves others' ranges as they were", "[beneath]") {
    Bench b;
    const auto other = b.header_of("theirs", {{{16384, 800}, 0}});
    const auto theirs = encrypted_device_map(other);
    REQUIRE(b.of(other).yield());
    REQUIRE(b.of(b.header).encrypt(b.finder()));
    b.core->yields_left = 0; // killed between the map and its yields
    CHECK_FALSE(b.of(b.header).yield());
    CHECK(b.in_state(0, DEK_RANGE_YIELDED) == theirs);
    b.core->yields_left = ~0u;
    REQUIRE(b.of(b.header).yield());
    REQUIRE(b.of(b.header).encrypt(b.finder()));
    CHECK(b.in_state(0, DEK_RANGE_YIELDED) == theirs);
    CHECK(b.in_state(0, DEK_RANGE_KEYED) == encrypted_device_map(b.header));
}

TEST_CASE("what is plain and to be yielded passes all the time", "[beneath]") {
    Bench b;
    REQUIRE(cover(b.shim, b.legs[0], map_of({{0, 8}})));
    REQUIRE(cover(b.shim, b.legs[1], map_of({{0, 8}})));
    b.core->waiting = 3; // at a hold: ciphertext
    b.core->yields_left = 0;
    REQUIRE(b.of(b.header).yield());
    for (std::size_t leg : {0, 1}) {
        CHECK(b.in_state(leg, DEK_RANGE_YIELDED) == encrypted_device_map(b.header));
        CHECK(b.in_state(leg, DEK_RANGE_FENCED) == map_of({{0, 8}}));
    }
}

TEST_CASE("an update that is refused leaves what is keyed as it is", "[beneath]") {
    Bench b;
    REQUIRE(b.of(b.header).encrypt(b.finder()));
    const auto handles = b.handles(0);
    const auto talk = Negotiation::begin(b.shim, b.legs[0]);
    REQUIRE(talk);
    Secret padded(DEK_KEY_DATA_SIZE);
    const dek_blob blob = blob_of(b.key, padded);
    const std::vector<dek_range> beyond{{2048, leg_lbas}}; // the device's end
    auto block = CommandBlock::associate({talk->endpoint_id(), 1},
                                         {0, &blob, "mine", tweak_geometry(b.header), beyond});
    REQUIRE(block);
    REQUIRE(ShimPort(b.shim, b.legs[0]).send(block->bytes()));
    CHECK(std::as_const(*block).decode()->status == DEK_INVALID_RANGE);
    CHECK(b.in_state(0, DEK_RANGE_KEYED) == encrypted_device_map(b.header));
    CHECK(b.handles(0) == handles);
}

TEST_CASE("what a mirror copies as ciphertext is not encrypted once more", "[beneath]") {
    Bench b;
    REQUIRE(b.of(b.header).yield());
    auto copying = std::make_shared<Survey>(*b.survey(b.header));
    copying->stack.devices.back().copying = true;
    CHECK(Beneath(b.shim, b.header, copying).encrypt(b.finder()).error().code == Errc::busy);
    CHECK(b.in_state(0, DEK_RANGE_YIELDED) == encrypted_device_map(b.header));
    const auto other = b.header_of("theirs", {{{16384, 800}, 0}});
    copying = std::make_shared<Survey>(*b.survey(other));
    copying->stack.devices.back().copying = true;
    CHECK(Beneath(b.shim, other, copying).encrypt(b.finder()));
}

TEST_CASE("what a killed controller holds is taken over and let go of", "[beneath]") {
    Bench b;
    REQUIRE(b.of(b.header).yield());
    b.core->quiesce(b.legs[0], 0, leg_lbas);
    b.core->quiesce(b.legs[1], 4096, 8);
    REQUIRE(b.of(b.header).yield());
    CHECK_FALSE(b.held(0));
    CHECK_FALSE(b.held(1));
    CHECK(b.in_state(0, DEK_RANGE_YIELDED) == encrypted_device_map(b.header));
}

TEST_CASE("what a leg holds from before keeps it from being yielded", "[beneath]") {
    Bench b;
    REQUIRE(b.of(b.header).encrypt(b.finder()));
    b.core->waiting = 3;
    for (int tries = 0; tries < 2; tries++) { // also when nothing is keyed any more
        CHECK(b.of(b.header).yield().error().code == Errc::busy);
        for (std::size_t leg : {0, 1})
            CHECK(b.in_state(leg, DEK_RANGE_YIELDED).empty());
    }
    b.core->waiting = 0;
    REQUIRE(b.of(b.header).yield());
    b.core->waiting = 3; // ciphertext, at a hold
    CHECK(b.of(b.header).yield());
}

TEST_CASE("a mirror that copies keeps the keys of its legs", "[beneath]") {
    Bench b;
    REQUIRE(b.of(b.header).encrypt(b.finder()));
    auto copying = std::make_shared<Survey>(*b.survey(b.header));
    copying->stack.devices.back().copying = true;
    CHECK(Beneath(b.shim, b.header, copying).leave().error().code == Errc::busy);
    CHECK(b.in_state(0, DEK_RANGE_KEYED) == encrypted_device_map(b.header));
    CHECK(b.of(b.header).leave());
}

TEST_CASE("what was moved in the clear is found and fenced", "[beneath]") {
    Bench b;
    REQUIRE(b.of(b.header).encrypt(b.finder()));
    auto mirrored = std::make_shared<Survey>(*b.survey(b.header));
    mirrored->stack.devices.back().kind = Kind::mirror;
    Beneath legs(b.shim, b.header, mirrored);
    CHECK(legs.strays()->empty());
    REQUIRE(b.shim.volume_remove(b.legs[1])); // another leg in its place
    dek_ioc_volume v{};
    std::copy(b.legs[1].begin(), b.legs[1].end(), v.uuid);
    v.count = leg_lbas;
    v.data_unit = v.logical_block = 4096;
    std::strcpy(v.name, "c");
    std::strcpy(v.device, "/c");
    REQUIRE(b.shim.volume_create(v));
    REQUIRE(b.shim.map(b.legs[1], 1, {{8192, 80, DEK_MAP_ENCRYPT, 0}}));
    CHECK(*legs.strays() == map_of({{2048, 4096}, {8272, 720}}));
    CHECK(b.of(b.header).strays()->empty()); // a path beside another one
    REQUIRE(legs.fence_strays());
    CHECK(b.in_state(1, DEK_RANGE_FENCED) == encrypted_device_map(b.header));
    CHECK(b.in_state(0, DEK_RANGE_KEYED) == encrypted_device_map(b.header));
    CHECK(legs.strays()->empty());
}

TEST_CASE("an engine is lent and goes back when nothing is keyed there", "[beneath]") {
    Bench b;
    const auto& leg = b.legs[0];
    const auto entry = [&] { return **b.shim.find(leg); };
    Leg configured;
    configured.uuid = leg;
    configured.engine = false;
    REQUIRE(b.shim.engine(leg, 0));
    {
        EngineLoans loans(b.shim);
        REQUIRE(loans.lend(leg));
        CHECK(loans.has(volume::uuid_text(leg)));
        CHECK(entry().engine == DEK_ENGINE_CPU);
        loans.give_back();
        CHECK(entry().engine == 0);
        REQUIRE(loans.lend(leg));
        REQUIRE(b.of(b.header).encrypt(b.finder()));
        loans.give_back();
        CHECK(entry().engine == DEK_ENGINE_CPU); // a key is there
    }
    CHECK(*settle_engine(b.shim, configured, entry()));
    REQUIRE(b.of(b.header).yield());
    CHECK_FALSE(*settle_engine(b.shim, configured, entry()));
    CHECK(entry().engine == 0);
}

TEST_CASE("a fence answers otherwise only when nothing is fenced", "[beneath]") {
    Bench b;
    Leg configured;
    configured.uuid = b.legs[0];
    const auto entry = [&] { return **b.shim.find(configured.uuid); };
    REQUIRE(b.shim.fence(configured.uuid, DEK_FENCE_HOLD));
    REQUIRE(b.of(b.header).fence_strays()); // fenced, without a key
    CHECK_FALSE(*settle_engine(b.shim, configured, entry()));
    CHECK(entry().fence == DEK_FENCE_HOLD);
    REQUIRE(b.of(b.header).encrypt(b.finder()));
    CHECK_FALSE(*settle_engine(b.shim, configured, entry()));
    CHECK(entry().fence == DEK_FENCE_EIO);
}

TEST_CASE("a leg that is gone does not keep the others from being left", "[beneath]") {
    Bench b;
    REQUIRE(b.of(b.header).encrypt(b.finder()));
    REQUIRE(b.shim.volume_remove(b.legs[0]));
    REQUIRE(b.of(b.header).leave());
    CHECK(b.handles(1).empty());
    CHECK(b.shim.ranges(b.legs[1])->empty());
}

TEST_CASE("a leg that is gone is told of by name", "[beneath]") {
    Bench b;
    REQUIRE(b.shim.volume_remove(b.legs[1]));
    const auto r = b.of(b.header).encrypt(b.finder());
    REQUIRE_FALSE(r);
    CHECK(r.error().reason.find("leg b") != std::string::npos);
}
