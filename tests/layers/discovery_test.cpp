// SPDX-License-Identifier: Apache-2.0
// From device-mapper's tables to a stack, and what is refused on the way.
#include <catch2/catch.hpp>

#include "bench.h"
#include "kcm/layers/discovery.h"
#include "kcm/layers/target.h"

using namespace bench;

namespace {

BlockDevice disk(const std::string& number, std::uint64_t size) {
    BlockDevice d;
    d.number = number;
    d.name = "/dev/" + number;
    d.size = size;
    return d;
}

BlockDevice dm(const std::string& number, const std::string& table,
               std::vector<std::string> depends) {
    BlockDevice d = disk(number, 0);
    d.table = parse_table(table).value();
    d.size = d.table.back().first + d.table.back().count;
    d.depends = std::move(depends);
    return d;
}

Target target(const std::string& type, const std::string& parameters) {
    return parse_target({0, 1024, type, parameters}).value();
}

bool sound(const std::string& type, const std::string& parameters) {
    return bool(parse_target({0, 1024, type, parameters}));
}

const char* const uuid = "11111111-2222-3333-4444-555555555555";

} // namespace

TEST_CASE("table lines say what they are", "[layers]") {
    CHECK(target("linear", "8:16 2048").legs[0].offset == 2048);
    const auto s = target("striped", "2 128 8:16 0 8:32 64");
    CHECK((s.kind == Kind::striped && s.chunk == 128 && s.legs.size() == 2 &&
           s.legs[1].offset == 64));
    const auto m = target("mirror", "disk 3 8:48 1024 nosync 2 8:16 0 8:32 8 1 handle_errors");
    CHECK((m.kind == Kind::mirror && m.legs.size() == 2 && m.legs[1].offset == 8));
    CHECK(m.others == std::vector<std::string>{"8:48"});
    const auto r = target("raid", "raid1 3 0 region_size 1024 3 253:0 253:1 - - 253:2 253:3");
    CHECK((r.kind == Kind::mirror && r.legs.size() == 2 && r.legs[1].number == "253:3"));
    CHECK(target("raid", "raid5_ls 1 128 3 - 8:0 - 8:16 - 8:32").kind == Kind::opaque);
    CHECK(target("raid", "raid1 3 0 data_offset 2048 1 - 8:0").obstacle == "is being reshaped");
    const auto e = target("dek", std::string(uuid) + " 8:16 2048 4096 1 fence:eio");
    CHECK((e.kind == Kind::endpoint && e.uuid == uuid && e.data_unit == 4096));
    CHECK(target("crypt", "aes-xts-plain64 :64:logon:x 0 8:16 0").obstacle ==
          "is encrypted by dm-crypt already");
    CHECK(target("snapshot", "what ever").kind == Kind::opaque);
}

TEST_CASE("a multipath that is no bio-based one has an obstacle", "[layers]") {
    const std::string paths = "1 1 service-time 0 2 2 8:16 1 1 8:32 1 1";
    const auto bio = target("multipath", "2 queue_mode bio 0 " + paths);
    CHECK((bio.kind == Kind::multipath && bio.legs.size() == 2 && bio.obstacle.empty()));
    CHECK(target("multipath", "0 0 " + paths).obstacle.find("request-based") != std::string::npos);
    CHECK(target("multipath", "2 queue_mode mq 0 " + paths).obstacle.find("request-based") !=
          std::string::npos);
    CHECK(target("multipath", "2 queue_mode bio 1 alua " + paths).obstacle.find("alua") !=
          std::string::npos);
    const auto groups = target("multipath", "3 queue_if_no_path queue_mode bio 0 2 1 round-robin 0 "
                                            "1 1 8:16 1000 queue-length 0 1 1 8:32 1");
    CHECK(groups.legs.size() == 2);
    const auto states = parse_path_states("2 0 0 0 2 1 A 0 1 0 8:16 A 0 E 0 1 1 8:32 A 3 7");
    REQUIRE(states);
    CHECK(states->at("8:16") == PathState::active);
    CHECK(states->at("8:32") == PathState::standby);
    CHECK(parse_path_states("2 0 0 0 1 1 A 0 1 0 8:16 F 4")->at("8:16") == PathState::failed);
    CHECK_FALSE(parse_path_states("2 0 0 0 1 1 A 0 2 0 8:16 F 4"));
    CHECK_FALSE(parse_path_states("2 0 0 0 1 1 A 0 1 0 8:16 F 4 more"));
    CHECK_FALSE(parse_path_states(""));
}

