// SPDX-License-Identifier: Apache-2.0
// What each layer says and does, case by case.
#include <catch2/catch.hpp>

#include "bench.h"
#include "kcm/layers/decision.h"
#include "kcm/layers/merge.h"
#include "kcm/layers/parts.h"

using namespace bench;

namespace {

constexpr dek_geometry geometry{512, DEK_TWEAK_UNIT, 0, 0, 0, 0, 0};

Leg on(std::size_t device, PathState state = PathState::active) {
    Leg leg;
    leg.device = device;
    leg.state = state;
    return leg;
}

// A stack, its endpoints, and a controller that has shaken hands.
struct Rig {
    Stack stack;
    Endpoints endpoints;
    Tree tree;
    Initiator kcm;
    Key key{1};

    explicit Rig(Stack s, Options options = {})
        : stack(std::move(s)), tree(Tree::make(stack, endpoints.ports(), options).value()),
          kcm(tree) {}
    void begin(const LunMap& map) {
        for (const auto& [device, leg] : decide(stack, {map, geometry, Policy::prefer, {}}).maps)
            REQUIRE(endpoints[stack[device].name].must_encrypt(leg) == 0);
        REQUIRE(kcm.handshake());
    }
    Keying keying() const { return key.keying(geometry); }
    dek_verdict verdict(const std::string& name, std::uint64_t lba) {
        return endpoints[name].verdicts(true)[lba].verdict;
    }
};

Stack two_paths(Kind second = Kind::endpoint) {
    return stack_of({leaf("a", Kind::endpoint, 1000), leaf("b", second, 1000),
                     multipath("m", 1000, {on(0), on(1)})});
}

Stack two_segments(Kind second = Kind::endpoint) {
    return stack_of({leaf("a", Kind::endpoint, 1000), leaf("b", second, 1000),
                     linear("v", {{0, 100, 500}, {1, 200, 500}})});
}

// The status of the answer, in words.
std::string raw(Tree& tree, std::array<std::uint8_t, 1536>& block) {
    tree.answer(Block(block));
    return dek_status_text(dek_get_le32(&reinterpret_cast<dek_wire_header*>(block.data())->status));
}

std::array<std::uint8_t, 1536> handshake_block(const char* class_name, std::uint32_t version = 1) {
    std::array<std::uint8_t, 1536> block;
    std::array<std::uint8_t, 768> random;
    for (std::size_t i = 0; i < random.size(); i++)
        random[i] = static_cast<std::uint8_t>(i * 7);
    dek_block_begin(block.data(), DEK_OP_HANDSHAKE, 0, 77);
    dek_block_handshake(block.data(), class_name, random.data());
    dek_put_le32(&reinterpret_cast<dek_wire_header*>(block.data())->version, version);
    dek_block_seal(block.data());
    return block;
}

const LunMap both = map_of({{10, 20}, {600, 20}});

} // namespace

TEST_CASE("one who affirms the handshake is enough, unless the layers are strict", "[layers]") {
    Rig loose(two_segments(Kind::opaque));
    CHECK(loose.kcm.handshake());
    Rig strict(two_segments(Kind::opaque), {true, 1});
    CHECK_FALSE(strict.kcm.handshake());
    Rig whole(two_segments(), {true, 1});
    CHECK(whole.kcm.handshake());
    Rig nobody(stack_of({leaf("a", Kind::opaque, 10), linear("v", {{0, 0, 10}})}));
    CHECK_FALSE(nobody.kcm.handshake());
}

TEST_CASE("a layer answers a handshake under its own ID and echoes the rest", "[layers]") {
    Rig rig(two_segments());
    auto block = handshake_block(DEK_CLASS_EHBA);
    const auto command = block;
    CHECK(raw(rig.tree, block) == "Success");
    CHECK(dek_handshake_affirmative(command.data(), block.data()));
    const auto id = dek_get_le64(&reinterpret_cast<dek_wire_header*>(block.data())->endpoint_id);
    CHECK(id != 0);
    CHECK(id != rig.endpoints["a"].id());
    CHECK(id != rig.endpoints["b"].id());
    auto other = handshake_block(DEK_CLASS_RRM);
    CHECK(raw(rig.tree, other) == "Unknown Endpoint");
}

