// SPDX-License-Identifier: Apache-2.0
// I/O of every size and place, against an AES-XTS that shares no code with the shim.
#include <catch2/catch.hpp>
#include <thread>

#include <cerrno>
#include <random>

#include <fcntl.h>
#include <linux/falloc.h>

#include "caller.h"

using namespace conformance;

namespace {

// Plain and differently keyed stretches side by side; the model knows what the device must hold.
class Model {
  public:
    explicit Model(const Spec& spec) : v(spec), plain_(spec.sectors * 512) {}

    void key(Association a) {
        REQUIRE(v.associate(a) == DEK_OK);
        keyed_.push_back(a);
    }
    void write(std::uint64_t sector, const Bytes& data) {
        REQUIRE(v.write(sector, data) == 0);
        std::copy(data.begin(), data.end(), plain_.begin() + static_cast<long>(sector * 512));
    }
    // The device holds what the keys make of it, and the volume gives it back.
    void check(std::uint64_t sector, std::uint64_t count) {
        Bytes wanted(plain_.begin() + static_cast<long>(sector * 512),
                     plain_.begin() + static_cast<long>((sector + count) * 512));
        Bytes got(wanted.size());
        REQUIRE(v.read(sector, got) == 0);
        REQUIRE(got == wanted);
        const std::uint64_t first = v.spec().offset + sector;
        for (const Association& a : keyed_)
            for (const dek_range& r : a.ranges) {
                const std::uint64_t from = std::max<std::uint64_t>(first, r.first);
                const std::uint64_t to = std::min<std::uint64_t>(first + count, r.first + r.count);
                if (from >= to)
                    continue;
                const auto at = wanted.begin() + static_cast<long>((from - first) * 512);
                const Bytes cipher =
                    expected(a, from, Bytes(at, at + static_cast<long>((to - from) * 512)));
                std::copy(cipher.begin(), cipher.end(), at);
            }
        REQUIRE(v.on_device(first, count) == wanted);
    }
    Volume v;

  private:
    Bytes plain_;
    std::vector<Association> keyed_;
};

Association an_association(std::size_t key_size, std::vector<dek_range> ranges, dek_geometry g,
                           unsigned seed) {
    Association a;
    a.key = test_key(key_size, seed);
    a.ranges = std::move(ranges);
    a.geometry = g;
    return a;
}

// The whole device zero in the volume's eyes, so the model can start from zeros.
void fill(Model& m) {
    const Bytes zeros(128 * 1024);
    for (std::uint64_t at = 0; at < m.v.spec().sectors; at += 256)
        m.write(at, zeros);
}

} // namespace

TEST_CASE("ciphertext is AES-XTS for each unit, tweak rule and key size") {
    const std::uint32_t unit = GENERATE(512u, 1024u, 2048u, 4096u);
    const std::uint8_t rule = GENERATE(DEK_TWEAK_UNIT, DEK_TWEAK_LBA512);
    const std::size_t key_size = GENERATE(32u, 64u);
    const std::uint64_t offset = GENERATE(0u, 2048u);
    const std::uint32_t per = unit / 512;
    CAPTURE(unit, +rule, key_size, offset);
    Model m({.sectors = 2048, .offset = offset, .data_unit = unit, .logical_block = unit});
    REQUIRE(m.v.map(1, {{offset, 1024}}) == 0);
    const dek_geometry g{unit, rule, offset, 0x10000, 0, 0, 0};
    m.key(an_association(key_size, {{offset, 256}, {offset + 512, 8 * per}}, g, 1));
    m.key(an_association(96 - key_size,
                         {{offset + 256, 256}, {offset + 512 + 8 * per, 512 - 8 * per}}, g, 2));
    fill(m);
    std::mt19937 random(unit + rule);
    for (int i = 0; i < 30; i++) {
        const std::uint64_t count = (1 + random() % 64) * per;
        const std::uint64_t sector = random() % ((2048 - count) / per) * per;
        m.write(sector, pattern(count * 512, random()));
        m.check(sector, count);
    }
    for (std::uint64_t at = 0; at < 2048; at += 256)
        m.check(at, 256);
}

