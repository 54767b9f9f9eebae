// SPDX-License-Identifier: Apache-2.0
// The walk down from a block device, over a sysfs and a device-mapper of the test's own.
#include <cstring>
#include <fstream>

#include <catch2/catch.hpp>
#include <sys/sysmacros.h>

#include "bench.h"
#include "kcm/live_stack.h"

using namespace dek;
using namespace dek::kcm;
using layers::Kind;
using layers::PathState;
namespace fs = std::filesystem;

namespace {

const char* const leg_uuid = "dec0dec0-0000-0000-0000-000000000001";

// Knows endpoints, and nothing else.
struct ListShim : ShimTransport {
    int connect() override { return up ? 0 : ENOENT; }
    int call(unsigned long request, void* argument) override {
        asked++;
        if (request != DEK_IOC_LIST)
            return ENOTTY;
        auto& page = *static_cast<dek_ioc_list*>(argument);
        page.count = page.more = 0;
        for (const auto& e : entries)
            page.entry[page.count++] = e;
        return 0;
    }
    bool up = true;
    unsigned asked = 0;
    std::vector<dek_list_entry> entries;
};

dek_list_entry endpoint(std::uint32_t engines, std::uint32_t flags = 0) {
    dek_list_entry e{};
    const auto uuid = volume::uuid_of(leg_uuid).value();
    std::memcpy(e.uuid, uuid.data(), uuid.size());
    e.engines = engines;
    e.engine = engines & -engines;
    e.flags = flags;
    return e;
}

struct Host {
    Host() {
        auto t = std::make_unique<ListShim>();
        transport = t.get();
        shim = std::make_unique<Shim>(std::move(t), std::chrono::milliseconds(1));
        kernel.sys = folder.path();
        kernel.table = [this](const std::string& name) { return lines_of(tables, name); };
        kernel.status = [this](const std::string& name) { return lines_of(statuses, name); };
        kernel.beneath = [this](const std::string& name) -> Result<std::vector<dev_t>> {
            return depends.count(name) ? Result<std::vector<dev_t>>(depends[name])
                                       : fail_errno(ENXIO, name);
        };
    }

    Result<DmTable> lines_of(std::map<std::string, std::string>& from, const std::string& name) {
        if (on_question)
            on_question(name);
        if (!from.count(name))
            return fail_errno(ENXIO, name);
        return from[name].empty() ? Result<DmTable>(DmTable()) : layers::parse_table(from[name]);
    }

    void file(const std::string& path, const std::string& text) const {
        fs::create_directories(fs::path(folder / path).parent_path());
        std::ofstream(folder / path) << text << '\n';
    }
    // A device at devices/PATH of the tree.
    void device(const std::string& number, const std::string& path, std::uint64_t size,
                bool read_only = false) const {
        file("devices/" + path + "/size", std::to_string(size));
        file("devices/" + path + "/ro", read_only ? "1" : "0");
        file("devices/" + path + "/dev", number);
        fs::create_directories(folder / "dev/block");
        fs::create_symlink("../../devices/" + path, folder / "dev/block/" + number);
    }
    void partition(const std::string& number, const std::string& path, std::uint64_t first,
                   std::uint64_t size) const {
        device(number, path, size);
        file("devices/" + path + "/partition", "1");
        file("devices/" + path + "/start", std::to_string(first));
    }
    // dm-MINOR, major 253.
    void mapped(unsigned minor, const std::string& name, std::uint64_t size,
                const std::string& table, std::vector<dev_t> beneath,
                const std::string& uuid = "") {
        const std::string node = "dm-" + std::to_string(minor);
        device("253:" + std::to_string(minor), node, size);
        file("devices/" + node + "/dm/name", name);
        file("devices/" + node + "/dm/uuid", uuid);
        tables[name] = table;
        depends[name] = std::move(beneath);
    }

    Result<layers::Stack> find(unsigned maj, unsigned min) {
        return discover(makedev(maj, min), *shim, kernel);
    }