TEST_CASE("the lowest version beneath is what is agreed on, and too low fails", "[layers]") {
    Rig rig(two_segments());
    rig.endpoints["a"].version = 3;
    rig.endpoints["b"].version = 2;
    auto block = handshake_block(DEK_CLASS_EHBA, 5);
    CHECK(raw(rig.tree, block) == "Success");
    CHECK(dek_get_le32(&reinterpret_cast<dek_wire_header*>(block.data())->version) == 2);
    std::swap(rig.endpoints["a"].version, rig.endpoints["b"].version);
    block = handshake_block(DEK_CLASS_EHBA, 5);
    CHECK(raw(rig.tree, block) == "Success");
    CHECK(dek_get_le32(&reinterpret_cast<dek_wire_header*>(block.data())->version) == 2);
    Rig needy(two_segments(), {false, 3});
    needy.endpoints["a"].version = 3;
    needy.endpoints["b"].version = 2;
    block = handshake_block(DEK_CLASS_EHBA, 5);
    CHECK(raw(needy.tree, block) == "Bad Version");
    CHECK(sentence_of(needy.tree.take_remarks()).find("linear v needs version 3") == 0);
    needy.endpoints["b"].version = 3;
    block = handshake_block(DEK_CLASS_EHBA, 5);
    CHECK(raw(needy.tree, block) == "Success");
}

TEST_CASE("a block for an endpoint beneath goes down as it is; only the bottom knows nobody",
          "[layers]") {
    Rig rig(two_segments());
    rig.begin(both);
    std::array<std::uint8_t, 1536> block;
    const std::vector<dek_range> map = {{700, 5}};
    dek_block_begin(block.data(), DEK_OP_QUERY, rig.endpoints["b"].id(), 5);
    dek_block_query(block.data(), map.data(), 1);
    dek_block_seal(block.data());
    rig.endpoints["b"].keep_seen = true;
    CHECK(raw(rig.tree, block) == "Success");
    REQUIRE(rig.endpoints["b"].seen.size() == 1);
    CHECK(rig.endpoints["b"].seen[0].map == map);
    dek_block_begin(block.data(), DEK_OP_QUERY, 12345, 5);
    dek_block_query(block.data(), map.data(), 1);
    dek_block_seal(block.data());
    CHECK(raw(rig.tree, block) == "Unknown Endpoint");
    block[100] ^= 1;
    CHECK(raw(rig.tree, block) == "Bad Checksum");
}

TEST_CASE("all must affirm a Query where LBAs are remapped, one is enough across paths",
          "[layers]") {
    Rig linear_rig(two_segments(Kind::fence));
    linear_rig.begin(both);
    CHECK_FALSE(linear_rig.kcm.query(both));
    CHECK(linear_rig.kcm.query(map_of({{10, 20}}))); // nothing on b
    Rig paths(two_paths(Kind::fence));
    paths.begin(both);
    CHECK(paths.kcm.query(both));
    Rig open(two_paths(Kind::opaque));
    open.begin(both);
    CHECK(open.kcm.query(both)); // as decided; but nothing is associated
    const auto held = open.kcm.associate(both, open.keying());
    REQUIRE_FALSE(held);
    CHECK(held.error().reason.find("multipath m has a way to its data that no fence is on: "
                                   "device b") != std::string::npos);
    CHECK(open.endpoints.associations() == 0);
}