TEST_CASE("a leg of a stripe set encrypts with the numbers of the whole") {
    const std::uint8_t rule = GENERATE(DEK_TWEAK_UNIT, DEK_TWEAK_LBA512);
    Model m({.sectors = 2048});
    REQUIRE(m.v.map(1, {}) == 0);
    dek_geometry g{4096, rule, 0, 4096, 64, 3, 2};
    m.key(an_association(64, {{0, 2048}}, g, 1));
    fill(m);
    for (const std::uint64_t sector : {0u, 56u, 64u, 120u, 1000u}) {
        m.write(sector, pattern(65536, static_cast<unsigned>(sector))); // over two chunks' borders
        m.check(sector, 128);
    }
}

TEST_CASE("one request may cross many small ranges of different keys") {
    Model m({.sectors = 4096, .data_unit = 512, .logical_block = 512});
    REQUIRE(m.v.map(1, {}) == 0);
    const dek_geometry g{512, DEK_TWEAK_UNIT, 0, 0, 0, 0, 0};
    std::vector<dek_range> even, odd;
    for (std::uint64_t i = 0; i < 60; i++) {
        even.push_back({i * 20 + 3, 5});
        odd.push_back({i * 20 + 11, 1});
    }
    m.key(an_association(64, even, g, 1));
    for (unsigned i = 0; i < 4; i++) { // few ranges fit beside a key in one block
        const std::vector<dek_range> part(odd.begin() + i * 15, odd.begin() + (i + 1) * 15);
        m.key(an_association(32, part, g, 2 + i));
    }
    fill(m);
    m.write(0, pattern(1 << 20, 1));
    m.check(0, 2048);
    m.write(1, pattern(700 * 512, 2));
    m.check(0, 2048);
}

TEST_CASE("the smaller block of the device does not cut a larger one of the volume") {
    Model m({.sectors = 4096, .data_unit = 512, .logical_block = 4096});
    REQUIRE(m.v.map(1, {}) == 0);
    const dek_geometry g{512, DEK_TWEAK_UNIT, 0, 0, 0, 0, 0};
    std::vector<dek_range> some;
    for (std::uint64_t i = 0; i < 60; i++)
        some.push_back({i * 7 + 1, 3});
    m.key(an_association(64, some, g, 1));
    fill(m);
    m.write(0, pattern(1 << 20, 1));
    m.check(0, 2048);
    CHECK(m.v.write(1, Bytes(512)) == EINVAL);
}

TEST_CASE("what is not whole blocks is refused at every border, and no byte of it is written") {
    Volume v;
    REQUIRE(v.map(1, {{1024, 1024}}, {{3072, 64}}) == 0);
    Association a;
    a.key = test_key(64, 1);
    a.ranges = {{1024, 512}};
    REQUIRE(v.associate(a) == DEK_OK);
    const Bytes before = v.on_device(0, 4096);
    for (const std::uint64_t border : {0u, 1024u, 1536u, 2048u, 3072u, 3136u, 4096u}) {
        for (const int shift : {-4096, -512, 512, 1, 100}) {
            for (const std::size_t size : {1u, 511u, 512u, 4095u, 4097u, 4608u}) {
                const std::int64_t at = static_cast<std::int64_t>(border * 512) + shift;
                if (at < 0 || at + static_cast<std::int64_t>(size) > 4096 * 512)
                    continue;
                CAPTURE(border, shift, size);
                REQUIRE(v.write_bytes(static_cast<std::uint64_t>(at), pattern(size, 3)) == EINVAL);
                Bytes got(size);
                if (at % 4096 || size % 4096)
                    REQUIRE(v.read_bytes(static_cast<std::uint64_t>(at), got) == EINVAL);
            }
        }
    }
    CHECK(v.on_device(0, 4096) == before);
}

