// SPDX-License-Identifier: Apache-2.0
// The configuration of legs and maps, what device-mapper is told, which device is which, and the
// path checker: as far as no kernel is needed.
#include <condition_variable>
#include <fstream>
#include <mutex>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <sys/sysmacros.h>

#include "bench.h"
#include "kcm/leg_device.h"
#include "kcm/leg_files.h"
#include "kcm/multipath_checker.h"

using namespace dek;
using namespace dek::kcm;
using kcmtest::Folder;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

Leg sample() {
    Leg leg;
    leg.name = "sdb";
    leg.uuid = *volume::uuid_of("6ba7b810-9dad-41d1-80b4-00c04fd430c8");
    leg.device = "/dev/disk/by-id/wwn-0x5000";
    leg.wwid = "naa.5000";
    leg.lbas = 8192;
    leg.fence = DEK_FENCE_TRANSPORT;
    leg.engine = false;
    leg.multipath = "mp";
    leg.group = 2;
    return leg;
}

MultipathMap sample_map() {
    return {"mp", *volume::uuid_of("6ba7b811-9dad-41d1-80b4-00c04fd430c8"), "naa.5000", 8192, true};
}

void write_text(const std::string& path, const std::string& text) {
    fs::create_directories(fs::path(path).parent_path());
    std::ofstream(path) << text;
}

// One disk of a sysfs that is made of files.
void add_disk(const Folder& sys, const std::string& name, const std::string& number,
              const std::string& lbas, const std::string& wwid) {
    const std::string real = sys / "devices/" + name;
    write_text(real + "/dev", number + "\n");
    write_text(real + "/size", lbas + "\n");
    if (!wwid.empty())
        write_text(real + "/device/wwid", wwid + "\n");
    for (const char* where : {"dev/block", "class/block"})
        fs::create_directories(sys / where);
    fs::create_symlink(real, sys / "dev/block/" + number);
    fs::create_symlink(real, sys / "class/block/" + name);
}

std::string why_not(json j, const std::string& name = "sdb") {
    const auto r = parse_leg(name, j.dump());
    return r ? "" : r.error().reason;
}

} // namespace

TEST_CASE("a leg's file says what the leg is") {
    const auto leg = sample();
    const auto back = parse_leg("sdb", to_text(leg));
    REQUIRE(back);
    CHECK(to_text(*back) == to_text(leg));
    CHECK(back->uuid == leg.uuid);
    CHECK(back->group == 2);
    CHECK_FALSE(back->engine);
    const auto map = parse_multipath_map("mp", to_text(sample_map()));
    REQUIRE(map);
    CHECK(map->queue_if_no_path);
    CHECK(to_text(*map) == to_text(sample_map()));
}

TEST_CASE("a file that is none is refused with a reason") {
    const json good = json::parse(to_text(sample()));
    CHECK(why_not(good) == "");
    CHECK(why_not(good, "sdc") == "it does not belong to its name");
    const std::vector<std::pair<const char*, json>> wrong = {{"version", 2},
                                                             {"version", -1},
                                                             {"name", 7},
                                                             {"name", "../sdb"},
                                                             {"uuid", "no"},
                                                             {"uuid", json::array()},
                                                             {"device", "sdb"},
                                                             {"device", ""},
                                                             {"device", "/dev/\nsdb"},
                                                             {"device", nullptr},
                                                             {"wwid", "a\tb"},
                                                             {"wwid", 5},
                                                             {"lbas", 0},
                                                             {"lbas", -8},
                                                             {"lbas", 1.5},
                                                             {"lbas", 1ull << 60},
                                                             {"lbas", "8192"},
                                                             {"lbas", 8191},
                                                             {"data_unit", 0},
                                                             {"data_unit", 1536},
                                                             {"data_unit", 8192},
                                                             {"fence", "none"},
                                                             {"fence", 1},
                                                             {"engine", "auto"},
                                                             {"engine", 1},
                                                             {"multipath", "a b"},
                                                             {"multipath", nullptr},
                                                             {"group", 0},
                                                             {"group", 33},
                                                             {"group", -1},
                                                             {"device", std::string(5000, '/')}};
    for (const auto& [name, value] : wrong) {
        json j = good;
        j[name] = value;
        INFO(name << " " << value);
        CHECK(why_not(j) != "");
    }
    for (const auto& member : good.items()) {
        json j = good;
        j.erase(member.key());
        INFO(member.key());
        CHECK(why_not(j) != "");
    }
    json more = good;
    more["key"] = "x";
    CHECK(why_not(more) == "it has members that are not known");
    for (const std::string& text :
         {std::string(), std::string("[]"), std::string("null"), std::string("{"),
          std::string(60000, '['), std::string(70000, ' ') + to_text(sample()),
          std::string("\xff")})
        CHECK_FALSE(parse_leg("sdb", text));
    CHECK_FALSE(parse_multipath_map("mp", to_text(sample())));
}