TEST_CASE("a mirror needs all legs to be written and one to be read", "[layers]") {
    for (const bool read_only : {false, true}) {
        Stack stack = stack_of({leaf("a", Kind::endpoint, 100), leaf("b", Kind::fence, 100),
                                mirror("r", 90, {on(0), on(1)})});
        stack.devices[2].read_only = read_only;
        Rig rig(stack);
        const LunMap map = map_of({{0, 90}});
        rig.begin(map);
        CHECK(bool(rig.kcm.query(map)) == read_only);
        CHECK(bool(rig.kcm.associate(map, rig.keying())) == read_only);
        const auto decision = decide(stack, {map, geometry, Policy::prefer, {}});
        CHECK((decision.who == Encryptor::endpoints) == read_only);
        if (read_only) {
            REQUIRE(decision.steering.size() == 1);
            CHECK(decision.steering[0].legs == std::vector<std::size_t>{0});
        }
        CHECK(rig.verdict("b", 5) == DEK_FENCED);
    }
}

TEST_CASE("a layer's handle is its own, and each leg keeps its own", "[layers]") {
    Rig rig(two_segments());
    rig.begin(both);
    REQUIRE(rig.kcm.associate(map_of({{0, 1}}), rig.keying())); // a's handles are ahead of b's
    const auto held = rig.kcm.associate(both, rig.keying());
    REQUIRE(held);
    CHECK(rig.endpoints["a"].associations().size() == 2);
    CHECK(rig.endpoints["b"].associations().size() == 1);
    for (auto* e : {&rig.endpoints["a"], &rig.endpoints["b"]})
        e->keep_seen = true;
    REQUIRE(rig.kcm.refresh(held->front(), rig.keying()));
    CHECK(rig.endpoints["a"].seen[0].association == rig.endpoints["a"].associations()[1].handle);
    CHECK(rig.endpoints["b"].seen[0].association == rig.endpoints["b"].associations()[0].handle);
    const Key other(2);
    const auto exists = rig.kcm.refresh(held->front(), other.keying(geometry));
    REQUIRE_FALSE(exists);
    CHECK(exists.error().code == dek::Errc::exists);
    CHECK_FALSE(rig.kcm.refresh({held->front().handle + 9, both}, rig.keying()));
    CHECK_FALSE(rig.kcm.associate(both, rig.keying())); // overlaps
}

TEST_CASE("a refresh goes to a new path with handle 0", "[layers]") {
    Rig rig(two_paths());
    rig.begin(both);
    const auto held = rig.kcm.associate(both, rig.keying());
    REQUIRE(held);
    Stack next = rig.stack;
    for (auto& leg : next.devices[2].legs)
        leg.device++;
    next.devices.insert(next.devices.begin(), leaf("c", Kind::endpoint, 1000));
    next.devices[3].legs.push_back(on(0));
    next.top++;
    REQUIRE(rig.tree.reshape(next, rig.endpoints.ports()));
    REQUIRE(rig.endpoints["c"].must_encrypt(both) == 0);
    CHECK(rig.verdict("c", 10) == DEK_FENCED);
    rig.endpoints["c"].keep_seen = true;
    REQUIRE(rig.kcm.refresh(held->front(), rig.keying()));
    const auto& seen = rig.endpoints["c"].seen.back();
    CHECK(seen.opcode == DEK_OP_ASSOCIATE);
    CHECK(seen.association == 0);
    CHECK(rig.verdict("c", 10) == DEK_CRYPT);
    CHECK(rig.endpoints["a"].associations().size() == 1);
    REQUIRE(rig.kcm.disassociate(held->front()));
    CHECK(rig.endpoints.associations() == 0);
}

TEST_CASE("an association is on all legs or on none", "[layers]") {
    Rig rig(two_segments());
    rig.begin(both);
    rig.endpoints["b"].on_set = DEK_NO_MEMORY;
    const auto held = rig.kcm.associate(both, rig.keying());
    REQUIRE_FALSE(held);
    CHECK(held.error().code == dek::Errc::no_space);
    CHECK(held.error().reason.find("endpoint b answers No Memory to Associate") !=
          std::string::npos);
    CHECK(rig.endpoints.associations() == 0);
    CHECK(rig.verdict("a", 110) == DEK_FENCED);
}

