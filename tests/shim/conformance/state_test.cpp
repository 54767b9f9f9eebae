// SPDX-License-Identifier: Apache-2.0
// Every state of a range: what reads and writes of it do, and how it comes to be.
#include <catch2/catch.hpp>

#include <cerrno>
#include <chrono>
#include <thread>

#include "caller.h"

using namespace conformance;
using namespace std::chrono_literals;

namespace {

struct Fixture {
    Volume v;
    Association a;
    Bytes data = pattern(4096, 1), other = pattern(4096, 2), got = Bytes(4096);
    Fixture() {
        a.key = test_key(64, 1);
        a.ranges = {{0, 1024}};
    }
    bool reads(std::uint64_t sector, const Bytes& wanted) {
        got.assign(wanted.size(), 0);
        return v.read(sector, got) == 0 && got == wanted;
    }
};

std::uint32_t state_at(Volume& v, std::uint64_t lba) {
    for (const auto& r : v.ranges())
        if (r.first <= lba && lba < r.first + r.count)
            return r.state;
    return DEK_RANGE_PLAIN;
}

} // namespace

TEST_CASE_METHOD(Fixture, "unmapped: reads show the device, writes are refused") {
    v.put_on_device(64, data);
    CHECK(reads(64, data));
    CHECK(v.write(64, other) == EIO);
    CHECK(v.on_device(64, 8) == data);
    CHECK(v.stats().refused == 1);
}

TEST_CASE_METHOD(Fixture, "plain: both pass as they are") {
    REQUIRE(v.map(1, {{0, 1024}}) == 0);
    REQUIRE(v.write(2048, data) == 0);
    CHECK(v.on_device(2048, 8) == data);
    CHECK(reads(2048, data));
    CHECK(v.stats().plain_bytes == 8192);
    CHECK(state_at(v, 2048) == DEK_RANGE_PLAIN);
}

TEST_CASE_METHOD(Fixture, "reserved: reads pass, writes are refused") {
    REQUIRE(v.map(1, {{0, 1024}}, {{1024, 512}}) == 0);
    v.put_on_device(1024, data);
    CHECK(reads(1024, data));
    CHECK(v.write(1024, other) == EIO);
    CHECK(v.write(1528, Bytes(8192)) == EIO); // half of it reserved: none of it is written
    CHECK(v.on_device(1024, 8) == data);
    CHECK(v.on_device(1536, 8) == Bytes(4096));
    CHECK(state_at(v, 1024) == DEK_RANGE_RESERVED);
}

TEST_CASE_METHOD(Fixture, "fenced: nothing passes") {
    REQUIRE(v.map(1, {{0, 1024}}) == 0);
    v.put_on_device(0, data);
    CHECK(v.read(0, got) == EIO);
    CHECK(v.write(0, other) == EIO);
    CHECK(v.write(1016, Bytes(8192)) == EIO); // half of it plain: none of it is written
    CHECK(v.on_device(0, 8) == data);
    CHECK(v.on_device(1024, 8) == Bytes(4096));
    CHECK(v.stats().fence_hits == 3);
    CHECK(state_at(v, 0) == DEK_RANGE_FENCED);
}

TEST_CASE_METHOD(Fixture, "keyed: ciphertext on the device, plaintext in the volume") {
    REQUIRE(v.map(1, {{0, 1024}}) == 0);
    REQUIRE(v.associate(a) == DEK_OK);
    REQUIRE(v.write(8, data) == 0);
    CHECK(v.on_device(8, 8) == expected(a, 8, data));
    CHECK(reads(8, data));
    const auto stats = v.stats();
    CHECK(stats.encrypted_bytes == 4096);
    CHECK(stats.decrypted_bytes == 4096);
    CHECK(state_at(v, 8) == DEK_RANGE_KEYED);
}