TEST_CASE("parameters the kernel would not take are refused", "[layers]") {
    CHECK_FALSE(sound("linear", ""));
    CHECK_FALSE(sound("linear", "8:16"));
    CHECK_FALSE(sound("linear", "8:16 -1"));
    CHECK_FALSE(sound("linear", "8:16 0 more"));
    CHECK_FALSE(sound("linear", "/dev/sda 0"));
    CHECK_FALSE(sound("linear", "8: 0"));
    CHECK_FALSE(sound("linear", "99999:1 0"));
    CHECK_FALSE(sound("striped", "3 128 8:16 0 8:32 0"));
    CHECK_FALSE(sound("striped", "0 128"));
    CHECK_FALSE(sound("striped", "18446744073709551615 128 8:16 0"));
    CHECK_FALSE(sound("mirror", "core 2 1024 nosync 0"));
    CHECK_FALSE(sound("mirror", "core 9 1024 nosync 2 8:16 0 8:32 0"));
    CHECK_FALSE(sound("raid", "raid1 1 0 1 - -"));
    CHECK_FALSE(sound("raid", "raid1 1 0 2 x 8:16 - 8:32"));
    CHECK_FALSE(sound("multipath", "2 queue_mode bio 0 1 1 service-time 0 2 1 8:16 1 8:16 1"));
    CHECK_FALSE(sound("multipath", "2 queue_mode bio 0 1 1 service-time 0 5 1 8:16 1"));
    CHECK_FALSE(sound("dek", std::string(uuid) + " 8:16 0"));
    CHECK_FALSE(parse_table(""));
    CHECK_FALSE(parse_table("0 10 linear 8:16 0\n11 10 linear 8:16 10"));
    CHECK_FALSE(parse_table("0 0 linear 8:16 0"));
    CHECK_FALSE(parse_table("0 10"));
    CHECK_FALSE(parse_table("x 10 zero"));
    CHECK_FALSE(parse_table("0 18446744073709551615 zero\n18446744073709551615 2 zero"));
    CHECK(parse_table("0 10 zero\n10 5 error \n").value().size() == 2);
}