TEST_CASE("what could not be taken back is, as soon as its endpoint answers again", "[layers]") {
    Rig rig(two_segments());
    rig.begin(both);
    rig.endpoints["b"].on_set = DEK_NO_MEMORY;
    rig.endpoints["a"].commands_left = 1; // the Associate; no handle is ever taken back
    CHECK_FALSE(rig.kcm.associate(both, rig.keying()));
    CHECK(rig.endpoints["a"].associations().size() == 1);
    CHECK_FALSE(rig.kcm.associate(both, rig.keying())); // still down: nothing new
    rig.endpoints["a"].commands_left = -1;
    rig.endpoints["b"].on_set = DEK_OK;
    CHECK(rig.kcm.associate(both, rig.keying()));
    CHECK(rig.endpoints["a"].associations().size() == 1);
}

TEST_CASE("an Update that fails in part is fenced, then restored", "[layers]") {
    Rig rig(two_segments());
    const LunMap more = map_of({{10, 40}, {600, 40}});
    rig.begin(more);
    auto held = rig.kcm.associate(both, rig.keying());
    REQUIRE(held);
    const Key next(2);
    rig.endpoints["b"].on_set = DEK_INVALID_HW_STATE;
    // Only the controller has the old key: what took the new one is fenced until it says so.
    const auto failed = rig.kcm.update(held->front(), more, rig.keying(), next.keying(geometry));
    REQUIRE_FALSE(failed);
    for (const auto* name : {"a", "b"}) {
        const auto now = rig.endpoints[name].verdicts(true);
        for (const auto& v : now)
            CHECK(v.key != 2);
    }
    rig.endpoints["b"].on_set = DEK_OK;
    REQUIRE(rig.kcm.refresh(held->front(), rig.keying()));
    CHECK(rig.endpoints["a"].verdicts(true)[110].key == 1);
    CHECK(rig.endpoints["a"].verdicts(true)[135].verdict == DEK_FENCED);
    CHECK(rig.endpoints["b"].verdicts(true)[300].key == 1);
    REQUIRE(rig.kcm.update(held->front(), more, rig.keying(), next.keying(geometry)));
    CHECK(rig.endpoints["a"].verdicts(true)[135].key == 2);
    CHECK(rig.endpoints["b"].verdicts(true)[335].key == 2);
}

TEST_CASE("an Update whose answer is lost counts as carried out until it is undone", "[layers]") {
    Rig rig(two_segments());
    rig.begin(both);
    auto held = rig.kcm.associate(both, rig.keying());
    REQUIRE(held);
    const Key next(2);
    rig.endpoints["b"].commands_left = 0;
    rig.endpoints["b"].lose_answers = true;
    CHECK_FALSE(rig.kcm.update(held->front(), both, rig.keying(), next.keying(geometry)));
    rig.endpoints["b"].commands_left = -1;
    REQUIRE(rig.kcm.refresh(held->front(), rig.keying()));
    CHECK(rig.endpoints["a"].verdicts(true)[110].key == 1);
    CHECK(rig.endpoints["b"].verdicts(true)[300].key == 1);
}

TEST_CASE("an Update without a key takes back what it did by itself", "[layers]") {
    Rig rig(two_segments());
    const LunMap more = map_of({{10, 40}, {600, 40}});
    rig.begin(more);
    auto held = rig.kcm.associate(both, rig.keying());
    REQUIRE(held);
    Keying same = rig.keying();
    same.blob = nullptr;
    rig.endpoints["b"].on_set = DEK_NO_MEMORY;
    rig.endpoints["a"].keep_seen = true;
    CHECK_FALSE(rig.kcm.update(held->front(), more, rig.keying(), same));
    CHECK(rig.endpoints["a"].verdicts(true)[110].key == 1);
    CHECK(rig.endpoints["a"].verdicts(true)[135].verdict == DEK_FENCED);
    for (const auto& seen : rig.endpoints["a"].seen)
        CHECK(seen.opcode != DEK_OP_DISASSOCIATE); // never without its key
    rig.endpoints["b"].on_set = DEK_OK;
    REQUIRE(rig.kcm.update(held->front(), more, rig.keying(), same));
    CHECK(rig.endpoints["a"].verdicts(true)[135].key == 1);
}