TEST_CASE_METHOD(Fixture, "after Disassociate a range is fenced, not plain") {
    REQUIRE(v.map(1, {{0, 1024}}) == 0);
    REQUIRE(v.associate(a) == DEK_OK);
    REQUIRE(v.write(0, data) == 0);
    const Bytes cipher = v.on_device(0, 8);
    REQUIRE(v.disassociate(a.handle) == DEK_OK);
    CHECK(v.read(0, got) == EIO);
    CHECK(v.write(0, other) == EIO);
    CHECK(v.on_device(0, 8) == cipher);
    CHECK(state_at(v, 0) == DEK_RANGE_FENCED);
}

TEST_CASE_METHOD(Fixture, "ranges of an association belong to the map from then on") {
    a.ranges = {{2048, 64}};
    REQUIRE(v.map(1, {{0, 1024}}) == 0);
    REQUIRE(v.associate(a) == DEK_OK);
    REQUIRE(v.disassociate(a.handle) == DEK_OK);
    CHECK(state_at(v, 2048) == DEK_RANGE_FENCED);
    CHECK(v.write(2048, data) == EIO);
}

TEST_CASE_METHOD(Fixture, "a reserved range takes no key") {
    REQUIRE(v.map(1, {}, {{1024, 512}}) == 0);
    a.ranges = {{1024, 8}};
    CHECK(v.associate(a) == DEK_INVALID_RANGE);
}

TEST_CASE_METHOD(Fixture, "yielded: ciphertext passes, until a key or a new map ends it") {
    REQUIRE(v.map(1, {{0, 1024}}) == 0);
    std::uint64_t token = 0;
    REQUIRE(v.quiesce(0, 1024, token) == 0);
    REQUIRE(v.yield(token, 0, 1024) == 0);
    REQUIRE(v.release(token) == 0);
    CHECK(state_at(v, 0) == DEK_RANGE_YIELDED);
    REQUIRE(v.write(0, data) == 0);
    CHECK(v.on_device(0, 8) == data);
    CHECK(reads(0, data));
    auto keep = v.argument<dek_ioc_map>();
    keep.generation = 2;
    keep.flags = DEK_MAP_BEGIN | DEK_MAP_ADD | DEK_MAP_COMMIT;
    keep.entry[keep.count++] = {0, 512, DEK_MAP_KEEP, 0};
    REQUIRE(v.caller().call(DEK_IOC_MAP, keep) == 0);
    CHECK(state_at(v, 0) == DEK_RANGE_YIELDED);
    CHECK(state_at(v, 512) != DEK_RANGE_YIELDED);
    CHECK(reads(0, data));
    keep.generation = 3;
    keep.entry[0] = {512, 512, DEK_MAP_KEEP, 0}; // plain until now
    REQUIRE(v.caller().call(DEK_IOC_MAP, keep) == 0);
    CHECK(state_at(v, 0) != DEK_RANGE_YIELDED);
    CHECK(state_at(v, 512) == DEK_RANGE_YIELDED);
    REQUIRE(v.write(512, data) == 0);
    CHECK(v.on_device(512, 8) == data);
    REQUIRE(v.map(4, {{0, 1024}}) == 0);
    CHECK(state_at(v, 0) == DEK_RANGE_FENCED);
    CHECK(v.read(0, got) == EIO);
    REQUIRE(v.quiesce(0, 1024, token) == 0);
    REQUIRE(v.yield(token, 0, 1024) == 0);
    REQUIRE(v.release(token) == 0);
    REQUIRE(v.associate(a) == DEK_OK);
    CHECK(state_at(v, 0) == DEK_RANGE_KEYED);
    REQUIRE(v.write(0, data) == 0);
    CHECK(v.on_device(0, 8) == expected(a, 0, data));
}

