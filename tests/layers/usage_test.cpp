// SPDX-License-Identifier: Apache-2.0
// Who uses which LBAs of a leg, and where a volume's data may be copied to.
#include <catch2/catch.hpp>

#include "kcm/layers/usage.h"

using namespace dek;
using namespace dek::kcm::layers;

namespace {

LunMap map_of(std::vector<dek_range> ranges) {
    return LunMap::from(std::move(ranges)).value();
}

// Legs a and b are 253:0 and 253:1. The volume has LBAs 3000-6999 of the first.
const std::string a = "253:0", b = "253:1";

struct Tables {
    std::vector<Mapped> all = {{a, {{0, 100000, "dek", "uuid 8:0 0 4096"}}},
                               {b, {{0, 100000, "dek", "uuid 8:16 0 4096"}}}};
    MapByDevice volumes = {{a, map_of({{3000, 4000}})}, {b, {}}};

    Tables& add(int minor, const std::string& table) {
        all.push_back({"253:" + std::to_string(minor), parse_table(table).value()});
        return *this;
    }
    std::map<std::string, LegUse> find() const { return find_use(all, volumes).value(); }
    std::string copies(const std::string& leg) const { return find().at(leg).copies.to_string(); }
};

} // namespace

TEST_CASE("What lines use") {
    Tables t;
    t.add(4, "0 6000 linear 253:0 2048\n6000 1000 linear 253:1 4096")
        .add(5, "0 2048 striped 2 128 253:0 20000 253:1 30000");
    const auto uses = t.find();
    const auto& on_a = uses.at(a).used;
    REQUIRE(on_a.size() == 2);
    CHECK(on_a[0].lbas == dek_range{2048, 6000});
    CHECK(on_a[0].at == 0);
    CHECK(on_a[1].lbas == dek_range{20000, 1024});
    const auto& on_b = uses.at(b).used;
    REQUIRE(on_b.size() == 2);
    CHECK(on_b[0].lbas == dek_range{4096, 1000});
    CHECK(on_b[0].at == 6000);
    CHECK(on_b[0].user != on_a[0].user);
    CHECK(t.copies(a).empty());
    CHECK(t.copies(b).empty());
}

TEST_CASE("pvmove copies what a volume has") {
    // Segments of two logical volumes: the volume's, with a header before it, and another one.
    Tables t;
    t.add(6, "0 6000 mirror core 2 1024 nosync 2 253:0 2048 253:1 40000\n"
             "6000 1000 mirror core 2 1024 nosync 2 253:0 60000 253:1 46000")
        .add(4, "0 6000 linear 253:6 0")
        .add(5, "0 1000 linear 253:6 6000");
    CHECK(t.copies(a).empty());
    CHECK(t.copies(b) == "40952-44951"); // not its header
    CHECK(t.find().at(b).unknown.empty());
    CHECK(t.find().at(b).used.size() == 2);
    t.volumes[b] = map_of({{40952, 4000}}); // it has taken that up
    CHECK(t.copies(b).empty());
}

TEST_CASE("raid1 over logical volumes copies, its metadata holds nothing") {
    Tables t;
    t.add(4, "0 128 linear 253:0 90000").add(5, "0 6000 linear 253:0 2048");
    t.add(6, "0 128 linear 253:1 90000").add(7, "0 6000 linear 253:1 50000");
    t.add(8, "0 6000 raid raid1 3 0 region_size 1024 2 253:4 253:5 253:6 253:7");
    CHECK(t.copies(b) == "50952-54951");
    CHECK(t.copies(a).empty());
    // The other way round: the leg that is listed first is copied to.
    t.volumes = {{a, {}}, {b, map_of({{50000, 100}})}};
    CHECK(t.copies(a) == "2048-2147");
}

TEST_CASE("A mirror over stripes, in whole rows") {
    Tables t;
    t.add(4, "0 12000 linear 253:0 0").add(5, "0 12288 striped 2 128 253:1 0 253:1 10000");
    t.add(6, "0 12000 mirror core 1 1024 2 253:4 0 253:5 0");
    CHECK(t.copies(b) == "1408-3583,11408-13583");
    t.volumes = {{a, {}}, {b, map_of({{1280, 128}})}};
    CHECK(t.copies(a) == "2560-2815");
}

TEST_CASE("A snapshot's store may hold anything of the volume's") {
    Tables t;
    t.add(4, "0 6000 linear 253:0 2048").add(5, "0 500 linear 253:1 10000");
    t.add(6, "0 6000 snapshot-origin 253:4").add(7, "0 6000 snapshot 253:4 253:5 P 8");
    CHECK(t.copies(b) == "10000-10499");
    CHECK(t.find().at(b).unknown.to_string() == "10000-10499");
    CHECK(t.copies(a).empty()); // what is beside the volume on its own device stays
    // And what copies from there in turn.
    t.add(8, "0 400 linear 253:0 70000").add(9, "0 400 mirror core 1 8 2 253:5 0 253:8 0");
    CHECK(t.copies(a) == "70000-70399");
}

TEST_CASE("Snapshots, pools and mirrors of others are nobody's business") {
    Tables t;
    t.add(4, "0 900 linear 253:0 20000").add(5, "0 500 linear 253:1 10000");
    t.add(6, "0 900 snapshot-origin 253:4").add(7, "0 900 snapshot 253:4 253:5 P 8");
    t.add(8, "0 500 linear 253:1 20000").add(9, "0 900 thin-pool 253:5 253:8 128 0 0");
    t.add(10, "0 900 mirror core 2 1024 nosync 2 253:0 30000 253:1 30000");
    CHECK(t.copies(a).empty());
    CHECK(t.copies(b).empty());
    CHECK(t.find().at(b).used.size() == 3);
}

TEST_CASE("Volumes above copy nothing") {
    Tables t;
    t.add(4, "0 6000 linear 253:0 2048").add(5, "0 900 linear 253:1 0");
    t.add(6, "0 900 dek uuid 253:4 0 4096");
    t.add(7, "0 900 crypt aes-xts-plain64 :64:logon:x 0 253:4 0");
    CHECK(t.copies(b).empty());
    CHECK(t.copies(a).empty());
}

TEST_CASE("Tables that the kernel would not have taken") {
    Tables t;
    t.add(4, "0 6000 striped 2 0 253:0 0 253:1 0")
        .add(5, "0 6000 linear 253:0 18446744073709551615")
        .add(6, "0 18446744073709551615 linear 253:0 5")
        .add(7, "0 100 linear 253:9 0")
        .add(9, "0 100 linear 253:7 0")
        .add(10, "0 100 mirror core 1 8 2 253:10 0 253:9 0")
        .add(11, "0 10 linear nonsense");
    CHECK(find_use(t.all, t.volumes));
    t.all.push_back({"253:12", {}});
    CHECK(find_use(t.all, t.volumes));
}