TEST_CASE("a path that failed before an Update does not come back with the old key", "[layers]") {
    Rig rig(two_paths());
    rig.begin(both);
    auto held = rig.kcm.associate(both, rig.keying());
    REQUIRE(held);
    rig.stack.devices[2].legs[1].state = PathState::failed;
    REQUIRE(rig.tree.reshape(rig.stack, rig.endpoints.ports()));
    rig.endpoints["b"].commands_left = 0;
    const Key next(2);
    REQUIRE(rig.kcm.update(held->front(), both, rig.keying(), next.keying(geometry)));
    CHECK(rig.endpoints["b"].verdicts(true)[10].key == 1); // out of reach
    rig.stack.devices[2].legs[1].state = PathState::active;
    REQUIRE(rig.tree.reshape(rig.stack, rig.endpoints.ports()));
    CHECK_FALSE(rig.kcm.refresh(held->front(), next.keying(geometry)));
    rig.endpoints["b"].commands_left = -1;
    REQUIRE(rig.kcm.refresh(held->front(), next.keying(geometry)));
    CHECK(rig.endpoints["b"].verdicts(true)[10].key == 2);
}

TEST_CASE("the worst status goes up", "[layers]") {
    const std::vector<dek_status> order = {DEK_INVALID_HW_STATE,
                                           DEK_INVALID_KEY,
                                           DEK_INVALID_RANGE,
                                           DEK_NO_MEMORY,
                                           DEK_ASSOCIATION_OVERFLOW,
                                           DEK_BUSY,
                                           DEK_OK};
    for (std::size_t i = 0; i < order.size(); i++)
        for (std::size_t j = i; j < order.size(); j++) {
            CHECK(worse(order[i], order[j]) == order[i]);
            CHECK(worse(order[j], order[i]) == order[i]);
        }
    CHECK(worse(DEK_NOT_CAPABLE, DEK_BUSY) == DEK_NOT_CAPABLE); // waiting would not help
    CHECK(worse(static_cast<dek_status>(99), DEK_INVALID_KEY) == DEK_INVALID_HW_STATE);
    Rig rig(two_segments());
    rig.begin(both);
    rig.endpoints["a"].ready = DEK_BUSY;
    rig.endpoints["b"].ready = DEK_NO_MEMORY;
    CHECK(rig.kcm.query(both).error().code == dek::Errc::no_space);
    rig.endpoints["b"].ready = DEK_OK;
    CHECK(rig.kcm.query(both).error().code == dek::Errc::busy);
}

TEST_CASE("more ranges than a block holds become several associations beneath", "[layers]") {
    // Segments of two disks by turns: one range above is fifty on each below.
    std::vector<Segment> segments;
    for (std::uint64_t i = 0; i < 160; i++)
        segments.push_back({i % 2, i * 2, 2});
    Rig rig(stack_of(
        {leaf("a", Kind::endpoint, 400), leaf("b", Kind::endpoint, 400), linear("v", segments)}));
    const LunMap map = map_of({{0, 320}});
    rig.begin(map);
    const auto held = rig.kcm.associate(map, rig.keying());
    REQUIRE(held);
    CHECK(held->size() == 1);
    CHECK(rig.endpoints["a"].associations().size() == 2); // 80 ranges of one geometry
    CHECK(rig.endpoints["a"].verdicts(true)[317].tweak == 317);
    CHECK(rig.endpoints["b"].verdicts(true)[319].tweak == 319);
    auto shrunk = held->front();
    const LunMap less = map_of({{0, 30}, {40, 200}});
    REQUIRE(rig.kcm.update(shrunk, less, rig.keying(), rig.keying()));
    CHECK(rig.verdict("a", 33) == DEK_FENCED);
    CHECK(rig.endpoints["a"].verdicts(true)[237].tweak == 237);
    REQUIRE(rig.kcm.disassociate(shrunk));
    CHECK(rig.endpoints.associations() == 0);
}