TEST_CASE_METHOD(Fixture, "a yield needs a token, an encrypted range, and no key") {
    REQUIRE(v.map(1, {{0, 1024}}, {{3072, 64}}) == 0);
    std::uint64_t token = 0;
    REQUIRE(v.quiesce(0, 512, token) == 0);
    CHECK(v.yield(token + 1, 0, 8) == ENOKEY);
    CHECK(v.yield(token, 504, 16) == ENOKEY); // it covers only half
    REQUIRE(v.release(token) == 0);
    CHECK(v.yield(token, 0, 8) == ENOKEY);
    REQUIRE(v.quiesce(0, 4096, token) == 0);
    CHECK(v.yield(token, 2048, 8) == EINVAL); // plain
    CHECK(v.yield(token, 3072, 8) == EINVAL); // reserved
    a.ranges = {{0, 64}};
    REQUIRE(v.associate(a) == DEK_OK);
    CHECK(v.yield(token, 0, 8) == EBUSY);
    REQUIRE(v.release(token) == 0);
}

TEST_CASE_METHOD(Fixture, "a fence that holds lets I/O wait for its key") {
    REQUIRE(v.map(1, {{0, 1024}}) == 0);
    auto f = v.argument<dek_ioc_fence>();
    f.fence = 9;
    CHECK(v.caller().call(DEK_IOC_FENCE, f) == EINVAL);
    f.fence = DEK_FENCE_HOLD;
    REQUIRE(v.caller().call(DEK_IOC_FENCE, f) == 0);
    int written = -1;
    std::thread writer([&] { written = v.write(0, data); });
    while (v.stats().waited == 0)
        std::this_thread::sleep_for(1ms);
    for (int tries = 0; tries < 5000 && v.stats().waiting == 0; tries++)
        std::this_thread::sleep_for(1ms);
    CHECK(v.stats().waiting == 1);
    CHECK(v.write(2048, data) == 0); // others go on
    CHECK(written == -1);
    REQUIRE(v.associate(a) == DEK_OK);
    writer.join();
    CHECK(written == 0);
    CHECK(v.stats().waiting == 0);
    CHECK(v.on_device(0, 8) == expected(a, 0, data));
    REQUIRE(v.disassociate(a.handle) == DEK_OK);
    std::thread reader([&] { written = v.read(0, got); });
    while (v.stats().waited < 2)
        std::this_thread::sleep_for(1ms);
    f.fence = DEK_FENCE_EIO;
    REQUIRE(v.caller().call(DEK_IOC_FENCE, f) == 0); // and what waited hears it
    reader.join();
    CHECK(written == EIO);
}

TEST_CASE_METHOD(Fixture, "an engine that is off leaves a fence, until it is turned on") {
    const auto engine = v.listed().engine;
    REQUIRE(engine != 0);
    CHECK((v.listed().engines & engine) == engine);
    REQUIRE(v.engine(0) == 0);
    CHECK(v.listed().engine == 0);
    CHECK(v.listed().engines == 0);
    REQUIRE(v.map(1, {{0, 1024}}) == 0);
    CHECK(v.query({{0, 8}}) == DEK_NOT_CAPABLE);
    CHECK(v.query({{2048, 8}}) == DEK_NOT_CAPABLE);
    CHECK(v.associate(a) == DEK_NOT_CAPABLE);
    CHECK(v.associations().empty());
    CHECK(v.write(0, data) == EIO);
    CHECK(v.write(2048, data) == 0);
    std::uint64_t token = 0;
    REQUIRE(v.quiesce(0, 1024, token) == 0);
    REQUIRE(v.yield(token, 0, 1024) == 0);
    REQUIRE(v.release(token) == 0);
    REQUIRE(v.write(0, data) == 0);
    CHECK(v.on_device(0, 8) == data);
    REQUIRE(v.engine(engine) == 0);
    CHECK(v.listed().engine == engine);
    CHECK(v.query({{0, 8}}) == DEK_OK);
    REQUIRE(v.associate(a) == DEK_OK);
    CHECK(state_at(v, 0) == DEK_RANGE_KEYED);
    REQUIRE(v.write(0, data) == 0);
    CHECK(v.on_device(0, 8) == expected(a, 0, data));
}

