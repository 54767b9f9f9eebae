// SPDX-License-Identifier: Apache-2.0
// A resize that fails half way, or was cut short: the newest header on the medium counts.
#include <catch2/catch.hpp>
#include <sys/stat.h>

#include "bench.h"
#include "flush.h"

using namespace dek;
using namespace dek::kcm;
using kcmtest::Bench;
namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t mib = 2048;

VolumePtr protected_volume(Bench& b, const std::string& ranges) {
    auto r = b.request(b.image("disk", 16 * mib), "data");
    r.encrypt = {{ranges, ""}};
    auto v = b.controller->protect(r);
    REQUIRE(v);
    return *v;
}

volume::Header on_medium(const std::string& device) {
    auto d = open_device(device, Access::read);
    auto sited = find_header(*d, {}, Access::read);
    REQUIRE(sited);
    return sited->found.copy.header;
}

std::uint64_t remembered(Bench& b, const volume::Uuid& uuid) {
    auto n = b.seat->with(
        [&](keys::Keystore& store) { return store.header_sequence(volume::uuid_text(uuid)); });
    REQUIRE(n);
    return n->value_or(0);
}

// Registry, medium and shim say the same.
void check_of_one_mind(Bench& b) {
    const auto v = b.registry->find("data");
    REQUIRE(v);
    const auto there = on_medium(v->device);
    CHECK(v->header.sequence == there.sequence);
    CHECK(v->header.size == there.size);
    CHECK(b.controller->shims().all().back().shim->list()->front().count == there.size);
    CHECK(*is_established(*b.controller->shims().all().back().shim, there));
}

// The n-th of `calls` on this file fails once.
std::function<int(int)> failing(const std::string& path, unsigned nth, bool& failed) {
    return [=, &failed, seen = 0u](int fd) mutable {
        struct stat a, b;
        const bool it = ::fstat(fd, &a) == 0 && ::stat(path.c_str(), &b) == 0 &&
                        a.st_ino == b.st_ino && a.st_dev == b.st_dev;
        if (!it || ++seen != nth)
            return 0;
        failed = true;
        return EIO;
    };
}

// As a kcmd leaves it that was killed after the header was written.
void put_header(Bench& b, const VolumePtr& v, const std::function<void(volume::Header&)>& change) {
    auto d = open_device(v->device, Access::write);
    auto header = v->header;
    header.sequence++;
    change(header);
    auto key = b.keys->material(header.keys.front());
    REQUIRE(key);
    REQUIRE(volume::write({d->fd.get(), header.header_lba * 512, false}, header, *key));
}

} // namespace

TEST_CASE("a header that is written in part: the volume goes on with the newer one") {
    Bench b;
    const auto v = protected_volume(b, "8192-");
    fs::resize_file(v->device, 32 * mib * 512);
    bool failed = false;
    const unsigned nth = GENERATE(1u, 2u);
    CAPTURE(nth);
    auto grown = [&] {
        const kcmtest::Looking looking(kcmtest::on_flush, failing(v->device, nth, failed));
        return b.controller->resize("data", std::nullopt);
    }();
    REQUIRE(failed);
    INFO((grown ? "" : grown.error().reason));
    REQUIRE(grown);
    CHECK((*grown)->reason.find("written in part") != std::string::npos);
    CHECK(on_medium(v->device).size == 31 * mib);
    check_of_one_mind(b);
    CHECK(remembered(b, v->header.uuid) == on_medium(v->device).sequence);
    SECTION("and can be resized again") {
        fs::resize_file(v->device, 48 * mib * 512);
        auto again = b.controller->resize("data", std::nullopt);
        INFO((again ? "" : again.error().reason));
        REQUIRE(again);
        CHECK((*again)->reason.empty());
        CHECK(remembered(b, v->header.uuid) == (*again)->header.sequence);
    }
    SECTION("and kcmd may restart") {
        b.restart();
        CHECK_FALSE(b.controller->resync());
        CHECK(b.registry->find("data")->state == VolumeState::up);
    }
    check_of_one_mind(b);
}

