// SPDX-License-Identifier: Apache-2.0
// The endpoint as an object: what it is made from, its size, its fence, its recovery, its lists.
#include <algorithm>
#include <cstring>

#include <catch2/catch.hpp>

#include "rig.h"

using namespace rig;

TEST_CASE("an endpoint is not made from a configuration that makes no sense") {
    Endpoint e(4096, false);
    auto& c = e.config;
    SECTION("no LBAs") {
        c.count = 0;
    }
    SECTION("overflow") {
        c.first = ~0ull - 5;
    }
    SECTION("more LBAs than a device has bytes for") {
        c.count = (1ull << 55) + 1;
    }
    SECTION("no unit") {
        c.data_unit = 0;
    }
    SECTION("unit too small") {
        c.data_unit = 256;
    }
    SECTION("unit too large") {
        c.data_unit = 8192;
    }
    SECTION("unit no power of two") {
        c.data_unit = 1536;
    }
    SECTION("blocks of no power of two") {
        c.block = 6144;
    }
    SECTION("blocks smaller than a data unit") {
        c.block = 512;
    }
    SECTION("no fence of that number") {
        c.fence = static_cast<dek_fence>(3);
    }
    SECTION("no class") {
        c.class_name = nullptr;
    }
    SECTION("no cipher") {
        c.ops = nullptr;
    }
    SECTION("no key_set") {
        e.engine.ops.key_set = nullptr;
    }
    SECTION("no key_drop") {
        e.engine.ops.key_drop = nullptr;
    }
    SECTION("no randomness") {
        e.engine.ops.random = nullptr;
    }
    e.make();
    CHECK(e.ep == nullptr);
}

TEST_CASE("the largest device there is works to its last LBA") {
    Endpoint e(1ull << 55);
    const std::uint64_t last = (1ull << 55) - 8;
    REQUIRE(e.map(1, {{0, 8}}) == 0);
    const Answer a = e.associate({{0, 8}, {last, 8}});
    REQUIRE(a.status == DEK_OK);
    CHECK(e.look(last, true, 100) == Verdict{DEK_CRYPT, a.handle, 8});
    CHECK(e.look(last - 8, true, 100) == Verdict{DEK_PASS, 0, 8});
    CHECK(e.look(8, true, ~0ull) == Verdict{DEK_PASS, 0, last - 8});
}

TEST_CASE("every data unit size sets the alignment of ranges") {
    const unsigned unit = GENERATE(512u, 1024u, 2048u, 4096u);
    Endpoint e(4096, false);
    e.config.data_unit = unit;
    e.make();
    Body body;
    body.geometry.data_unit = unit;
    const std::uint64_t lbas = unit / 512;
    body.map = {{lbas, lbas}};
    CHECK(e.associate(body).status == DEK_OK);
    if (lbas > 1) {
        body.map = {{16 + lbas / 2, lbas}};
        CHECK(e.associate(body).status == DEK_INVALID_RANGE);
        CHECK(e.query({{16 + lbas / 2, lbas}}).status == DEK_INVALID_RANGE);
    }
}

TEST_CASE("ranges align to the blocks of the device where they are larger than a data unit") {
    Endpoint e(4096, false);
    e.config.data_unit = 512;
    e.config.block = 4096;
    e.make();
    Body body;
    body.geometry.data_unit = 512;
    body.map = {{8, 4}};
    CHECK(e.associate(body).status == DEK_INVALID_RANGE);
    CHECK(e.query({{8, 4}}).status == DEK_INVALID_RANGE);
    CHECK(e.map(1, {{4, 8}}) == -EINVAL);
    body.map = {{8, 8}};
    CHECK(e.associate(body).status == DEK_OK);
}

TEST_CASE("endpoint IDs are drawn anew for every life and are never 0") {
    Endpoint a, b(4096, false);
    b.engine.seed = 9;
    b.make();
    CHECK(dek_endpoint_id(a.ep) != 0);
    CHECK(dek_endpoint_id(a.ep) != dek_endpoint_id(b.ep));
}

