// SPDX-License-Identifier: Apache-2.0
// What is told of a volume whose own endpoint does not encrypt: dm-crypt does, or legs beneath.
#include <cstring>

#include <catch2/catch.hpp>

#include "bench.h"
#include "kcm/range_table.h"
#include "kcm/status.h"

using namespace dek;
using namespace dek::kcm;
using kcmtest::Bench;
using layers::Kind;
using layers::PathState;

namespace {

constexpr std::uint64_t mib = 2048;
constexpr std::uint64_t size = 16 * mib;

Shim& fuse(Bench& b) {
    return *b.controller->shims().all().back().shim;
}

layers::Device device(const std::string& name, Kind kind, const Uuid& uuid = {}) {
    layers::Device d;
    d.name = name;
    d.kind = kind;
    d.size = size;
    d.uuid = volume::uuid_text(uuid);
    d.endpoint.engines = DEK_ENGINE_CPU;
    return d;
}

layers::Leg leg(std::size_t index, std::uint64_t first = 0, std::uint64_t count = 0,
                PathState state = PathState::active) {
    return {index, first, first, count, state};
}

std::shared_ptr<Survey> survey(std::vector<layers::Device> devices, const Volume& v) {
    auto s = std::make_shared<Survey>();
    s->stack.devices = std::move(devices);
    s->stack.top = s->stack.devices.size() - 1;
    REQUIRE(layers::validate(s->stack));
    layers::Question q;
    q.encrypted = LunMap::from({{v.header.offset, 8192}}).value();
    q.geometry = {4096, DEK_TWEAK_UNIT, 0, 0, 0, 0, 0};
    q.geometry.device_origin = v.header.offset;
    s->decision = layers::decide(s->stack, q);
    return s;
}

// The endpoint that protect() keyed plays the leg that is keyed; `other` has no key.
struct Volumes {
    Volumes() {
        auto r = b.request(b.image("disk", size), "data");
        r.encrypt = {{"0-8191", ""}};
        auto done = b.controller->protect(r);
        REQUIRE(done);
        v = **done;
        dek_ioc_volume second{};
        std::memcpy(second.uuid, other.data(), other.size());
        second.count = size;
        second.data_unit = second.logical_block = 4096;
        std::strcpy(second.name, "other");
        std::strcpy(second.device, "/dev/other");
        REQUIRE(fuse(b).volume_create(second));
        REQUIRE(fuse(b).map(other, 1, {{0, size, DEK_MAP_ENCRYPT, 0}}));
        v.encryptor = layers::Encryptor::endpoints;
    }
    layers::Device keyed() const { return device("/dev/mapper/dekleg-a", Kind::endpoint, uuid()); }
    layers::Device unkeyed() const { return device("/dev/mapper/dekleg-b", Kind::endpoint, other); }
    Uuid uuid() const { return v.header.uuid; }

    Bench b;
    Uuid other = volume::random_uuid();
    Volume v;
};

json row_of(const json& topology, const std::string& node) {
    for (const auto& row : topology["layers"])
        if (row["node"] == node)
            return row;
    FAIL("no layer " << node);
    return {};
}

bool says(const json& text, const char* words) {
    return text.get<std::string>().find(words) != std::string::npos;
}

} // namespace