TEST_CASE("a header that is not written at all: the volume stays as it was") {
    Bench b;
    const auto v = protected_volume(b, "8192-");
    fs::resize_file(v->device, 32 * mib * 512);
    bool failed = false;
    auto grown = [&] {
        const kcmtest::Looking looking(kcmtest::on_write, failing(v->device, 1, failed));
        return b.controller->resize("data", std::nullopt);
    }();
    REQUIRE(failed);
    REQUIRE_FALSE(grown);
    CHECK(grown.error().code == Errc::io);
    CHECK(b.registry->find("data")->header.size == v->header.size);
    CHECK(remembered(b, v->header.uuid) == 1);
    check_of_one_mind(b);
    CHECK(b.controller->resize("data", std::nullopt));
    CHECK(remembered(b, v->header.uuid) == 2);
    check_of_one_mind(b);
}

TEST_CASE("a resize that was cut short is finished by the next kcmd") {
    Bench b;
    const auto v = protected_volume(b, "0-8191");
    fs::resize_file(v->device, 32 * mib * 512);
    SECTION("the header had grown, the endpoint not") {
        put_header(b, v, [](volume::Header& h) {
            h.size = 31 * mib;
            h.device_lbas = 32 * mib;
            h.ranges.push_back({{20 * mib, 11 * mib}, 0});
        });
    }
    SECTION("the header had shrunk, the endpoint not") {
        put_header(b, v, [](volume::Header& h) { h.size = 8192; });
    }
    SECTION("the same, and the shim has restarted") {
        put_header(b, v, [](volume::Header& h) {
            h.size = 4096;
            h.ranges.front().lbas.count = 4096;
        });
        b.shim->restart();
    }
    SECTION("the endpoint had grown, the header not") {
        REQUIRE(b.controller->shims().all().back().shim->volume_resize(v->header.uuid, 31 * mib));
    }
    b.restart();
    CHECK_FALSE(b.controller->resync());
    const auto back = b.registry->find("data");
    INFO(back->reason);
    CHECK(back->state == VolumeState::up);
    check_of_one_mind(b);
}

namespace {

std::string shim_ranges(Bench& b, const volume::Uuid& uuid) {
    std::string text;
    auto ranges = b.controller->shims().all().back().shim->ranges(uuid);
    for (const auto& r : *ranges)
        text += std::to_string(r.first) + "+" + std::to_string(r.count) + " is " +
                std::to_string(r.state) + "; ";
    return text;
}

} // namespace

TEST_CASE(
    "an encrypted tail that the header no longer has is never mapped away while it is there") {
    Bench b;
    const auto v = protected_volume(b, "0-8191");
    put_header(b, v, [](volume::Header& h) {
        h.size = 4096;
        h.ranges.front().lbas.count = 4096;
    });
    const auto before = shim_ranges(b, v->header.uuid);
    SECTION("found by a resize") {
        CHECK(b.controller->resize("data", std::nullopt).error().code == Errc::refused);
    }
    SECTION("found by the next kcmd") {
        b.restart();
        CHECK_FALSE(b.controller->resync());
        CHECK(b.registry->find("data")->state == VolumeState::fenced);
        CHECK(b.registry->find("data")->reason.find("attach it again") != std::string::npos);
    }
    CHECK(shim_ranges(b, v->header.uuid) == before);
    REQUIRE(b.controller->detach("data", std::chrono::milliseconds(100)));
    REQUIRE(b.controller->attach({v->device, {}, false, ShimChoice::automatic, ""}));
    check_of_one_mind(b);
}

TEST_CASE("a shrink whose header is not written leaves the plain tail in service") {
    Bench b;
    const auto v = protected_volume(b, "0-8191");
    const auto before = shim_ranges(b, v->header.uuid);
    bool failed = false;
    auto shrunk = [&] {
        const kcmtest::Looking looking(kcmtest::on_write, failing(v->device, 1, failed));
        return b.controller->resize("data", 16384);
    }();
    REQUIRE(failed);
    REQUIRE_FALSE(shrunk);
    CHECK(shim_ranges(b, v->header.uuid) == before);
    check_of_one_mind(b);
    REQUIRE(b.controller->resize("data", 16384));
    check_of_one_mind(b);
}

TEST_CASE("a resize to the size that is there already finishes what failed before") {
    Bench b;
    const auto v = protected_volume(b, "0-8191,16384-");
    fs::resize_file(v->device, 32 * mib * 512);
    b.shim->associates_left = 0;
    auto grown = b.controller->resize("data", std::nullopt);
    REQUIRE_FALSE(grown);
    CHECK(grown.error().reason.find("has its new size, but") != std::string::npos);
    CHECK_FALSE(b.registry->find("data")->reason.empty());
    b.shim->associates_left = ~0u;
    REQUIRE(b.controller->resize("data", std::nullopt));
    CHECK(b.registry->find("data")->reason.empty());
    check_of_one_mind(b);
}

