// SPDX-License-Identifier: Apache-2.0
// Who encrypts, and what dm-crypt would be told.
#include <catch2/catch.hpp>

#include "bench.h"
#include "kcm/layers/crypt_table.h"
#include "kcm/layers/decision.h"

using namespace bench;

namespace {

constexpr dek_geometry geometry{4096, DEK_TWEAK_UNIT, 0, 0, 0, 0, 0};
const LunMap map = map_of({{0, 80}});

Stack one(std::uint32_t engines) {
    Stack stack = stack_of({leaf("a", Kind::endpoint, 160, 4096), linear("v", {{0, 80, 80}})});
    stack.devices[0].endpoint.engines = engines;
    return stack;
}

Decision ask(const Stack& stack, Policy policy, std::optional<TopTarget> top = std::nullopt) {
    return decide(stack, {map, geometry, policy, std::move(top)});
}

Role role_of(const Decision& d, std::size_t device) {
    for (const auto& finding : d.account)
        if (finding.device == device)
            return finding.role;
    FAIL("no finding");
    return Role::idle;
}

CryptVolume volume() {
    CryptVolume v;
    v.size = 129024;
    v.device = "7:9";
    v.offset = 2048;
    v.ranges = {{{16384, 49152}, "dekstack:k1", 64}, {{81920, 47104}, "dekstack:k2", 32}};
    return v;
}

std::vector<std::string> lines(const CryptVolume& v) {
    std::vector<std::string> all;
    const auto table = crypt_table(v).value();
    for (const auto& line : table)
        all.push_back(to_string(line));
    return all;
}

} // namespace

TEST_CASE("the policy says which engines count", "[layers]") {
    CHECK(ask(one(DEK_ENGINE_CPU), Policy::prefer).who == Encryptor::endpoints);
    CHECK(ask(one(DEK_ENGINE_CPU), Policy::hardware_only).who == Encryptor::software);
    CHECK(ask(one(DEK_ENGINE_ACCEL), Policy::hardware_only).who == Encryptor::endpoints);
    CHECK(ask(one(DEK_ENGINE_INLINE), Policy::hardware_only).who == Encryptor::endpoints);
    const auto never = ask(one(DEK_ENGINE_INLINE), Policy::never);
    CHECK(never.who == Encryptor::software);
    CHECK(never.why == "dm-crypt encrypts: the policy asks for no endpoint");
    CHECK(role_of(never, 0) == Role::idle);
}

TEST_CASE("a dek target on top comes before dm-crypt, where the policy lets it", "[layers]") {
    const Stack none = one(0);
    CHECK(ask(none, Policy::prefer, TopTarget{DEK_ENGINE_CPU, ""}).who == Encryptor::top);
    CHECK(ask(none, Policy::hardware_only, TopTarget{DEK_ENGINE_CPU, ""}).who ==
          Encryptor::software);
    CHECK(ask(none, Policy::hardware_only, TopTarget{DEK_ENGINE_ACCEL, ""}).who == Encryptor::top);
    CHECK(ask(none, Policy::never, TopTarget{DEK_ENGINE_ACCEL, ""}).who == Encryptor::software);
    const auto no = ask(none, Policy::prefer, TopTarget{DEK_ENGINE_CPU, "has no room"});
    CHECK(no.who == Encryptor::software);
    CHECK(no.why == "dm-crypt encrypts: endpoint a has no engine; a dek target on top has no room");
    CHECK(ask(one(DEK_ENGINE_CPU), Policy::prefer, TopTarget{DEK_ENGINE_INLINE, ""}).who ==
          Encryptor::endpoints);
}