    kcmtest::Folder folder;
    ListShim* transport = nullptr;
    std::unique_ptr<Shim> shim;
    LiveKernel kernel;
    std::map<std::string, std::string> tables, statuses;
    std::map<std::string, std::vector<dev_t>> depends;
    std::function<void(const std::string&)> on_question;
};

const layers::Device& named(const layers::Stack& stack, const std::string& name) {
    for (const auto& d : stack.devices)
        if (d.name == name)
            return d;
    FAIL("no device " << name);
    return stack[0];
}

} // namespace

TEST_CASE("partitions, disks and what is not looked into", "[live]") {
    Host h;
    h.device("8:0", "pci/sda", 8192);
    h.partition("8:1", "pci/sda/sda1", 2048, 4096);
    h.device("104:0", "cciss!c0d0", 100, true);
    const auto p = h.find(8, 1);
    REQUIRE(p);
    const auto& top = (*p)[p->top];
    CHECK((top.name == "/dev/sda1" && top.kind == Kind::linear && top.size == 4096));
    CHECK(top.legs[0].offset == 2048);
    CHECK((*p)[top.legs[0].device].name == "/dev/sda");
    const auto c = h.find(104, 0);
    REQUIRE(c);
    CHECK(((*c)[0].name == "/dev/cciss/c0d0" && (*c)[0].read_only));
    CHECK(h.transport->asked == 0);
    CHECK(h.find(8, 99).error().code == Errc::unavailable);
}

TEST_CASE("device-mapper's devices, with names as they are written", "[live]") {
    Host h;
    h.device("8:0", "sda", 8192);
    h.device("8:16", "sdb", 8192);
    h.mapped(0, "mpa", 8192,
             "0 8192 multipath 2 queue_mode bio 0 1 1 round-robin 0 2 1 8:0 1 8:16 1",
             {makedev(8, 0), makedev(8, 16)}, "mpath-1");
    h.statuses["mpa"] = "0 8192 multipath 2 0 0 0 1 1 A 0 2 0 8:0 A 0 8:16 F 3";
    h.mapped(1, "vg-lv", 4096, "0 4096 linear 253:0 1024", {makedev(253, 0)}, "LVM-x");
    const auto s = h.find(253, 1);
    REQUIRE(s);
    CHECK((*s)[s->top].name == "/dev/mapper/vg-lv");
    const auto& mpa = named(*s, "/dev/mapper/mpa");
    CHECK(mpa.kind == Kind::multipath);
    CHECK((mpa.legs[0].state == PathState::active && mpa.legs[1].state == PathState::failed));
    CHECK(s->devices.size() == 4);

    SECTION("no status: the states of the paths are not known") {
        h.statuses["mpa"].clear();
        CHECK(h.find(253, 1).error().code == Errc::unavailable);
    }
    SECTION("no live table") {
        h.tables["vg-lv"].clear();
        CHECK(h.find(253, 1).error().code == Errc::unavailable);
    }
    SECTION("a volume on a volume is not looked into") {
        h.mapped(2, "dek-a", 4096, std::string("0 4096 dek ") + leg_uuid + " 253:1 0 4096",
                 {makedev(253, 1)}, std::string("DEK-") + leg_uuid);
        const auto v = h.find(253, 2);
        REQUIRE(v);
        CHECK((v->devices.size() == 1 && (*v)[0].kind == Kind::opaque));
        CHECK((*v)[0].obstacle == "is a volume of its own");
        CHECK(h.transport->asked == 0);
    }
    SECTION("nor is dm-crypt") {
        h.mapped(2, "luks", 4096, "0 4096 crypt aes-xts-plain64 - 0 253:1 0", {makedev(253, 1)});
        const auto v = h.find(253, 2);
        REQUIRE(v);
        CHECK((v->devices.size() == 1 && (*v)[0].obstacle == "is encrypted by dm-crypt already"));
    }
}