TEST_CASE("a resize whose sequence number cannot be remembered says so") {
    Bench b;
    const auto v = protected_volume(b, "0-8191");
    const auto seal = [&](int) {
        (void)b.seat->with([](keys::Keystore& store) -> Result<void> {
            store.seal();
            return {};
        });
        return 0;
    };
    auto shrunk = [&] {
        const kcmtest::Looking looking(kcmtest::on_flush, seal);
        return b.controller->resize("data", 16384);
    }();
    REQUIRE_FALSE(shrunk);
    CHECK(shrunk.error().code == Errc::locked);
    CHECK(shrunk.error().reason.find("has its new size, but") != std::string::npos);
    check_of_one_mind(b);
}

TEST_CASE("a volume that is encrypted to its end stays so, with its header at the end") {
    Bench b;
    auto r = b.request(b.image("disk", 16 * mib), "data");
    r.in_place = true;
    r.header.lba = 16 * mib - 512;
    r.data_unit = 4096;
    bool to_the_end = true;
    SECTION("everything") {}
    SECTION("by ranges") {
        r.encrypt = {{"8192-" + std::to_string(*r.header.lba - 1), ""}};
    }
    SECTION("its last LBAs were plain, and what comes is") {
        r.encrypt = {{"8192-" + std::to_string(*r.header.lba - 9), ""}};
        to_the_end = false;
    }
    const auto v = b.controller->protect(r);
    REQUIRE(v);
    fs::resize_file(r.device, 32 * mib * 512);
    const auto grown = b.controller->resize("data", std::nullopt);
    REQUIRE(grown);
    const auto& ranges = (*grown)->header.ranges;
    CHECK(ranges.size() == (to_the_end ? 2u : 1u));
    CHECK(ranges.front().lbas.count == (*v)->header.ranges.front().lbas.count);
    if (to_the_end) {
        CHECK(ranges.back().lbas.first == 16 * mib);
        CHECK(ranges.back().lbas.count == 16 * mib);
        CHECK(ranges.back().key == ranges.front().key);
    }
    CHECK(*is_established(*b.controller->shims().all().back().shim, (*grown)->header));
    REQUIRE(b.controller->resize("data", 32 * mib)); // and once more
}

TEST_CASE("a volume is not cut where its header lies") {
    Bench b;
    auto r = b.request(b.image("disk", 16 * mib), "data");
    r.in_place = true;
    r.header.lba = 8 * mib;
    r.encrypt = {{"0-4095", ""}};
    const auto v = b.controller->protect(r);
    REQUIRE(v);
    const std::uint64_t end = 8 * mib + 512;
    for (const std::uint64_t size : {std::uint64_t{4096}, end - 8}) {
        const auto before = b.fingerprint();
        CHECK(b.controller->resize("data", size).error().code == Errc::refused);
        CHECK(b.fingerprint() == before);
    }
    CHECK(b.controller->resize("data", end));
}

TEST_CASE("a volume that somebody uses does not shrink unasked") {
    Bench b;
    const auto v = protected_volume(b, "0-8191");
    b.backend->in_use = true;
    const auto before = b.fingerprint();
    auto cut = b.controller->resize("data", 16384);
    REQUIRE_FALSE(cut);
    INFO(cut.error().reason);
    CHECK(cut.error().code == Errc::busy);
    CHECK(cut.error().reason.find("--force") != std::string::npos);
    CHECK(b.fingerprint() == before);
    check_of_one_mind(b);
    fs::resize_file(v->device, 32 * mib * 512);
    CHECK(b.controller->resize("data", std::nullopt)); // growing harms nobody
    REQUIRE(b.controller->resize("data", 16384, true));
    check_of_one_mind(b);
    b.backend->in_use = false;
    REQUIRE(b.controller->resize("data", 8192));
    check_of_one_mind(b);
}

TEST_CASE("the device's size is written down even where the volume keeps its own") {
    Bench b;
    const auto v = protected_volume(b, "0-8191");
    fs::resize_file(v->device, 32 * mib * 512);
    REQUIRE(b.controller->resize("data", v->header.size));
    CHECK(on_medium(v->device).device_lbas == 32 * mib);
    CHECK(on_medium(v->device).size == v->header.size);
    check_of_one_mind(b);
}