TEST_CASE("an inline engine alone cannot number units by 512-byte LBAs", "[layers]") {
    Question q{map, geometry, Policy::prefer, std::nullopt};
    q.geometry.tweak_rule = DEK_TWEAK_LBA512;
    CHECK(decide(one(DEK_ENGINE_INLINE), q).who == Encryptor::software);
    CHECK(decide(one(DEK_ENGINE_INLINE | DEK_ENGINE_CPU), q).who == Encryptor::endpoints);
    q.geometry.data_unit = 512; // where both rules say the same
    Stack small = one(DEK_ENGINE_INLINE);
    small.devices[0].endpoint.data_unit = 512;
    CHECK(decide(small, q).who == Encryptor::endpoints);
    q.geometry.data_unit = 1024;
    CHECK(decide(small, q).why.find("encrypts data units of 512 bytes, not of 1024") ==
          std::string::npos); // the engine is what it has not, first
    small.devices[0].endpoint.engines = DEK_ENGINE_CPU;
    CHECK(decide(small, q).why.find("encrypts data units of 512 bytes, not of 1024") !=
          std::string::npos);
}

TEST_CASE("the account names every device on the way and what stood in it", "[layers]") {
    Leg a, b, c;
    b.device = 1;
    c.device = 2;
    Stack stack = stack_of({leaf("a", Kind::endpoint, 80, 4096), leaf("b", Kind::fence, 80, 4096),
                            leaf("c", Kind::opaque, 80, 4096), multipath("m", 80, {a, b, c})});
    auto d = ask(stack, Policy::prefer);
    CHECK(d.who == Encryptor::software);
    CHECK(role_of(d, 0) == Role::idle);
    CHECK(role_of(d, 1) == Role::fenced);
    CHECK(role_of(d, 2) == Role::in_the_way);
    CHECK(d.why.find("device c is no dek leg") != std::string::npos);
    stack.devices[3].legs[2].state = PathState::failed;
    d = ask(stack, Policy::prefer);
    CHECK(d.who == Encryptor::software);
    CHECK(role_of(d, 2) == Role::in_the_way);
    CHECK(d.why.find("device c has failed, and would carry plaintext when it comes back; take it "
                     "out of the map") != std::string::npos);
    stack.devices[3].legs[2].device = 1; // a path of ours
    d = ask(stack, Policy::prefer);
    CHECK(d.who == Encryptor::endpoints);
    CHECK(role_of(d, 0) == Role::encrypts);
    CHECK(role_of(d, 3) == Role::passes_on);
    CHECK(d.account.front().device == 3);
    CHECK(d.maps.size() == 2); // the fence's, too
    stack.devices[3].legs[2].device = 2;
    stack.devices[3].legs[2].state = PathState::standby;
    CHECK(ask(stack, Policy::prefer).who == Encryptor::software);
    for (auto& leg : stack.devices[3].legs)
        leg.state = PathState::failed;
    CHECK(ask(stack, Policy::prefer).why.find("multipath m has no leg left that can encrypt") !=
          std::string::npos);
    CHECK(decide(stack, {LunMap(), geometry, Policy::prefer, {}}).who == Encryptor::nobody);
}

TEST_CASE("a must-encrypt map is in whole data units", "[layers]") {
    const Stack stack = stack_of({leaf("a", Kind::endpoint, 160, 4096), linear("v", {{0, 3, 80}})});
    const auto d = ask(stack, Policy::prefer);
    CHECK(d.who == Encryptor::software);
    REQUIRE(d.maps.size() == 1);
    CHECK(d.maps[0].map == map_of({{0, 88}}));
}