TEST_CASE("ranges that legs encrypt are told leg by leg", "[topology]") {
    Volumes t;
    auto top = device("/dev/mapper/vg-lv", Kind::linear);
    SECTION("one leg") {
        top.legs = {leg(0, 0, size)};
        t.v.survey = survey({t.keyed(), top}, t.v);
        const auto rows = range_table(t.v, fuse(t.b));
        REQUIRE(rows);
        REQUIRE(rows->size() == 2);
        CHECK((rows->at(0).state == DEK_RANGE_KEYED && rows->at(0).lbas == dek_range{0, 8192}));
        CHECK((rows->at(0).by == "/dev/mapper/dekleg-a" && rows->at(0).engine == "cpu"));
        CHECK(rows->at(0).key == t.v.header.keys[0].id);
        CHECK(rows->at(1).lbas == dek_range{8192, t.v.header.size - 8192});
        const auto j = volume_json(t.v, fuse(t.b), "/dev/dek");
        CHECK((j["state"] == "up" && j["encryptor"] == "endpoints" && j["engine"] == "cpu"));
        CHECK(j["associations"][0]["endpoint"] == "/dev/mapper/dekleg-a");
        CHECK(says(j["encryptor_why"], "endpoints beneath encrypt every range"));
    }
    SECTION("two, and only the first has the key: the border is found to the LBA") {
        top.legs = {leg(0, 0, 6152), leg(1, 6152, size - 6152)};
        top.legs[1].offset = 0;
        t.v.survey = survey({t.keyed(), t.unkeyed(), top}, t.v);
        const auto rows = range_table(t.v, fuse(t.b));
        REQUIRE(rows);
        REQUIRE(rows->size() == 3);
        CHECK((rows->at(0).state == DEK_RANGE_KEYED && rows->at(0).lbas == dek_range{0, 4104}));
        CHECK((rows->at(1).state == DEK_RANGE_FENCED && rows->at(1).lbas == dek_range{4104, 4088}));
        CHECK(rows->at(1).by == "nobody");
        CHECK(volume_json(t.v, fuse(t.b), "/dev/dek")["state"] == "fenced");
    }
    SECTION("a mirror is keyed where all its legs are") {
        auto mirror = device("/dev/mapper/m", Kind::mirror);
        mirror.legs = {leg(0), leg(1)};
        t.v.survey = survey({t.keyed(), t.unkeyed(), mirror}, t.v);
        const auto rows = range_table(t.v, fuse(t.b));
        REQUIRE(rows);
        CHECK((rows->size() == 2 && rows->at(0).state == DEK_RANGE_FENCED));
    }
    SECTION("what is on a leg that has gone is fenced") {
        top.legs = {leg(0, 0, size)};
        auto lost = t.keyed();
        lost.uuid = volume::uuid_text(volume::random_uuid());
        t.v.survey = survey({lost, top}, t.v);
        CHECK(range_table(t.v, fuse(t.b))->at(0).state == DEK_RANGE_FENCED);
    }
    SECTION("no shim: nothing is said") {
        top.legs = {leg(0, 0, size)};
        t.v.survey = survey({t.keyed(), top}, t.v);
        t.b.shim->up = false;
        CHECK(range_table(t.v, fuse(t.b)).error().code == Errc::unavailable);
        CHECK(volume_json(t.v, fuse(t.b), "/dev/dek")["state"] == "down");
    }
}

