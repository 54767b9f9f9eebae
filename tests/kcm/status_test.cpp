// SPDX-License-Identifier: Apache-2.0
// What people are told where something is not as usual: no header to be read, one copy of it, no
// such endpoint.
#include <fstream>

#include <catch2/catch.hpp>

#include "bench.h"
#include "kcm/status.h"

using namespace dek;
using namespace dek::kcm;
using kcmtest::Bench;
namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t mib = 2048;

VolumePtr protected_volume(Bench& b) {
    auto r = b.request(b.image("disk", 16 * mib), "data");
    r.encrypt = {{"0-8191", ""}};
    auto v = b.controller->protect(r);
    REQUIRE(v);
    return *v;
}

Shim& fuse(Bench& b) {
    return *b.controller->shims().all().back().shim;
}

bool says(const std::string& text, const char* words) {
    return text.find(words) != std::string::npos;
}

} // namespace

TEST_CASE("a volume whose header cannot be read is not called plain") {
    Bench b;
    const auto v = protected_volume(b);
    fs::rename(v->device, v->device + ".away");
    b.restart();
    auto before = volume_json(*b.registry->find("data"), fuse(b), b.folder / "dev");
    CHECK(before["encrypted_blocks"] == 8192);
    b.controller->resync();
    const auto now = b.registry->find("data");
    CHECK(says(now->reason, "tries again by itself"));
    auto j = volume_json(*now, fuse(b), b.folder / "dev");
    CHECK(j["encrypted_blocks"] == 8192);
    CHECK(j["plain_blocks"] == 15 * mib - 8192);
    SECTION("and where no shim serves it either, nothing is said of it") {
        b.shim->die();
        auto down = volume_json(*now, fuse(b), b.folder / "dev");
        CHECK(down["encrypted_blocks"].is_null());
        CHECK(down["plain_blocks"].is_null());
    }
    SECTION("it is looked after again when the device is back") {
        fs::rename(v->device + ".away", v->device);
        CHECK_FALSE(b.controller->resync());
        CHECK(b.registry->find("data")->state == VolumeState::up);
        CHECK(b.registry->find("data")->reason.empty());
    }
}

TEST_CASE("a torn copy of the header is told of") {
    Bench b;
    const auto v = protected_volume(b);
    REQUIRE(b.controller->detach("data", std::chrono::milliseconds(100)));
    const bool a = GENERATE(true, false);
    std::fstream file(v->device, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(a ? 600 : 65536 + 600);
    file << "something else";
    file.close();
    auto up = b.controller->attach({v->device, {}, false, ShimChoice::automatic, ""});
    REQUIRE(up);
    CHECK((*up)->state == VolumeState::up);
    CHECK(says((*up)->reason, a ? "copy A of its header is torn" : "copy B of its header is torn"));
}

TEST_CASE("an endpoint is not there, or no shim is") {
    Bench b; // the kernel shim does not answer
    const auto v = protected_volume(b);
    CHECK(b.controller->shims().with_endpoint(v->header.uuid));
    const auto none = b.controller->shims().with_endpoint(volume::random_uuid());
    CHECK(none.error().code == Errc::not_found);
    CHECK_FALSE(says(none.error().reason, "systemctl"));
    b.shim->die();
    b.shim->up = false;
    const auto dead = b.controller->shims().with_endpoint(v->header.uuid);
    CHECK(dead.error().code == Errc::unavailable);
    CHECK(says(dead.error().reason, "systemctl start dek-shimd"));
}
