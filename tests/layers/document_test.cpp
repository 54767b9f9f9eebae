// SPDX-License-Identifier: Apache-2.0
// The document's own storage stack (Figs. 4 and 5): L1 over D1 and D4, L2 over D2 and D3, with its
// LBAs.
#include <catch2/catch.hpp>

#include "bench.h"
#include "kcm/layers/decision.h"

using namespace bench;

namespace {

constexpr std::uint64_t disk = 4'000'000;
constexpr dek_geometry geometry{512, DEK_TWEAK_UNIT, 0, 0, 0, 0, 0};

Leg path(std::size_t device) {
    Leg leg;
    leg.device = device;
    return leg;
}

const LunMap encrypted = map_of({{1536, 8704}, {11264, 9216}});

// D1 by two encrypting HBAs and a plain one, D4 by one and one.
Stack l1() {
    return stack_of({leaf("D1.EHBA1", Kind::endpoint, disk), leaf("D1.EHBA3", Kind::endpoint, disk),
                     leaf("D1.NHBA1", Kind::fence, disk), leaf("D4.EHBA1", Kind::endpoint, disk),
                     leaf("D4.NHBA1", Kind::fence, disk),
                     multipath("D1", disk, {path(0), path(1), path(2)}),
                     multipath("D4", disk, {path(3), path(4)}),
                     // L1's 10,240-11,263 are plain and lie somewhere else on D4.
                     linear("L1", {{5, 998'464, 10'240},
                                   {6, 500'000, 1'024},
                                   {6, 2'097'152, 4'608},
                                   {6, 3'145'728, 4'608}})});
}

// D2 by two encrypting HBAs, D3 by a plain one only.
Stack l2() {
    return stack_of({leaf("D2.EHBA2", Kind::endpoint, disk), leaf("D2.EHBA3", Kind::endpoint, disk),
                     leaf("D3.NHBA1", Kind::fence, disk), multipath("D2", disk, {path(0), path(1)}),
                     multipath("D3", disk, {path(2)}),
                     linear("L2", {{3, 32'000, 10'240}, {4, 32'000, 10'240}})});
}

Question question() {
    return {encrypted, geometry, Policy::prefer, std::nullopt};
}

} // namespace

TEST_CASE("L1 is encrypted by the HBAs that can, in the document's LBAs", "[layers]") {
    Endpoints endpoints;
    const Stack stack = l1();
    auto tree = Tree::make(stack, endpoints.ports());
    REQUIRE(tree);
    const Decision decision = decide(stack, question());
    CHECK(decision.who == Encryptor::endpoints);
    for (const auto& [device, map] : decision.maps)
        REQUIRE(endpoints[stack[device].name].must_encrypt(map) == 0);
    for (const auto& [name, endpoint] : endpoints.all())
        endpoint->keep_seen = true;

    Initiator kcm(*tree);
    REQUIRE(kcm.handshake());
    REQUIRE(kcm.query(encrypted));
    const auto query_of = [&](const std::string& name) {
        for (const auto& seen : endpoints[name].seen)
            if (seen.opcode == DEK_OP_QUERY)
                return seen.map;
        return std::vector<dek_range>();
    };
    const std::vector<dek_range> on_d1 = {{1'000'000, 8'704}};
    const std::vector<dek_range> on_d4 = {{2'097'152, 4'608}, {3'145'728, 4'608}};
    for (const auto* name : {"D1.EHBA1", "D1.EHBA3", "D1.NHBA1"})
        CHECK(query_of(name) == on_d1);
    for (const auto* name : {"D4.EHBA1", "D4.NHBA1"})
        CHECK(query_of(name) == on_d4);

    const Key key(1);
    const auto held = kcm.associate(encrypted, key.keying(geometry));
    REQUIRE(held);
    CHECK(held->size() == 1);
    CHECK(endpoints["D1.EHBA1"].associations().size() == 1);
    CHECK(endpoints["D1.EHBA3"].associations().size() == 1);
    CHECK(endpoints["D4.EHBA1"].associations().size() == 2); // two segments, two geometries
    const auto d1 = endpoints["D1.EHBA3"].verdicts(true);
    CHECK(d1[999'999].verdict == DEK_PASS);
    CHECK(d1[1'000'000].tweak == 1536);
    CHECK(d1[1'008'703].tweak == 10'239);
    CHECK(d1[1'008'704].verdict == DEK_PASS);
    const auto d4 = endpoints["D4.EHBA1"].verdicts(true);
    CHECK(d4[2'097'152].tweak == 11'264);
    CHECK(d4[2'101'759].tweak == 15'871);
    CHECK(d4[3'145'728].tweak == 15'872);
    CHECK(d4[3'150'335].tweak == 20'479);
    CHECK(d4[2'101'760].verdict == DEK_PASS);
    for (const auto* name : {"D1.NHBA1", "D4.NHBA1"})
        CHECK(endpoints[name].associations().empty());
    CHECK(endpoints["D1.NHBA1"].verdicts(true)[1'000'000].verdict == DEK_FENCED);
    CHECK(endpoints["D4.NHBA1"].verdicts(false)[3'150'335].verdict == DEK_FENCED);

    REQUIRE(kcm.disassociate(held->front()));
    CHECK(endpoints.associations() == 0);
    CHECK(endpoints["D1.EHBA1"].verdicts(true)[1'000'000].verdict == DEK_FENCED);
}

TEST_CASE("L2 is encrypted in software, because D3 has a plain HBA only", "[layers]") {
    Endpoints endpoints;
    const Stack stack = l2();
    auto tree = Tree::make(stack, endpoints.ports());
    REQUIRE(tree);
    const Decision decision = decide(stack, question());
    CHECK(decision.who == Encryptor::software);
    CHECK(decision.why.find("multipath D3 has no leg left that can encrypt") != std::string::npos);
    Initiator kcm(*tree);
    REQUIRE(kcm.handshake());
    const auto answer = kcm.query(encrypted);
    REQUIRE_FALSE(answer);
    CHECK(answer.error().code == dek::Errc::unsupported);
    CHECK(answer.error().reason.find("D3.NHBA1") != std::string::npos);
    const Key key(1);
    CHECK_FALSE(kcm.associate(encrypted, key.keying(geometry)));
    CHECK(endpoints.associations() == 0);
}

TEST_CASE("When EHBA1 fails, D4 has no encrypting path left, and L1 moves to software",
          "[layers]") {
    Stack stack = l1();
    stack.devices[0].endpoint.ready = DEK_INVALID_HW_STATE;
    stack.devices[3].endpoint.ready = DEK_INVALID_HW_STATE;
    const Decision decision = decide(stack, question());
    CHECK(decision.who == Encryptor::software);
    CHECK(decision.why.find("endpoint D4.EHBA1 answers Invalid HW State") != std::string::npos);
    stack.devices[3].endpoint.ready = DEK_OK;
    CHECK(decide(stack, question()).who == Encryptor::endpoints); // D1 still has EHBA3
}
