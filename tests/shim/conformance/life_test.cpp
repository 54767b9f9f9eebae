// SPDX-License-Identifier: Apache-2.0
// What only some shims can: volumes by call, and a new life under open files.
#include <catch2/catch.hpp>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "caller.h"

using namespace conformance;
using namespace std::chrono_literals;

namespace {

dek_ioc_version version() {
    Caller caller;
    dek_ioc_version v{};
    REQUIRE(caller.call(DEK_IOC_VERSION, v) == 0);
    return v;
}

// A good VOLUME_CREATE beside the backing of `v`, to be spoilt.
struct Request {
    dek_ioc_volume c{};
    std::string device;
    explicit Request(const Volume& v) : device(v.place().backing + ".second") {
        const int fd = ::open(device.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
        REQUIRE(fd >= 0);
        REQUIRE(::ftruncate(fd, 4096 * 512) == 0);
        ::close(fd);
        c.uuid[0] = 0xd0;
        c.count = 4096;
        c.data_unit = 4096;
        c.logical_block = 4096;
        name("another");
        path(device);
    }
    ~Request() { ::unlink(device.c_str()); }
    void name(const std::string& n) {
        std::memset(c.name, 0, sizeof(c.name));
        n.copy(c.name, sizeof(c.name));
    }
    void path(const std::string& p) {
        std::memset(c.device, 0, sizeof(c.device));
        p.copy(c.device, sizeof(c.device));
    }
};

} // namespace

TEST_CASE("a volume that cannot be is refused by the rule it breaks") {
    if (!(version().caps & DEK_CAP_VOLUMES))
        return;
    Volume v;
    const Request good(v);
    const auto refusal = [&](auto&& spoil) {
        Request r(v);
        spoil(r);
        return v.caller().call(DEK_IOC_VOLUME_CREATE, r.c);
    };
    for (const char* name : {"", ".", ".hidden", "a/b", "a b", "caf\xc3\xa9", "a\n"})
        CHECK(refusal([&](Request& r) { r.name(name); }) == EINVAL);
    CHECK(refusal([](Request& r) { r.name(std::string(DEK_NAME_SIZE, 'x')); }) == EINVAL);
    CHECK(refusal([](Request& r) { r.path(std::string(DEK_PATH_SIZE, '/')); }) == EINVAL);
    CHECK(refusal([](Request& r) { r.path("relative"); }) == EINVAL);
    CHECK(refusal([](Request& r) { std::memset(r.c.uuid, 0, DEK_UUID_SIZE); }) == EINVAL);
    CHECK(refusal([](Request& r) { r.c.reserved = 1; }) == EINVAL);
    CHECK(refusal([](Request& r) { r.c.flags = 0x80; }) == EINVAL);
    CHECK(refusal([](Request& r) { r.c.fence = 3; }) == EINVAL);
    CHECK(refusal([](Request& r) { r.c.count = 0; }) == EINVAL);
    CHECK(refusal([](Request& r) { r.c.count = 4; }) == EINVAL);
    CHECK(refusal([](Request& r) { r.c.offset = 4; }) == EINVAL);
    CHECK(refusal([](Request& r) { r.c.offset = ~0ull - 7; }) == EINVAL);
    CHECK(refusal([](Request& r) { r.c.data_unit = 256; }) == EINVAL);
    CHECK(refusal([](Request& r) { r.c.data_unit = 8192; }) == EINVAL);
    CHECK(refusal([](Request& r) { r.c.data_unit = 1536; }) == EINVAL);
    CHECK(refusal([](Request& r) { r.c.logical_block = 2048; }) == EINVAL); // below the data unit
    CHECK(refusal([](Request& r) { r.c.logical_block = 65536; }) == EINVAL);
    CHECK(refusal([](Request& r) { r.c.offset = 8; }) == ENXIO);
    CHECK(refusal([](Request& r) { r.c.count = 4104; }) == ENXIO);
    CHECK(refusal([](Request& r) { r.path("/nowhere/at/all"); }) == ENOENT);
    CHECK(refusal([](Request& r) { r.path("/dev/null"); }) == ENOTBLK);
    CHECK(refusal([&](Request& r) { r.name(v.place().name); }) == EEXIST);
    CHECK(refusal([&](Request& r) {
              std::copy(v.place().uuid.begin(), v.place().uuid.end(), r.c.uuid);
          }) == EEXIST);
    CHECK(refusal([&](Request& r) { r.path(v.place().backing); }) == EBUSY);
    const std::string link = v.place().backing + ".link"; // the same file by another name
    REQUIRE(::link(v.place().backing.c_str(), link.c_str()) == 0);
    CHECK(refusal([&](Request& r) { r.path(link); }) == EBUSY);
    ::unlink(link.c_str());
    dek_ioc_volume_ref ref{};
    ref.uuid[0] = 0xd0;
    CHECK(v.caller().call(DEK_IOC_VOLUME_REMOVE, ref) == ENOENT);
    // And the good one is good.
    Request r(v);
    REQUIRE(v.caller().call(DEK_IOC_VOLUME_CREATE, r.c) == 0);
    ref.count = 1;
    CHECK(v.caller().call(DEK_IOC_VOLUME_REMOVE, ref) == EINVAL);
    ref.count = 0;
    CHECK(v.caller().call(DEK_IOC_VOLUME_REMOVE, ref) == 0);
    CHECK(v.caller().call(DEK_IOC_VOLUME_REMOVE, ref) == ENOENT);
}

TEST_CASE("a volume is removed only when nobody has it open") {
    if (!(version().caps & DEK_CAP_VOLUMES))
        return;
    Volume v;
    auto ref = v.argument<dek_ioc_volume_ref>();
    CHECK(v.caller().call(DEK_IOC_VOLUME_REMOVE, ref) == EBUSY);
    REQUIRE(v.map(1, {}) == 0);
    CHECK(v.write(0, pattern(4096, 1)) == 0); // it works still
}

TEST_CASE("a volume grows and shrinks, but nothing mapped is cut off") {
    if (!(version().caps & DEK_CAP_VOLUMES))
        return;
    Volume v;
    auto ref = v.argument<dek_ioc_volume_ref>();
    const auto resize = [&](std::uint64_t count) {
        ref.count = count;
        return v.caller().call(DEK_IOC_VOLUME_RESIZE, ref);
    };
    const auto size = [&] {
        struct stat s {};
        REQUIRE(::fstat(v.node(), &s) == 0);
        return static_cast<std::uint64_t>(s.st_size) / 512;
    };
    REQUIRE(v.map(1, {{1024, 64}}) == 0);
    CHECK(size() == 4096);
    CHECK(resize(4104) == ENXIO);
    CHECK(resize(0) == EINVAL);
    CHECK(resize(2047) == EINVAL);
    CHECK(resize(1080) == EBUSY);
    REQUIRE(resize(2048) == 0);
    CHECK(size() == 2048);
    CHECK(v.write(2048, pattern(4096, 1)) != 0);
    REQUIRE(resize(4096) == 0);
    CHECK(size() == 4096);
    CHECK(v.write(2048, pattern(4096, 1)) == EIO); // not before a map has judged it
    REQUIRE(v.map(2, {{1024, 64}}) == 0);
    CHECK(v.write(2048, pattern(4096, 1)) == 0);
}

TEST_CASE("the size and permissions of a volume are not its user's to set") {
    Volume v;
    struct stat s {};
    REQUIRE(::fstat(v.node(), &s) == 0);
    if (!S_ISREG(s.st_mode))
        return;
    CHECK((s.st_mode & 0777) == 0600);
    CHECK(s.st_uid == 0);
    CHECK(::ftruncate(v.node(), 4096) < 0);
    CHECK(::fchmod(v.node(), 0666) < 0);
    CHECK(::fchown(v.node(), 1, 1) < 0);
    CHECK(::open(v.place().node.c_str(), O_RDWR | O_TRUNC) < 0);
    REQUIRE(::fstat(v.node(), &s) == 0);
    CHECK(s.st_size == 4096 * 512);
}

TEST_CASE("in a new life I/O waits for the keys, and everything begins anew") {
    if (!(version().caps & DEK_CAP_TAKEOVER))
        return;
    const std::uint64_t life = version().life;
    Volume v, never_mapped, off;
    Association a;
    a.key = test_key(64, 1);
    a.ranges = {{0, 1024}};
    REQUIRE(v.map(1, {{0, 1024}}) == 0);
    REQUIRE(v.associate(a) == DEK_OK);
    std::uint64_t token = 0;
    REQUIRE(v.quiesce(2048, 64, token) == 0);
    const std::uint64_t id = v.endpoint_id();
    const Bytes data = pattern(4096, 1);
    REQUIRE(v.write(0, data) == 0);
    REQUIRE(off.engine(0) == 0);
    if (!stage().new_life())
        return;
    CHECK(version().life != life);
    Bytes got(4096);
    CHECK(never_mapped.read(0, got) == 0); // it had no keys to wait for
    int result = -1;
    std::thread reader([&] { result = v.read(0, got); });
    dek_ioc_version dead{};
    CHECK(v.caller().call(DEK_IOC_VERSION, dead) != 0); // the control file ended with the life
    v.reopen();
    CHECK((v.listed().flags & DEK_ENDPOINT_RECOVERING) != 0);
    off.reopen();
    CHECK(off.listed().engine == 0);
    while (v.stats().waited == 0)
        std::this_thread::sleep_for(1ms);
    CHECK(result == -1);
    REQUIRE(v.map(1, {{0, 1024}}) == 0);
    CHECK(v.tokens().empty());
    CHECK(v.associations().empty());
    CHECK(v.endpoint_id() != id);
    a.handle = 0;
    REQUIRE(v.associate(a) == DEK_OK);
    reader.join();
    CHECK(result == 0);
    CHECK(got == data);
    CHECK((v.listed().flags & DEK_ENDPOINT_RECOVERING) == 0);
    CHECK(v.stats().restarts == 1);
    REQUIRE(v.disassociate(a.handle) == DEK_OK);
    CHECK(v.read(0, got) == EIO); // all keys had come, so what is fenced now does not wait
}

TEST_CASE("keys that do not come end the wait, and nothing passes then") {
    if (!(version().caps & DEK_CAP_TAKEOVER))
        return;
    Volume v;
    REQUIRE(v.map(1, {{0, 1024}}) == 0);
    v.put_on_device(2048, pattern(4096, 1));
    if (!stage().new_life())
        return;
    v.reopen();
    Bytes got(4096);
    CHECK(v.write(0, pattern(4096, 2)) == EIO); // no map: fenced once the wait is over
    CHECK(v.read(2048, got) == EIO);            // and never raw, for it may be ciphertext
    CHECK(v.stats().fence_hits >= 2);
    REQUIRE(v.map(1, {{0, 1024}}) == 0);
    REQUIRE(v.read(2048, got) == 0);
    CHECK(got == pattern(4096, 1));
    CHECK(v.write(0, pattern(4096, 2)) == EIO);
    CHECK(v.write(2048, pattern(4096, 2)) == 0);
}