TEST_CASE("files are read beside others that cannot be") {
    const Folder state;
    const LegFiles files(state.path());
    CHECK(files.legs().empty());
    CHECK_FALSE(files.has_leg("sdb"));
    REQUIRE(files.add(sample()));
    CHECK(files.add(sample()).error().code == Errc::exists);
    REQUIRE(files.add(sample_map()));
    write_text(state / "endpoints/bad.json", "{");
    write_text(state / "endpoints/sdc.json", to_text(sample()));
    fs::create_directories(state / "endpoints/folder.json");
    const auto legs = files.legs();
    REQUIRE(legs.size() == 1);
    CHECK(legs[0].name == "sdb");
    CHECK(files.has_leg("bad"));
    CHECK(files.maps().size() == 1);
    auto changed = sample();
    changed.device = "/dev/sdz";
    REQUIRE(files.replace(changed));
    CHECK(files.legs()[0].device == "/dev/sdz");
    REQUIRE(files.remove_leg("sdb"));
    REQUIRE(files.remove_leg("sdb"));
    CHECK(files.legs().empty());
    REQUIRE(files.remove_map("mp"));
    CHECK_FALSE(files.has_map("mp"));
}

TEST_CASE("device-mapper is told by numbers") {
    auto leg = sample();
    const auto line = leg_line(leg, makedev(8, 16));
    CHECK(layers::to_string(line) ==
          "0 8192 dek 6ba7b810-9dad-41d1-80b4-00c04fd430c8 8:16 0 4096 2 fence:transport "
          "engine:none");
    leg.engine = true;
    leg.fence = DEK_FENCE_EIO;
    CHECK(leg_line(leg, makedev(8, 16)).parameters ==
          "6ba7b810-9dad-41d1-80b4-00c04fd430c8 8:16 0 4096 1 fence:eio");
    CHECK(dm_name(leg) == "dekleg-sdb");
    CHECK(dm_uuid(leg) == "DEKLEG-6ba7b810-9dad-41d1-80b4-00c04fd430c8");
    CHECK(is_leg_uuid(dm_uuid(leg)));
    CHECK_FALSE(is_leg_uuid("DEK-6ba7b810-9dad-41d1-80b4-00c04fd430c8"));
    CHECK(is_hidden_name(hidden_name_new(leg)));
    CHECK(is_hidden_name(hidden_name_old(dm_uuid(leg))));
    CHECK(hidden_name_old(dm_uuid(leg)) == "dekleg.old.6ba7b810-9dad-41d1-80b4-00c04fd430c8");
    leg.name = ".new"; // no name a leg may have
    CHECK_FALSE(volume::name_is_valid(leg.name));
}

TEST_CASE("a map has its paths in groups") {
    auto map = sample_map();
    const std::vector<Path> paths{{"253:4", 2}, {"253:3", 1}, {"253:5", 1}};
    CHECK(layers::to_string(multipath_line(map, paths)) ==
          "0 8192 multipath 3 queue_if_no_path queue_mode bio 0 2 1 service-time 0 2 1 253:3 1 "
          "253:5 1 service-time 0 1 1 253:4 1");
    map.queue_if_no_path = false;
    CHECK(multipath_line(map, {{"253:3", 1}}).parameters ==
          "2 queue_mode bio 0 1 1 service-time 0 1 1 253:3 1");
    // As the kernel prints it, in another order and with what it adds.
    layers::TableLine live{0, 8192, "multipath",
                           "3 queue_if_no_path queue_mode bio 0 2 1 service-time 0 2 2 253:5 1 1 "
                           "253:3 1 1 service-time 0 1 2 253:4 1 1 "};
    CHECK(has_paths(live, map, paths));
    CHECK_FALSE(has_paths(live, map, {{"253:4", 1}, {"253:3", 1}, {"253:5", 1}}));
    CHECK_FALSE(has_paths(live, map, {{"253:3", 1}, {"253:5", 1}}));
    live.count = 8184;
    CHECK_FALSE(has_paths(live, map, paths));
}