TEST_CASE("what does not compose is Not Capable, with the layer's name", "[layers]") {
    const auto refused = [](Stack stack, const LunMap& map, dek_geometry g) {
        Rig rig(std::move(stack));
        REQUIRE(rig.kcm.handshake());
        const auto held = rig.kcm.associate(map, rig.key.keying(g));
        REQUIRE_FALSE(held);
        CHECK(held.error().code == dek::Errc::unsupported);
        CHECK(rig.endpoints.associations() == 0);
        return held.error().reason;
    };
    dek_geometry g4k = geometry;
    g4k.data_unit = 4096;
    const auto e = [](const char* name) { return leaf(name, Kind::endpoint, 4096, 4096); };
    CHECK(refused(stack_of({e("a"), e("b"), striped("low", 16, 1024, {on(0), on(1)}), e("c"),
                            striped("high", 32, 2048, {on(2), on(3)})}),
                  map_of({{0, 2048}}), g4k)
              .find("striped low is striped, and so is a layer above it") != std::string::npos);
    CHECK(refused(stack_of({e("a"), e("b"), striped("s", 12, 240, {on(0), on(1)})}),
                  map_of({{0, 240}}), g4k)
              .find("striped s has chunks of 12 LBAs, which cut data units of 4096 bytes") !=
          std::string::npos);
    CHECK(
        refused(stack_of({e("a"), linear("v", {{0, 0, 12}, {0, 100, 12}})}), map_of({{0, 24}}), g4k)
            .find("linear v cuts a data unit of 4096 bytes where its segment of LBAs 0-11") !=
        std::string::npos);
    CHECK(refused(stack_of({e("a"), linear("v", {{0, 63, 160}})}), map_of({{0, 160}}), g4k)
              .find("linear v begins within a data unit of 4096 bytes, at LBA 63") !=
          std::string::npos);
    Stack rq = two_paths();
    rq.devices[2].obstacle = "is request-based, so it can have no encrypting paths";
    CHECK(refused(rq, both, geometry).find("multipath m is request-based") != std::string::npos);
}

TEST_CASE("a key wrapped for one endpoint does not go through a layer", "[layers]") {
    Rig rig(two_segments());
    rig.begin(both);
    const std::array<std::uint8_t, 64> bytes{1};
    dek_blob blob{};
    blob.present = true;
    blob.type = DEK_BLOB_WRAPPED;
    blob.key_length = 64;
    blob.algorithm = DEK_ALG_AES;
    blob.mode = DEK_MODE_XTS;
    blob.key_data = blob.nonce = blob.tag = bytes.data();
    blob.kek_name = "kek";
    blob.kek_name_length = 3;
    const auto held = rig.kcm.associate(both, {"key-1", &blob, geometry});
    REQUIRE_FALSE(held);
    CHECK(held.error().reason.find("linear v cannot pass on a key that is wrapped") !=
          std::string::npos);
}

TEST_CASE("ranges beyond a layer's end are its own to refuse", "[layers]") {
    Rig rig(two_segments());
    rig.begin(both);
    const auto beyond = rig.kcm.query(map_of({{990, 20}}));
    REQUIRE_FALSE(beyond);
    CHECK(beyond.error().code == dek::Errc::invalid_argument);
    CHECK(beyond.error().reason.find("linear v has 1000 LBAs") != std::string::npos);
    CHECK(rig.kcm.query(map_of({{999, 1}})));
}

TEST_CASE("a refresh with another map is none", "[layers]") {
    Rig rig(two_segments());
    rig.begin(both);
    const auto held = rig.kcm.associate(both, rig.keying());
    REQUIRE(held);
    for (const auto& map : {map_of({{10, 20}}), map_of({{10, 20}, {600, 30}})}) {
        const auto other = rig.kcm.refresh({held->front().handle, map}, rig.keying());
        REQUIRE_FALSE(other);
        CHECK(other.error().code == dek::Errc::exists);
    }
    CHECK(rig.verdict("b", 300) == DEK_CRYPT);
    CHECK(rig.verdict("b", 325) == DEK_PASS);
}