TEST_CASE("the fence is what it is set to, and setting it to that again changes nothing") {
    Endpoint e;
    CHECK(dek_snapshot_fence(dek_endpoint_current(e.ep)) == DEK_FENCE_EIO);
    for (const auto fence : {DEK_FENCE_TRANSPORT, DEK_FENCE_HOLD, DEK_FENCE_EIO}) {
        REQUIRE(e.settle(dek_endpoint_set_fence(e.ep, fence, &e.change)) == 0);
        CHECK(dek_snapshot_fence(dek_endpoint_current(e.ep)) == fence);
        CHECK(e.describe().fence == static_cast<unsigned>(fence));
        REQUIRE(dek_endpoint_set_fence(e.ep, fence, &e.change) == 0);
        CHECK(e.change.next == nullptr);
    }
    CHECK(dek_endpoint_set_fence(e.ep, static_cast<dek_fence>(3), &e.change) == -EINVAL);
}

TEST_CASE("an engine that is off takes no association, and is turned off only without one") {
    Endpoint e;
    CHECK(e.describe().engine == DEK_ENGINE_CPU);
    REQUIRE(dek_endpoint_set_engine(e.ep, 0) == 0);
    CHECK(e.describe().engine == 0);
    CHECK(dek_endpoint_engine(e.ep) == 0);
    CHECK(e.query({{0, 8}}).status == DEK_NOT_CAPABLE);
    CHECK(e.query({{4096, 8}}).status == DEK_INVALID_RANGE);
    CHECK(e.associate({{0, 8}}).status == DEK_NOT_CAPABLE);
    CHECK(e.engine.sets == 0);
    CHECK(e.describe().associations == 0);
    REQUIRE(dek_endpoint_set_engine(e.ep, DEK_ENGINE_ACCEL) == 0);
    CHECK(e.query({{0, 8}}).status == DEK_OK);
    const auto made = e.associate({{0, 8}});
    REQUIRE(made.status == DEK_OK);
    CHECK(dek_endpoint_set_engine(e.ep, 0) == -EBUSY);
    CHECK(dek_endpoint_set_engine(e.ep, DEK_ENGINE_CPU) == -EBUSY);
    CHECK(dek_endpoint_set_engine(e.ep, DEK_ENGINE_ACCEL) == 0); // it is so already
    CHECK(e.describe().engine == DEK_ENGINE_ACCEL);
    SECTION("not while its end waits for I/O either") {
        e.drains = false;
        REQUIRE(e.disassociate(made.handle).status == DEK_BUSY);
        CHECK(dek_endpoint_set_engine(e.ep, 0) == -EBUSY);
    }
    SECTION("after it") {
        REQUIRE(e.disassociate(made.handle).status == DEK_OK);
        CHECK(dek_endpoint_set_engine(e.ep, 0) == 0);
    }
}

TEST_CASE("an endpoint that is off keeps what is not its engine's: map, yield, fence") {
    Endpoint e(4096, false);
    e.config.engine = 0;
    e.make();
    REQUIRE(e.map(1, {{0, 64}}) == 0);
    CHECK(e.query({{0, 64}}).status == DEK_NOT_CAPABLE);
    CHECK(e.look(0, true, 8).verdict == DEK_FENCED);
    __u64 token = 0;
    REQUIRE(e.settle(dek_endpoint_quiesce(e.ep, 0, 64, &token, &e.change)) == 0);
    CHECK(e.query({{0, 64}}).status == DEK_NOT_CAPABLE);
    REQUIRE(e.settle(dek_endpoint_yield(e.ep, token, 0, 64, &e.change)) == 0);
    REQUIRE(e.settle(dek_endpoint_release(e.ep, token, &e.change)) == 0);
    CHECK(e.look(0, true, 8).verdict == DEK_PASS);
}

