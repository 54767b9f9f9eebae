// SPDX-License-Identifier: Apache-2.0
// The ranges that people type, and dek::LunMap as a value.
#include <catch2/catch.hpp>

#include <random>

#include <dek/lunmap.hpp>

using dek::LunMap;

namespace {

constexpr std::uint64_t disk = 20480;

std::string typed(std::string_view text, std::uint64_t size = disk) {
    auto map = LunMap::parse(text, size);
    return map ? "= " + map->to_string() : map.error();
}

LunMap map_of(std::vector<dek_range> ranges) {
    return LunMap::from(std::move(ranges)).value();
}

} // namespace

TEST_CASE("ranges mean inclusive LBAs", "[ranges]") {
    CHECK(LunMap::parse("1536-10239,11264-20479", disk) == map_of({{1536, 8704}, {11264, 9216}}));
    CHECK(LunMap::parse("7-7", disk) == map_of({{7, 1}}));
    CHECK(typed("11264-20479,1536-10239") == "= 1536-10239,11264-20479");
    CHECK(typed("0-7,8-15") == "= 0-15");
    CHECK(typed("11264-") == "= 11264-20479");
    CHECK(typed("0-7,20479-") == "= 0-7,20479-20479");
    CHECK(typed("all") == "= 0-20479");
    CHECK(typed("0-18446744073709551614", 0) == "= 0-18446744073709551614");
    CHECK(typed("all", UINT64_MAX) == "= 0-18446744073709551614");
    CHECK(typed("007-0008") == "= 7-8");
}

TEST_CASE("every rejection of ranges is one sentence that says why", "[ranges]") {
    CHECK(typed("") == "no ranges were given");
    CHECK(typed("abc") == "\"abc\" is not a range: write FIRST-LAST, FIRST- or all");
    CHECK(typed("-5") == "\"-5\" is not a range: write FIRST-LAST, FIRST- or all");
    CHECK(typed("-") == "\"-\" is not a range: write FIRST-LAST, FIRST- or all");
    CHECK(typed("1-2-3") == "\"1-2-3\" is not a range: write FIRST-LAST, FIRST- or all");
    CHECK(typed("0x10-0x20") == "\"0x10-0x20\" is not a range: write FIRST-LAST, FIRST- or all");
    CHECK(typed("+1-2") == "\"+1-2\" is not a range: write FIRST-LAST, FIRST- or all");
    CHECK(typed("1 - 2") == "\"1 - 2\" is not a range: write FIRST-LAST, FIRST- or all");
    CHECK(typed("5") == "the range \"5\" has no end: write FIRST-LAST or FIRST-");
    CHECK(typed("9-5") == "the range \"9-5\" ends before it begins");
    CHECK(typed("0-20480") == "the range \"0-20480\" goes beyond the last LBA, which is 20479");
    CHECK(typed("20480-") == "the range \"20480-\" goes beyond the last LBA, which is 20479");
    CHECK(typed("0-99999999999999999999") ==
          "the LBA \"99999999999999999999\" is too large for any device");
    CHECK(typed("0-18446744073709551615", 0) ==
          "the LBA \"18446744073709551615\" is too large for any device");
    CHECK(typed("0-9,9-12") == "the ranges 0-9 and 9-12 overlap");
    CHECK(typed("50-60,0-100") == "the ranges 0-100 and 50-60 overlap");
    CHECK(typed("0-,5-6") == "the ranges 0-20479 and 5-6 overlap");
    CHECK(typed("0-1,") == "the list of ranges \"0-1,\" has an empty place in it");
    CHECK(typed(",0-1") == "the list of ranges \",0-1\" has an empty place in it");
    CHECK(typed("0-1,,2-3") == "the list of ranges \"0-1,,2-3\" has an empty place in it");
    CHECK(typed("0-1,all") == "\"all\" stands alone: it cannot be listed with ranges");
    CHECK(typed("all,all") == "\"all\" stands alone: it cannot be listed with ranges");
    CHECK(typed("all", 0) == "\"all\" needs a device whose size is known, and here it is not");
    CHECK(typed("5-", 0) ==
          "the range \"5-\" needs its last LBA, because the size of the device is not known here");
}