TEST_CASE("a leg can what the shim says of it", "[live]") {
    Host h;
    h.device("8:0", "sda", 8192);
    h.mapped(0, "dekleg-sda", 8192, std::string("0 8192 dek ") + leg_uuid + " 8:0 0 4096",
             {makedev(8, 0)}, std::string("DEKLEG-") + leg_uuid);
    SECTION("not known: a fence") {
        const auto s = h.find(253, 0);
        REQUIRE(s);
        CHECK((*s)[s->top].kind == Kind::fence);
    }
    SECTION("known, with an engine") {
        h.transport->entries = {endpoint(DEK_ENGINE_CPU)};
        const auto s = h.find(253, 0);
        REQUIRE(s);
        const auto& leg = (*s)[s->top];
        CHECK((leg.kind == Kind::endpoint && leg.uuid == leg_uuid && leg.endpoint.ready == DEK_OK));
        CHECK((leg.endpoint.engines == DEK_ENGINE_CPU && leg.endpoint.data_unit == 4096));
    }
    SECTION("no engine in use, whatever it has") {
        auto off = endpoint(DEK_ENGINE_CPU);
        off.engine = 0;
        h.transport->entries = {off};
        CHECK((*h.find(253, 0))[0].kind == Kind::fence);
    }
    SECTION("failed") {
        h.transport->entries = {endpoint(DEK_ENGINE_CPU, DEK_ENDPOINT_FAILED)};
        CHECK((*h.find(253, 0))[0].endpoint.ready == DEK_INVALID_HW_STATE);
    }
    SECTION("the shim does not answer: nothing is assumed") {
        h.transport->up = false;
        CHECK(h.find(253, 0).error().code == Errc::unavailable);
    }
}

TEST_CASE("what changes in the middle of the walk is looked at once more", "[live]") {
    Host h;
    h.device("8:0", "sda", 8192);
    h.device("8:16", "sdb", 8192);
    h.mapped(0, "lv", 4096, "0 4096 linear 8:0 0", {makedev(8, 0)});
    unsigned walks = 0;
    SECTION("a table that is exchanged between two questions") {
        h.on_question = [&](const std::string&) {
            if (++walks == 1)
                h.depends["lv"] = {makedev(8, 16)};
            else
                h.tables["lv"] = "0 4096 linear 8:16 0";
        };
        const auto s = h.find(253, 0);
        REQUIRE(s);
        CHECK((walks == 2 && (*s)[0].name == "/dev/sdb"));
    }
    SECTION("a device that is removed while it is looked at") {
        h.on_question = [&](const std::string& name) { h.tables.erase(name), walks++; };
        CHECK(h.find(253, 0).error().code == Errc::unavailable);
        CHECK(walks == 2);
    }
    SECTION("tables that contradict each other for good") {
        h.depends["lv"] = {makedev(8, 16)};
        CHECK(h.find(253, 0).error().code == Errc::corrupt);
    }
    SECTION("one that is on its way: its folder has no more than a size") {
        h.device("253:7", "dm-7", 0);
        CHECK(h.find(253, 7).error().code == Errc::unavailable);
    }
    SECTION("a ring of tables") {
        h.tables["lv"] = "0 4096 linear 253:0 0";
        h.depends["lv"] = {makedev(253, 0)};
        CHECK(h.find(253, 0).error().code == Errc::corrupt);
    }
}

TEST_CASE("an unplugged device stays in the stack for as long as a table names it", "[live]") {
    Host h;
    h.device("8:0", "sda", 8192);
    h.mapped(0, "mpa", 8192,
             "0 8192 multipath 2 queue_mode bio 0 1 1 round-robin 0 2 1 8:0 1 8:16 1",
             {makedev(8, 0), makedev(8, 16)});
    h.statuses["mpa"] = "0 8192 multipath 2 0 0 0 1 1 A 0 2 0 8:0 A 0 8:16 F 3";
    const auto s = h.find(253, 0);
    REQUIRE(s);
    const auto& gone = named(*s, "8:16 (gone)");
    CHECK((gone.kind == Kind::opaque && gone.size == 8192));
    CHECK((*s)[s->top].legs[1].state == PathState::failed);
}

TEST_CASE("a regular file is one leaf, and what is neither is refused", "[live]") {
    Host h;
    const auto path = h.folder / "image";
    std::ofstream(path) << std::string(8192, 'x');
    const auto s = discover(path, *h.shim, h.kernel);
    REQUIRE(s);
    CHECK((s->devices.size() == 1 && (*s)[0].name == path && (*s)[0].size == 16));
    CHECK(discover(h.folder.path(), *h.shim, h.kernel).error().code == Errc::invalid_argument);
    CHECK(discover(h.folder / "none", *h.shim, h.kernel).error().code == Errc::not_found);
}