TEST_CASE("an endpoint grows and shrinks, but nothing is cut off") {
    Endpoint e;
    const auto resize = [&](std::uint64_t count) {
        return e.settle(dek_endpoint_resize(e.ep, count, &e.change));
    };
    REQUIRE(e.map(1, {{64, 64}}, {{256, 8}}) == 0);
    CHECK(resize(8192) == 0);
    CHECK(e.write(4095) == DEK_PASS);
    CHECK(e.look(4096, true, 8192) == Verdict{DEK_FENCED, 0, 4096});
    CHECK(e.read(8191) == DEK_FENCED);
    CHECK(e.write(8192) == DEK_REFUSE);
    CHECK(resize(8192) == 0);
    CHECK(e.change.next == nullptr);
    CHECK(resize(263) == -EBUSY);
    CHECK(resize(64) == -EBUSY);
    CHECK(resize(264) == 0);
    CHECK(e.read(264) == DEK_REFUSE);
    CHECK(e.describe().count == 264);
    CHECK(resize(0) == -EINVAL);
    CHECK(resize(~0ull) == -EINVAL);
    CHECK(resize((1ull << 55) + 1) == -EINVAL);
    std::uint64_t token = 0;
    REQUIRE(resize(4096) == 0);
    REQUIRE(e.quiesce(2000, 8, token) == 0);
    CHECK(resize(2007) == -EBUSY);
    CHECK(resize(2008) == 0);
    REQUIRE(e.release(token) == 0);
    CHECK(resize(2000) == 0);
    const Answer a = e.associate({{1992, 8}});
    REQUIRE(a.status == DEK_OK);
    CHECK(resize(1992) == -EBUSY);
}

TEST_CASE("what a volume grows by is fenced until a map has judged it") {
    Endpoint e;
    const auto resize = [&](std::uint64_t count) {
        return e.settle(dek_endpoint_resize(e.ep, count, &e.change));
    };
    REQUIRE(e.map(1, {{64, 64}, {4088, 8}}) == 0);
    REQUIRE(resize(8192) == 0);
    REQUIRE(e.ranges().size() == 2); // joined with the map's last
    CHECK(e.ranges()[1].count == 8 + 4096);
    SECTION("the next map decides, part by part") {
        REQUIRE(e.map(2, {{64, 64}, {4088, 16}}) == 0);
        CHECK(e.write(4096) == DEK_FENCED);
        CHECK(e.write(4104) == DEK_PASS);
        CHECK(resize(4104) == 0);
        CHECK(resize(4096) == -EBUSY); // of the map now
    }
    SECTION("no map has asked for it, so it may be cut off, and comes back fenced") {
        REQUIRE(resize(16384) == 0);
        CHECK(resize(4095) == -EBUSY);
        REQUIRE(resize(4096) == 0);
        CHECK(e.ranges()[1].count == 8);
        REQUIRE(e.map(2, {{64, 64}}) == 0);
        REQUIRE(resize(2048) == 0);
        REQUIRE(resize(4096) == 0); // smaller for a moment: nobody knows who wrote there since
        CHECK(e.look(2047, true, 4096) == Verdict{DEK_PASS, 0, 1});
        CHECK(e.look(2048, true, 4096) == Verdict{DEK_FENCED, 0, 2048});
    }
    SECTION("it may be keyed, and what is keyed is not cut off") {
        const Answer a = e.associate({{4096, 8}});
        REQUIRE(a.status == DEK_OK);
        CHECK(resize(4096) == -EBUSY);
        REQUIRE(e.disassociate(a.handle).status == DEK_OK);
        CHECK(resize(4096) == 0);
    }
}

TEST_CASE("keys for LBAs that are there again wait for I/O from before they went") {
    Endpoint e;
    REQUIRE(e.map(1, {}) == 0);
    REQUIRE(e.settle(dek_endpoint_resize(e.ep, 2048, &e.change)) == 0);
    REQUIRE(e.settle(dek_endpoint_resize(e.ep, 4096, &e.change)) == 0);
    e.drains = false;
    CHECK(e.associate({{2048, 8}}).status == DEK_BUSY);
    CHECK(e.write(2048) == DEK_WAIT);
    e.drained(e.held);
    CHECK(e.write(2048) == DEK_CRYPT);
}