// What is refused must leave nothing behind in the lanes, however large it was.
TEST_CASE("a refused write of any size holds nothing up") {
    Volume v({.sectors = 4096});
    REQUIRE(v.map(1, {}, {{0, 1024}}) == 0);
    for (const std::size_t size : {4096u, 16384u, 20480u, 131072u, 524288u}) {
        CAPTURE(size);
        for (int i = 0; i < 8; i++) { // each lane gets some
            REQUIRE(v.write_bytes(2048 * 512, pattern(size + 512, 1)) == EINVAL);
            REQUIRE(v.write_bytes(2048 * 512 + 512, pattern(size, 1)) == EINVAL);
            REQUIRE(v.write_bytes(0, pattern(size, 1)) == EIO); // reserved
            // Beyond the end; where the node is a block device the part before it is written.
            const int beyond = v.write_bytes(4088 * 512, pattern(size + 4096, 1));
            REQUIRE((beyond == ENOSPC || beyond == ENODATA));
        }
        const Bytes data = pattern(size, 2);
        REQUIRE(v.write(2048, data) == 0);
        Bytes got(size);
        REQUIRE(v.read(2048, got) == 0);
        REQUIRE((got == data));
    }
}

TEST_CASE("nothing can be read or written beyond the end") {
    Volume v({.sectors = 64, .offset = 64});
    REQUIRE(v.map(1, {}) == 0);
    Bytes got(4096);
    CHECK(v.read(64, got) == ENODATA); // a short read, of nothing
    CHECK(v.write(64, got) != 0);
    CHECK(v.write(1 << 20, got) != 0);
    got.assign(8192, 0);
    CHECK(v.read(56, got) == ENODATA);
    CHECK(v.write(0, Bytes(4096, 1)) == 0);
    CHECK(v.on_device(0, 64) == Bytes(64 * 512)); // before the offset
    CHECK(v.on_device(64, 8) == Bytes(4096, 1));
}

// A block device without write-zeroes lets the kernel write pages of zeros instead: that is a write
// like any other.
TEST_CASE("discards are refused, and zeroing is refused or encrypted") {
    Volume v;
    REQUIRE(v.map(1, {{0, 1024}}) == 0);
    Association a;
    a.key = test_key(64, 1);
    a.ranges = {{0, 1024}};
    REQUIRE(v.associate(a) == DEK_OK);
    const Bytes data = pattern(65536, 1);
    for (const int mode : {FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                           FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE}) {
        REQUIRE(v.write(0, data) == 0);
        const bool done = ::fallocate(v.node(), mode, 0, 65536) == 0;
        CHECK((done || errno == EOPNOTSUPP || errno == EINVAL));
        if (mode & FALLOC_FL_PUNCH_HOLE)
            CHECK_FALSE(done);
        const Bytes wanted = done ? Bytes(65536) : data;
        Bytes got(65536);
        REQUIRE(v.read(0, got) == 0);
        CHECK((got == wanted));
        CHECK((v.on_device(0, 128) == expected(a, 0, wanted)));
    }
}

TEST_CASE("a flush reaches the device") {
    Volume v;
    REQUIRE(v.map(1, {}) == 0);
    REQUIRE(v.write(0, pattern(4096, 1)) == 0);
    REQUIRE(::fdatasync(v.node()) == 0);
    CHECK(v.stats().flushes >= 1);
    for (int i = 0; i < 1000 && v.stats().in_flight; i++) // counted out after it is answered
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    CHECK(v.stats().in_flight == 0);
}

TEST_CASE("a read-only volume takes no writes") {
    Volume v({.read_only = true});
    Bytes got(4096);
    v.put_on_device(0, pattern(4096, 1));
    CHECK(v.read(0, got) == 0);
    CHECK(got == pattern(4096, 1));
    CHECK(v.write(0, got) == EBADF); // opened for reading
}