TEST_CASE_METHOD(Fixture, "a key keeps its engine") {
    const auto engine = v.listed().engine;
    REQUIRE(v.associate(a) == DEK_OK);
    CHECK(v.engine(0) == EBUSY);
    CHECK(v.listed().engine == engine);
    CHECK(v.engine(engine) == 0); // nothing to change
    REQUIRE(v.disassociate(a.handle) == DEK_OK);
    CHECK(v.engine(0) == 0);
}

TEST_CASE_METHOD(Fixture, "only an engine that is there can be turned on") {
    const auto has = v.listed().engines;
    REQUIRE(v.engine(0) == 0);
    for (const std::uint32_t e : {DEK_ENGINE_INLINE, DEK_ENGINE_ACCEL, 8u, 1u << 31})
        if (!(has & e))
            CHECK(v.engine(e) == EOPNOTSUPP);
    CHECK(v.engine(DEK_ENGINE_CPU | DEK_ENGINE_ACCEL) == EINVAL);
    CHECK(v.listed().engine == 0);
    CHECK(v.engine(DEK_ENGINE_CPU) == 0); // every endpoint can
    CHECK(v.listed().engine == DEK_ENGINE_CPU);
    CHECK(v.listed().engines == DEK_ENGINE_CPU);
    auto e = v.argument<dek_ioc_engine>();
    e.uuid[0] ^= 0xff;
    CHECK(v.caller().call(DEK_IOC_ENGINE, e) == ENOENT);
}

TEST_CASE("a volume may begin with its engine off") {
    Volume v(Spec{.no_engine = true});
    CHECK(v.listed().engine == 0);
    CHECK(v.query({{0, 8}}) == DEK_NOT_CAPABLE);
}

TEST_CASE_METHOD(Fixture, "a held range waits, its neighbours do not, and release lets it go on") {
    REQUIRE(v.map(1, {}) == 0);
    std::uint64_t token = 0, second = 0;
    REQUIRE(v.quiesce(64, 64, token) == 0);
    CHECK(token != 0);
    CHECK(v.quiesce(120, 16, second) == EBUSY);
    CHECK(v.quiesce(4096, 8, second) == EINVAL);
    CHECK(v.quiesce(0, 0, second) == EINVAL);
    int written = -1;
    std::thread writer([&] { written = v.write(120, Bytes(8192, 7)); });
    while (v.stats().waited == 0)
        std::this_thread::sleep_for(1ms);
    CHECK(v.write(128, data) == 0);
    CHECK(v.read(0, got) == 0);
    CHECK(written == -1);
    CHECK(v.on_device(120, 8) == Bytes(4096));
    REQUIRE(v.quiesce(256, 64, second) == 0);
    CHECK(second != token);
    REQUIRE(v.release(token) == 0);
    writer.join();
    CHECK(written == 0);
    CHECK(v.on_device(120, 16) == Bytes(8192, 7));
    CHECK(v.release(token) == ENOKEY);
    REQUIRE(v.release(second) == 0);
}

TEST_CASE_METHOD(Fixture, "tokens outlive their opener and can be listed") {
    REQUIRE(v.map(1, {}) == 0);
    std::uint64_t token = 0;
    {
        Caller short_lived;
        auto q = v.argument<dek_ioc_quiesce>();
        q.first = 64;
        q.count = 64;
        REQUIRE(short_lived.call(DEK_IOC_QUIESCE, q) == 0);
        token = q.token;
    }
    const auto list = v.tokens();
    REQUIRE(list.size() == 1);
    CHECK(list[0].token == token);
    CHECK(list[0].first == 64);
    CHECK(list[0].count == 64);
    REQUIRE(v.release(token) == 0);
    CHECK(v.tokens().empty());
}