TEST_CASE("an endpoint that no map was sent to grows as unmapped as it was") {
    Endpoint e;
    REQUIRE(e.settle(dek_endpoint_resize(e.ep, 8192, &e.change)) == 0);
    CHECK(e.look(0, false, 8192) == Verdict{DEK_PASS, 0, 8192});
    CHECK(e.ranges().empty());
    REQUIRE(e.map(1, {}) == 0);
    CHECK(e.write(8191) == DEK_PASS);
}

TEST_CASE("a volume with as many ranges as there may be does not grow") {
    Endpoint e(4096, false);
    e.config.max_ranges = 1;
    e.make();
    REQUIRE(e.map(1, {{64, 64}}) == 0);
    CHECK(dek_endpoint_resize(e.ep, 8192, &e.change) == -E2BIG);
    CHECK(e.change.next == nullptr);
    CHECK(e.write(4096) == DEK_REFUSE);
    REQUIRE(e.settle(dek_endpoint_resize(e.ep, 2048, &e.change)) == 0);
    REQUIRE(e.map(2, {{64, 1984}}) == 0);
    REQUIRE(e.settle(dek_endpoint_resize(e.ep, 4096, &e.change)) == 0); // joined with it
    CHECK(e.write(4095) == DEK_FENCED);
}

TEST_CASE("a map half sent does not outlive a resize") {
    Endpoint e;
    REQUIRE(e.map_page(1, DEK_MAP_BEGIN | DEK_MAP_ADD, {{4088, 8, DEK_MAP_ENCRYPT, 0}}) == 0);
    REQUIRE(e.settle(dek_endpoint_resize(e.ep, 2048, &e.change)) == 0);
    CHECK(e.map_page(1, DEK_MAP_COMMIT, {}) == -EBADF);
}

TEST_CASE("a recovering endpoint makes everything wait that may have to be encrypted") {
    Endpoint e(4096, false);
    e.config.recovering = true;
    e.make();
    CHECK(e.read(0) == DEK_WAIT);
    CHECK(e.write(0) == DEK_WAIT);
    CHECK(e.describe().flags == DEK_ENDPOINT_RECOVERING);
    REQUIRE(e.map(1, {{64, 64}}, {{0, 8}}) == 0);
    CHECK(e.read(0) == DEK_PASS);
    CHECK(e.write(0) == DEK_REFUSE);
    CHECK(e.write(8) == DEK_PASS);
    CHECK(e.look(64, false, 100) == Verdict{DEK_WAIT, 0, 64});
    CHECK(e.look(64, true, 100) == Verdict{DEK_WAIT, 0, 64});
    REQUIRE(e.associate({{64, 8}}).status == DEK_OK);
    CHECK(e.write(64) == DEK_CRYPT);
    CHECK(e.write(72) == DEK_WAIT);
    REQUIRE(e.settle(dek_endpoint_recovered(e.ep, &e.change)) == 0);
    CHECK(e.write(64) == DEK_CRYPT);
    CHECK(e.write(72) == DEK_FENCED);
    CHECK(e.describe().flags == 0);
    CHECK_FALSE(dek_snapshot_recovering(dek_endpoint_current(e.ep)));
    REQUIRE(dek_endpoint_recovered(e.ep, &e.change) == 0);
    CHECK(e.change.next == nullptr);
}

TEST_CASE("a recovering endpoint that never gets a map stops waiting, and passes nothing") {
    Endpoint e(4096, false);
    e.config.recovering = true;
    e.make();
    REQUIRE(e.settle(dek_endpoint_recovered(e.ep, &e.change)) == 0);
    CHECK(e.look(0, false, 5000) == Verdict{DEK_FENCED, 0, 4096});
    CHECK(e.look(0, true, 5000) == Verdict{DEK_FENCED, 0, 4096});
    REQUIRE(e.associate({{64, 8}}).status == DEK_OK);
    CHECK(e.read(64) == DEK_CRYPT);
    CHECK(e.read(0) == DEK_FENCED);
    REQUIRE(e.map(1, {{64, 64}}) == 0);
    CHECK(e.read(0) == DEK_PASS);
    CHECK(e.write(0) == DEK_PASS);
    CHECK(e.read(72) == DEK_FENCED);
}