TEST_CASE("what is quoted back cannot upset a terminal or flood it", "[ranges]") {
    CHECK(typed("\x1b[2J\n") == "\"?[2J?\" is not a range: write FIRST-LAST, FIRST- or all");
    CHECK(typed(std::string(5000, 'x')).size() < 200);
    CHECK(typed(std::string_view("1-2\0", 4)) ==
          "\"1-2?\" is not a range: write FIRST-LAST, FIRST- or all");
}

TEST_CASE("what a map prints, it parses", "[ranges]") {
    std::mt19937_64 random(8);
    for (int round = 0; round < 500; round++) {
        std::vector<dek_range> ranges(1 + random() % 100);
        std::uint64_t at = 0;
        for (dek_range& r : ranges) {
            r = {at + random() % 1000, 1 + random() % 1000};
            at = r.first + r.count;
        }
        LunMap map = map_of(ranges);
        CHECK(LunMap::parse(map.to_string(), at) == map.merged());
    }
}

TEST_CASE("any text gives a map or a sentence", "[ranges]") {
    std::mt19937_64 random(9);
    const std::string alphabet = "0123456789--,,al x\n\xff";
    int maps = 0;
    for (int round = 0; round < 100000; round++) {
        std::string text(random() % 12, ' ');
        for (char& c : text)
            c = alphabet[random() % alphabet.size()];
        auto map = LunMap::parse(text, disk);
        if (map) {
            maps++;
            CHECK_FALSE(map->empty());
            REQUIRE(map->fits(disk, 0) == DEK_OK);
        } else {
            REQUIRE_FALSE(map.error().empty());
            REQUIRE(map.error().find('\n') == std::string::npos);
        }
    }
    CHECK(maps > 100);
}

TEST_CASE("what is no map does not become a LunMap", "[ranges]") {
    CHECK(LunMap::from({{0, 0}}).error() == DEK_INVALID_RANGE);
    CHECK(LunMap::from({{5, 5}, {0, 2}}).error() == DEK_INVALID_RANGE);
    CHECK(LunMap::from({{1, UINT64_MAX}}).error() == DEK_INVALID_RANGE);
    CHECK(LunMap::from({}).value().empty());
}

TEST_CASE("a LunMap has the algebra as its members", "[ranges]") {
    LunMap a = map_of({{0, 100}, {200, 100}}), b = map_of({{50, 200}});
    CHECK(a.intersect(b) == map_of({{50, 50}, {200, 50}}));
    CHECK(a.subtract(b) == map_of({{0, 50}, {250, 50}}));
    CHECK(a.unite(b) == map_of({{0, 300}}));
    CHECK(a.intersect(LunMap()).empty());
    CHECK(a.total() == 200);
    CHECK(a.contains({0, 100}));
    CHECK_FALSE(a.contains({0, 101}));
    CHECK(a.overlaps({99, 2}));
    CHECK(a.fits(300, 2048) == DEK_OK);
    CHECK(a.fits(299, 0) == DEK_INVALID_RANGE);
    CHECK(map_of({{0, 1}, {1, 1}}).merged() == map_of({{0, 2}}));
    CHECK(a.shifted(0, 2048).value() == map_of({{2048, 100}, {2248, 100}}));
    CHECK(b.shifted(51, 0).error() == DEK_INVALID_RANGE);
}

TEST_CASE("a long map is cut into blocks that lose nothing", "[ranges]") {
    std::vector<dek_range> ranges;
    for (std::uint64_t i = 0; i < 125; i++)
        ranges.push_back({i * 10, 5});
    LunMap map = map_of(ranges);
    auto blocks = map.blocks();
    REQUIRE(blocks.size() == 3);
    CHECK(blocks[0].size() == 60);
    CHECK(blocks[2].size() == 5);
    std::vector<dek_range> again;
    for (auto block : blocks)
        again.insert(again.end(), block.begin(), block.end());
    CHECK(map_of(again) == map);
    CHECK(map.blocks(1).size() == 125);
    CHECK(map.blocks(125).size() == 1);
    CHECK(LunMap().blocks().empty());
}