TEST_CASE("associations on different paths must not overlap either", "[layers]") {
    Rig rig(two_paths());
    rig.begin(both);
    rig.endpoints["b"].ready = DEK_NOT_CAPABLE;
    REQUIRE(rig.kcm.associate(both, rig.keying())); // on a alone
    std::swap(rig.endpoints["a"].ready, rig.endpoints["b"].ready);
    const Key other(2);
    const auto second = rig.kcm.associate(map_of({{20, 5}}), other.keying(geometry));
    REQUIRE_FALSE(second);
    CHECK(second.error().code == dek::Errc::invalid_argument);
    CHECK(rig.verdict("b", 20) == DEK_FENCED);
}

TEST_CASE("a path that is left out must have nothing left beneath it", "[layers]") {
    dek_geometry g4k = geometry;
    g4k.data_unit = 4096;
    const auto e = [](const char* name) { return leaf(name, Kind::endpoint, 144, 4096); };
    // A Query finds nothing wrong with stripes over stripes.
    Rig rig(stack_of({e("a"), e("b"), e("c"), e("d"), e("f"), striped("t", 8, 32, {on(3), on(4)}),
                      striped("s", 16, 64, {on(2), on(5)}), linear("v", {{1, 0, 64}, {6, 0, 64}}),
                      multipath("m", 128, {on(0), on(7)})}));
    const LunMap map = map_of({{0, 128}});
    REQUIRE(rig.kcm.handshake());
    rig.endpoints["b"].commands_left = 2; // Query and Associate, and no Disassociate
    CHECK_FALSE(rig.kcm.associate(map, rig.key.keying(g4k)));
    CHECK(rig.endpoints["a"].associations().empty());
    rig.endpoints["b"].commands_left = -1;
    CHECK(rig.kcm.associate(map, rig.key.keying(g4k)));
    CHECK(rig.endpoints["a"].associations().size() == 1);
    CHECK(rig.endpoints["b"].associations().empty());
}

TEST_CASE("what is held stays where it is until it is let go", "[layers]") {
    const Part first{0, geometry, map_of({{0, 1}}), 7, 1};
    const Part second{0, geometry, map_of({{10, 90}}), 8, 1};
    const Part wanted{0, geometry, map_of({{0, 1}, {10, 1}, {20, 1}, {30, 1}}), 0, 0};
    const auto plan = plan_parts({first, second}, {wanted}, 2);
    REQUIRE(plan.next.size() == 3);
    CHECK(plan.next[0].part.map == map_of({{0, 1}})); // not 30, which is the second's still
    CHECK(plan.next[1].part.map == map_of({{10, 1}, {20, 1}}));
    CHECK(plan.next[2].part.map == map_of({{30, 1}}));
    CHECK_FALSE(plan.next[2].was);
    CHECK(plan_parts({first, second}, {}, 2).surplus.size() == 2);
}

TEST_CASE("a volume grows with its layers by an Update", "[layers]") {
    Rig rig(two_segments());
    rig.begin(map_of({{0, 1000}}));
    auto held = rig.kcm.associate(map_of({{0, 1000}}), rig.keying());
    REQUIRE(held);
    Stack next = rig.stack;
    next.devices[2] = linear("v", {{0, 100, 500}, {1, 200, 500}, {0, 700, 100}});
    REQUIRE(rig.tree.reshape(next, rig.endpoints.ports()));
    REQUIRE(rig.kcm.update(held->front(), map_of({{0, 1100}}), rig.keying(), rig.keying()));
    CHECK(rig.endpoints["a"].verdicts(true)[799].tweak == 1099);
    CHECK(rig.endpoints["a"].verdicts(true)[100].tweak == 0);
    CHECK_FALSE(
        rig.tree.reshape(stack_of({leaf("a", Kind::endpoint, 1000)}), rig.endpoints.ports()));
}