TEST_CASE("I/O that crosses the end is cut off there, and beyond it refused") {
    Endpoint e;
    REQUIRE(e.map(1, {}) == 0);
    CHECK(e.look(4090, true, 100) == Verdict{DEK_PASS, 0, 6});
    CHECK(e.look(4096, true, 100) == Verdict{DEK_REFUSE, 0, 100});
    CHECK(e.look(~0ull, false, 1) == Verdict{DEK_REFUSE, 0, 1});
}

TEST_CASE("the list of associations shows what was sent, and never a key") {
    Endpoint e;
    Body body;
    body.map = {{8, 8}, {64, 24}};
    body.key_id = std::string(64, 'x');
    body.geometry.tweak_rule = DEK_TWEAK_LBA512;
    body.geometry.device_origin = 8;
    body.geometry.chunk = 64;
    body.geometry.stripes = 0x0203;
    body.geometry.leg = 0x0102;
    body.geometry.logical_origin = 0x112233445566 / 8 * 8;
    const Answer a = e.associate(body);
    REQUIRE(a.status == DEK_OK);
    const auto list = e.associations();
    REQUIRE(list.size() == 1);
    const auto& entry = list[0];
    CHECK(entry.handle == a.handle);
    CHECK(entry.ranges == 2);
    CHECK(entry.blocks == 32);
    CHECK(entry.key_id_length == 64);
    CHECK(std::memcmp(entry.key_id, body.key_id.data(), 64) == 0);
    CHECK(entry.algorithm == DEK_ALG_AES);
    CHECK(entry.mode == DEK_MODE_XTS);
    CHECK(entry.key_length == 64);
    const Block block = e.associate_block(body);
    const auto* w = reinterpret_cast<const dek_wire_associate*>(block.data());
    CHECK(std::memcmp(entry.app_info, block.data() + dek_get_le32(&w->app_info_offset),
                      DEK_APP_INFO_SIZE) == 0);
    const auto key = key_bytes(1);
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(&entry);
    CHECK(std::search(bytes, bytes + sizeof entry, key.begin(), key.begin() + 8) ==
          bytes + sizeof entry);
}

TEST_CASE("lists go on above the cursor") {
    Endpoint e;
    std::vector<std::uint64_t> handles;
    for (std::uint64_t i = 0; i < 20; ++i)
        handles.push_back(e.associate({{i * 16, 8}}).handle);
    REQUIRE(e.disassociate(handles[7]).status == DEK_OK);
    dek_association_entry entry;
    REQUIRE(dek_endpoint_next_association(e.ep, handles[6], &entry));
    CHECK(entry.handle == handles[8]);
    CHECK_FALSE(dek_endpoint_next_association(e.ep, handles[19], &entry));
    CHECK_FALSE(dek_endpoint_next_association(e.ep, ~0ull, &entry));
    dek_range_entry range;
    REQUIRE(dek_snapshot_next(dek_endpoint_current(e.ep), 12, &range)); // inside one
    CHECK(range.first == 16);
    REQUIRE(dek_snapshot_next(dek_endpoint_current(e.ep), 17, &range));
    CHECK(range.first == 16);
    CHECK_FALSE(dek_snapshot_next(dek_endpoint_current(e.ep), 20 * 16, &range));
}

TEST_CASE("an endpoint describes itself") {
    Endpoint e(4096, false);
    e.config.first = 64;
    e.config.fence = DEK_FENCE_TRANSPORT;
    e.make();
    REQUIRE(e.map(3, {{64, 64}}) == 0);
    REQUIRE(e.associate({{64, 8}}).status == DEK_OK);
    const auto entry = e.describe();
    CHECK(std::memcmp(entry.uuid, e.config.uuid, DEK_UUID_SIZE) == 0);
    CHECK(entry.endpoint_id == dek_endpoint_id(e.ep));
    CHECK(entry.first == 64);
    CHECK(entry.count == 4096);
    CHECK(entry.map_generation == 3);
    CHECK(entry.ranges == 2);
    CHECK(entry.associations == 1);
    CHECK(entry.data_unit == 4096);
    CHECK(entry.fence == DEK_FENCE_TRANSPORT);
    CHECK(entry.flags == 0);
}