TEST_CASE("an LVM volume over multipaths over dek legs becomes a stack", "[layers]") {
    Description d;
    d.devices = {
        disk("8:0", 200'000),
        disk("8:16", 200'000),
        dm("253:0", std::string("0 200000 dek ") + uuid + " 8:0 0 512 1 fence:transport", {"8:0"}),
        dm("253:1", "0 200000 dek other 8:16 0 512 1 fence:transport", {"8:16"}),
        dm("253:2", "0 200000 multipath 2 queue_mode bio 0 1 1 service-time 0 2 1 253:0 1 253:1 1",
           {"253:0", "253:1"}),
        dm("253:3",
           "0 1024 linear 253:2 2048\n1024 2048 striped 2 128 253:2 4096 253:2 8192\n"
           "3072 8 error ",
           {"253:2"})};
    d.devices[4].path_status = "2 0 0 0 1 1 A 0 2 0 253:0 A 0 253:1 F 1";
    d.endpoints[uuid] = {DEK_ENGINE_INLINE, DEK_OK};
    const auto stack = build_stack(d, "253:3");
    REQUIRE(stack);
    const Device& top = (*stack)[stack->top];
    REQUIRE(top.legs.size() == 3);
    CHECK((top.legs[0].offset == 2048 && top.legs[1].first == 1024 && top.legs[1].offset == 0));
    CHECK((*stack)[top.legs[1].device].kind == Kind::striped);
    CHECK((*stack)[top.legs[2].device].obstacle.find("error") != std::string::npos);
    const Device& paths = (*stack)[top.legs[0].device];
    CHECK((paths.kind == Kind::multipath && !paths.legs[1].may_carry_io()));
    CHECK((*stack)[paths.legs[0].device].kind == Kind::endpoint);
    CHECK((*stack)[paths.legs[1].device].kind == Kind::fence);                // no shim knows it
    CHECK((*stack)[top.legs[1].device].legs[0].device == top.legs[0].device); // shared
}

TEST_CASE("an endpoint counts in the LBAs of what it lies on, partitions too", "[layers]") {
    Description d;
    d.devices = {disk("8:0", 10'000), disk("8:1", 8'000),
                 dm("253:0", std::string("0 4000 dek ") + uuid + " 8:1 2048 512", {"8:1"}),
                 disk("259:1", 1'000)};
    d.devices[1].partition = {"8:0", 2'000};
    d.devices[3].partition = {"253:0", 500};
    d.endpoints[uuid] = {DEK_ENGINE_CPU, DEK_BUSY};
    const auto stack = build_stack(d, "259:1").value();
    CHECK(spread(stack[stack.top], map_of({{0, 10}}))[0] == map_of({{500, 10}}));
    const auto maps = project(stack, map_of({{0, 10}}));
    CHECK(maps[0] == map_of({{2548, 10}}));
    CHECK(stack[0].endpoint.ready == DEK_BUSY);
    CHECK(stack[0].uuid == uuid);
    const auto plain = build_stack(d, "8:1").value();
    CHECK(project(plain, map_of({{0, 10}}))[0] == map_of({{2000, 10}}));
}

TEST_CASE("a description that contradicts itself is refused", "[layers]") {
    Description d;
    d.devices = {disk("8:0", 1000), dm("253:0", "0 1000 linear 8:0 0", {"8:0"}),
                 dm("253:1", "0 1000 linear 253:0 0", {"253:0"})};
    REQUIRE(build_stack(d, "253:1"));
    const auto refused = [&](const std::function<void(Description&)>& spoil) {
        Description other = d;
        spoil(other);
        const auto stack = build_stack(other, "253:1");
        return !stack && stack.error().code == dek::Errc::corrupt;
    };
    CHECK(refused([](Description& x) { x.devices[1].depends.clear(); }));
    CHECK(refused([](Description& x) { x.devices[0].size = 999; }));
    CHECK(refused([](Description& x) { x.devices[1].size = 999; }));
    CHECK(refused([](Description& x) { x.devices[2].size = 1001; }));
    CHECK(refused([](Description& x) { x.devices.erase(x.devices.begin()); }));
    CHECK(refused([](Description& x) { x.devices[1].name = x.devices[0].name; }));
    CHECK(refused([](Description& x) { x.devices[1].partition = {"8:0", 0}; }));
    CHECK(refused([](Description& x) {
        x.devices[1] = dm("253:0", "0 1000 linear 253:1 0", {"253:1"}); // a ring
    }));
    CHECK(refused([](Description& x) { x.devices[1].table[0].parameters = "8:0 1"; }));
    CHECK(refused([](Description& x) { x.devices[1].table[0].parameters = "8:0"; }));
    CHECK(refused([](Description& x) {
        x.devices[1] = dm("253:0", "0 1000 striped 2 128 8:0 0 8:0 500", {"8:0"}); // uneven
    }));
    CHECK(refused([](Description& x) {
        x.devices[1] = dm(
            "253:0", "0 1000 multipath 2 queue_mode bio 0 1 1 service-time 0 1 1 8:0 1", {"8:0"});
        x.devices[1].path_status = "2 0 0 0 1 1 A 0 1 0 8:99 A 0";
    }));
}

TEST_CASE("stacks too large to walk are refused", "[layers]") {
    // Each level twice on the one beneath: 2^15 ways down.
    std::vector<Device> devices = {leaf("x", Kind::endpoint, 1 << 16)};
    for (unsigned i = 0; i < 15; i++)
        devices.push_back(
            mirror("m" + std::to_string(i), 1 << 10,
                   {{i, 0, 0, 0, PathState::active}, {i, 0, 0, 0, PathState::active}}));
    CHECK_FALSE(validate(stack_of(devices)));
    std::vector<Device> deep = {leaf("x", Kind::endpoint, 100)};
    for (unsigned i = 0; i < max_depth; i++)
        deep.push_back(linear("l" + std::to_string(i), {{i, 0, 100}}));
    CHECK_FALSE(validate(stack_of(deep)));
    deep.pop_back();
    CHECK(validate(stack_of(deep)));
    Stack up = stack_of({leaf("x", Kind::endpoint, 100), linear("l", {{1, 0, 100}})});
    CHECK_FALSE(validate(up)); // lies on itself
    up = stack_of({leaf("x", Kind::endpoint, 0)});
    CHECK_FALSE(validate(up));
    up = stack_of({leaf("x", Kind::endpoint, 100), linear("l", {{0, 1, 100}})});
    CHECK_FALSE(validate(up)); // reaches beyond its end
    CHECK_FALSE(validate(Stack{}));
}

TEST_CASE("a mirror says whether it copies", "[layers]") {
    const auto copies = [](const char* type, const char* status) {
        return parse_copying({0, 8, type, status});
    };
    CHECK_FALSE(copies("mirror", "2 253:0 253:1 96/96 1 AA 1 core").value());
    CHECK(copies("mirror", "2 253:0 253:1 95/96 1 AA 1 core").value());
    CHECK_FALSE(copies("raid", "raid1 2 AA 98304/98304 idle 0 0 -").value());
    CHECK_FALSE(copies("raid", "raid1 2 AA 98304/98304 frozen 0 0 -").value());
    CHECK(copies("raid", "raid1 2 Aa 512/98304 recover 0 0 -").value());
    CHECK(copies("raid", "raid1 2 AA 98304/98304 check 0 0 -").value());
    for (const char* bad : {"", "raid1 2 AA", "raid1 2 AA 98304 idle", "raid1 2 AA x/y idle"})
        CHECK(copies("raid", bad).error().code == dek::Errc::corrupt);
    CHECK(copies("mirror", "3 253:0 253:1 96/96").error().code == dek::Errc::corrupt);
}