TEST_CASE("dm-crypt gets exactly the encrypted ranges, with the volume's numbers", "[layers]") {
    CHECK(lines(volume()) ==
          std::vector<std::string>{
              "0 16384 linear 7:9 2048",
              "16384 49152 crypt aes-xts-plain64 :64:logon:dekstack:k1 16384 7:9 18432 2 "
              "sector_size:4096 iv_large_sectors",
              "65536 16384 linear 7:9 67584",
              "81920 47104 crypt aes-xts-plain64 :32:logon:dekstack:k2 81920 7:9 83968 2 "
              "sector_size:4096 iv_large_sectors"});
    CryptVolume v = volume();
    v.tweak = DEK_TWEAK_LBA512;
    CHECK(lines(v)[1] == "16384 49152 crypt aes-xts-plain64 :64:logon:dekstack:k1 16384 7:9 18432 "
                         "1 sector_size:4096");
    v.data_unit = 512;
    CHECK(lines(v)[1] == "16384 49152 crypt aes-xts-plain64 :64:logon:dekstack:k1 16384 7:9 18432");
    v.tweak = DEK_TWEAK_UNIT;
    CHECK(lines(v)[1] == "16384 49152 crypt aes-xts-plain64 :64:logon:dekstack:k1 16384 7:9 18432");
    v.ranges = {{{0, 129024}, "dekstack:k1", 64}};
    CHECK(lines(v).size() == 1);
    v.ranges.clear();
    CHECK(lines(v) == std::vector<std::string>{"0 129024 linear 7:9 2048"});
}

TEST_CASE("a crypt table of nonsense is none", "[layers]") {
    const auto refused = [](const std::function<void(CryptVolume&)>& spoil) {
        CryptVolume v = volume();
        spoil(v);
        return !crypt_table(v);
    };
    CHECK_FALSE(refused([](CryptVolume&) {}));
    CHECK(refused([](CryptVolume& v) { v.ranges[1].lbas.first = 16384; }));
    CHECK(refused([](CryptVolume& v) { v.ranges[0].lbas.count = 0; }));
    CHECK(refused([](CryptVolume& v) { v.ranges[0].lbas.first++; }));
    CHECK(refused([](CryptVolume& v) { v.ranges[0].lbas.count++; }));
    CHECK(refused([](CryptVolume& v) { v.ranges[1].lbas.count += 8; }));
    CHECK(refused([](CryptVolume& v) { v.ranges[1].lbas.count = ~0ull - 7; }));
    CHECK(refused([](CryptVolume& v) { v.ranges[0].key_size = 48; }));
    CHECK(refused([](CryptVolume& v) { v.ranges[0].key = "dekstack:a b"; }));
    CHECK(refused([](CryptVolume& v) { v.ranges[0].key = "no-service"; }));
    CHECK(refused([](CryptVolume& v) { v.ranges[0].key = ":k"; }));
    CHECK(refused([](CryptVolume& v) { v.ranges[0].key = "dekstack:k\n0 1 error"; }));
    CHECK(refused([](CryptVolume& v) { v.data_unit = 3000; }));
    CHECK(refused([](CryptVolume& v) { v.data_unit = 8192; }));
    CHECK(refused([](CryptVolume& v) { v.size = 0; }));
    CHECK(refused([](CryptVolume& v) { v.device = ""; }));
    CHECK(refused([](CryptVolume& v) { v.device = "7:9 0\n"; }));
    CHECK(refused([](CryptVolume& v) { v.offset = ~0ull; }));
}

TEST_CASE("a reserved place lies on the device that guards it", "[layers]") {
    CryptVolume v = volume();
    v.reserved = {1024, 512};
    v.reserved_device = "253:5";
    CHECK(lines(v)[0] == "0 1024 linear 7:9 2048");
    CHECK(lines(v)[1] == "1024 512 linear 253:5 0");
    CHECK(lines(v)[2] == "1536 14848 linear 7:9 3584");
    v.ranges.clear(); // endpoints beneath encrypt
    CHECK(lines(v).size() == 3);
    v = volume();
    v.reserved = {16384 + 8, 512}; // encrypted
    v.reserved_device = "253:5";
    CHECK(crypt_table(v).error().code == dek::Errc::invalid_argument);
    v.reserved = {129000, 512}; // beyond the end
    CHECK(crypt_table(v).error().code == dek::Errc::invalid_argument);
    v.reserved = {1024, 512};
    v.reserved_device.clear();
    CHECK(crypt_table(v).error().code == dek::Errc::invalid_argument);
}