TEST_CASE("a device is kept by its most lasting name") {
    const std::vector<std::string> names = {"/dev/sdb",
                                            "/dev/disk/by-uuid/1234",
                                            "/dev/disk/by-id/scsi-3600",
                                            "/dev/disk/by-path/pci-1",
                                            "/dev/disk/by-id/wwn-0x6001",
                                            "/dev/disk/by-id/lvm-pv-uuid-x",
                                            "/dev/disk/by-label/x"};
    CHECK(lasting_name(names, false) == "/dev/disk/by-id/wwn-0x6001");
    CHECK(lasting_name(names, true) == "/dev/disk/by-path/pci-1");
    CHECK(lasting_name({"/dev/dm-3", "/dev/disk/by-uuid/1", "/dev/mapper/x"}, false) ==
          "/dev/mapper/x");
    CHECK(lasting_name({"/dev/sdb", "/dev/disk/by-id/lvm-pv-uuid-x"}, false) == "/dev/sdb");
}

TEST_CASE("a disk says who it is, in plain text") {
    const Folder sys;
    add_disk(sys, "sdb", "8:16", "8192", " naa.5000\xff\x01 x  ");
    add_disk(sys, "sdc", "8:32", "8192", "");
    const auto b = block_facts(makedev(8, 16), sys.path());
    REQUIRE(b);
    CHECK(b->wwid == "naa.5000__ x");
    CHECK(b->lbas == 8192);
    CHECK(b->kernel_name == "sdb");
    write_text(sys / "devices/sdb/sdb1/dev", "8:17\n");
    write_text(sys / "devices/sdb/sdb1/size", "100\n");
    write_text(sys / "devices/sdb/sdb1/partition", "1\n");
    fs::create_symlink(sys / "devices/sdb/sdb1", sys / "dev/block/8:17");
    CHECK(block_facts(makedev(8, 17), sys.path())->wwid == "naa.5000__ x-part1");
    CHECK(block_facts(makedev(8, 32), sys.path())->wwid.empty());
    CHECK_FALSE(block_facts(makedev(8, 48), sys.path()));
}

TEST_CASE("a leg finds its disk again under another name, and takes no other") {
    const Folder sys;
    auto leg = sample();
    leg.device = "/dev/none";
    leg.multipath.clear();
    CHECK_FALSE(locate(leg, {}, sys.path()).device);
    add_disk(sys, "sdb", "8:16", "8192", "naa.6000");
    add_disk(sys, "sdc", "8:32", "4096", "naa.5000");
    CHECK_FALSE(locate(leg, {}, sys.path()).device); // another one, and one that has shrunk
    add_disk(sys, "sdd", "8:48", "9000", "naa.5000");
    REQUIRE(locate(leg, {}, sys.path()).device);
    CHECK(locate(leg, {}, sys.path()).device->kernel_name == "sdd");
    CHECK_FALSE(locate(leg, {makedev(8, 48)}, sys.path()).device);
    add_disk(sys, "sde", "8:64", "8192", "naa.5000");
    CHECK_FALSE(locate(leg, {}, sys.path()).device);
    CHECK(locate(leg, {}, sys.path()).obstacle.find("2 paths") != std::string::npos);
    leg.multipath = "mp";
    CHECK(locate(leg, {makedev(8, 48)}, sys.path()).device->kernel_name == "sde");
}

TEST_CASE("multipath-tools' names") {
    const auto name = [](const std::string& kernel, const std::string& wwid) {
        return multipath_wwid(BlockFacts{0, kernel, 0, wwid, "", ""});
    };
    CHECK(name("sda", "naa.6001405") == "36001405");
    CHECK(name("sda", "eui.0025") == "20025");
    CHECK(name("sda", "t10.ATA     QEMU  1") == "1ATA_QEMU_1");
    CHECK(name("nvme0n1", "eui.0025") == "eui.0025");
    CHECK(name("vda", "serial.x").empty());
}

TEST_CASE("a path that cannot be read fails, and one that goes is forgotten") {
    std::mutex mutex;
    std::condition_variable wake;
    int rounds = 0;
    PathChecker checker(
        [&] {
            const std::lock_guard lock(mutex);
            rounds++;
            wake.notify_all();
        },
        std::chrono::milliseconds(20), std::chrono::milliseconds(1000));
    const Folder folder;
    const std::string file = folder / "disk"; // no device: its number is not the one told
    std::ofstream(file) << std::string(8192, 'x');
    checker.watch({{"gone", "/dev/none", makedev(8, 16)}, {"other", file, makedev(8, 16)}});
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    const auto all_fail = [&] {
        const auto v = checker.verdicts();
        return v.size() == 2 && v.at("gone") == Verdict::fails && v.at("other") == Verdict::fails;
    };
    std::unique_lock lock(mutex);
    CHECK(wake.wait_until(lock, until, all_fail));
    lock.unlock();
    checker.watch({});
    CHECK(checker.verdicts().empty());
    lock.lock();
    const int before = rounds;
    CHECK(wake.wait_until(lock, until, [&] { return rounds > before + 1; }));
}