TEST_CASE("the layers are a tree, each with its part in it", "[topology]") {
    Volumes t;
    auto mp = device("/dev/mapper/mp", Kind::multipath);
    auto raw = device("/dev/sdc", Kind::opaque), gone = device("/dev/sdd", Kind::opaque);
    mp.legs = {leg(0), leg(1, 0, 0, PathState::standby), leg(2, 0, 0, PathState::failed)};
    SECTION("a path without a fence stands in the way") {
        t.v.encryptor = layers::Encryptor::top;
        t.v.survey = survey({t.keyed(), raw, gone, mp}, t.v);
        const auto j = topology_json(t.v, fuse(t.b), "/dev/dek");
        REQUIRE(j);
        CHECK((*j)["encryptor"] == "endpoint");
        CHECK(says((*j)["encryptor_why"], "/dev/sdc is no dek leg"));
        CHECK(says((*j)["in_the_way"][1], "/dev/sdc"));
        const auto path = row_of(*j, "/dev/sdc");
        CHECK((path["role"] == "in-the-way" && path["path"] == "standby" && path["depth"] == 4));
        CHECK((path["engine"].is_null() && says(path["why"], "passes as it is")));
        const auto idle = row_of(*j, "/dev/mapper/dekleg-a");
        CHECK((idle["role"] == "idle" && idle["engine"] == "cpu" && !idle["encrypts"]));
        const auto failed = row_of(*j, "/dev/sdd");
        CHECK((failed["path"] == "failed" && failed["role"] == "in-the-way"));
        CHECK(says(failed["why"], "take it out of the map"));
    }
    SECTION("legs encrypt") {
        gone.kind = Kind::fence;
        t.v.survey = survey({t.keyed(), t.unkeyed(), gone, mp}, t.v);
        const auto j = topology_json(t.v, fuse(t.b), "/dev/dek");
        REQUIRE(j);
        CHECK((*j)["in_the_way"].empty());
        const auto failed = row_of(*j, "/dev/sdd");
        CHECK((failed["path"] == "failed" && failed["role"].is_null()));
        CHECK(says(failed["why"], "until it is reinstated"));
        CHECK(row_of(*j, "/dev/mapper/dekleg-a")["encrypts"] == true);
        CHECK(row_of(*j, "/dev/mapper/mp")["role"] == "passes-on");
    }
    SECTION("a device that is reached twice is described once") {
        auto top = device("/dev/mapper/lv", Kind::linear), part = device("/dev/sda1", Kind::linear);
        part.legs = {leg(0, 0, size)};
        top.legs = {leg(0, 0, mib), leg(1, mib, size - mib)};
        t.v.survey = survey({t.keyed(), part, top}, t.v);
        const auto j = topology_json(t.v, fuse(t.b), "/dev/dek");
        REQUIRE(j);
        const auto& list = (*j)["layers"];
        CHECK(list.back()["node"] == "/dev/mapper/dekleg-a");
        CHECK(list.back()["why"] == "the same as above");
    }
}

TEST_CASE("dm-crypt is named, with what stood in the way of endpoints", "[topology]") {
    Volumes t;
    t.v.shim = "kernel";
    t.v.encryptor = layers::Encryptor::software;
    t.v.survey = survey({device("/dev/sdc", Kind::opaque)}, t.v);
    t.b.shim->die(); // it is not needed
    auto j = topology_json(t.v, fuse(t.b), "/dev/dek");
    REQUIRE(j);
    CHECK((*j)["layers"][1]["kind"] == "crypt");
    CHECK((*j)["layers"][1]["encrypts"] == true);
    CHECK(((*j)["ranges"][0]["by"] == "dm-crypt" && (*j)["ranges"][0]["state"] == "keyed"));
    CHECK((*j)["ranges"][0]["association"].is_null());
    CHECK(says((*j)["encryptor_why"], "dm-crypt encrypts: device /dev/sdc is no dek leg"));
    const auto status = volume_json(t.v, fuse(t.b), "/dev/dek");
    CHECK((status["engine"] == "dm-crypt" && status["encryptor"] == "software"));
    CHECK(status["state"] == "up");
    t.v.state = VolumeState::fenced;
    CHECK(range_table(t.v, fuse(t.b))->at(0).state == DEK_RANGE_FENCED);
}

TEST_CASE("an in-place header's range stays reserved whoever encrypts", "[topology]") {
    Bench b;
    auto r = b.request(b.image("disk", size), "data");
    r.in_place = true;
    r.encrypt = {{"2048-4095", ""}};
    auto done = b.controller->protect(r);
    REQUIRE(done);
    const auto before = range_table(**done, fuse(b));
    Volume v = **done;
    v.encryptor = layers::Encryptor::software;
    const auto rows = range_table(v, fuse(b));
    REQUIRE((before && rows));
    REQUIRE(rows->size() == before->size());
    for (std::size_t i = 0; i < rows->size(); i++) {
        CHECK(rows->at(i).lbas == before->at(i).lbas);
        CHECK(rows->at(i).state == before->at(i).state);
    }
}
