// SPDX-License-Identifier: Apache-2.0
// What an XTS key refuses, and what the engines say of themselves.
#include <numeric>
#include <string>

#include <catch2/catch.hpp>
#include <sys/wait.h>
#include <unistd.h>

#include "evp_reference.h"

namespace {

Bytes counting(std::size_t size) {
    Bytes bytes(size);
    std::iota(bytes.begin(), bytes.end(), std::uint8_t{1});
    return bytes;
}

constexpr std::uint8_t tweak_bytes[16] = {9};
constexpr std::span<const std::uint8_t, 16> tweak(tweak_bytes);

} // namespace

TEST_CASE("engines pass their known answers and have names") {
    for (const dek::XtsEngine engine : engines_here())
        CHECK(dek::xts_self_test(engine));
    CHECK(dek::xts_self_test(dek::XtsEngine::automatic));
    CHECK(dek::xts_engine_name(dek::XtsEngine::vaes512) == std::string("vaes512"));
    CHECK(dek::xts_engine_name(dek::XtsEngine::openssl) == std::string("openssl"));
    CHECK(dek::xts_engine_available(dek::XtsEngine::openssl));
}

TEST_CASE("the automatic choice is the fastest engine the CPU has; another is refused") {
    const bool fast = dek::xts_engine_available(dek::XtsEngine::vaes512);
    const auto chosen = dek::XtsKey::make(counting(64));
    REQUIRE(chosen);
    CHECK(chosen->engine() == (fast ? dek::XtsEngine::vaes512 : dek::XtsEngine::openssl));
    const auto forced = dek::XtsKey::make(counting(64), dek::XtsEngine::vaes512);
    CHECK(forced.has_value() == fast);
    if (!fast) {
        CHECK(forced.error().code == dek::Errc::unsupported);
        CHECK_FALSE(dek::xts_self_test(dek::XtsEngine::vaes512));
    }
}

TEST_CASE("a key of another length is refused") {
    for (const std::size_t size : {0, 16, 31, 33, 48, 63, 65, 128}) {
        const auto key = dek::XtsKey::make(counting(size));
        REQUIRE_FALSE(key);
        CHECK(key.error().code == dek::Errc::invalid_argument);
    }
}

TEST_CASE("a key with equal halves is refused, one with a single different bit is not") {
    for (const std::size_t half : {16, 32}) {
        Bytes bytes = counting(half);
        bytes.insert(bytes.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(half));
        for (const dek::XtsEngine engine : engines_here()) {
            const auto equal = dek::XtsKey::make(bytes, engine);
            REQUIRE_FALSE(equal);
            CHECK(equal.error().code == dek::Errc::invalid_argument);
        }
        bytes.back() ^= 0x80;
        for (const dek::XtsEngine engine : engines_here())
            CHECK(dek::XtsKey::make(bytes, engine));
    }
}

TEST_CASE("sizes and steps that no volume has are refused, and nothing is written") {
    struct Wrong {
        std::size_t bytes;
        std::uint32_t data_unit, step;
    };
    for (const dek::XtsEngine engine : engines_here()) {
        const auto key = dek::XtsKey::make(counting(64), engine);
        REQUIRE(key);
        const Bytes plain(16384, 0x77);
        for (const Wrong& wrong :
             {Wrong{8192, 0, 1}, Wrong{8192, 256, 1}, Wrong{8192, 8192, 1}, Wrong{6144, 1536, 1},
              Wrong{4095, 4096, 1}, Wrong{512, 4096, 1}, Wrong{4608, 4096, 1}, Wrong{4096, 4096, 0},
              Wrong{4096, 4096, 2}, Wrong{4096, 512, 8}, Wrong{16, 512, 1}}) {
            CAPTURE(wrong.bytes, wrong.data_unit, wrong.step);
            Bytes work = plain, other(plain.size(), 0x55);
            CHECK_FALSE(key->encrypt(work.data(), work.data(), wrong.bytes, wrong.data_unit, 1,
                                     wrong.step));
            CHECK_FALSE(key->decrypt(other.data(), work.data(), wrong.bytes, wrong.data_unit, 1,
                                     wrong.step));
            CHECK(work == plain);
            CHECK(other == Bytes(plain.size(), 0x55));
        }
        CHECK(key->encrypt(nullptr, nullptr, 0, 512, 1, 1));
    }
}

TEST_CASE("buffers that overlap are refused unless they are the same") {
    const auto key = dek::XtsKey::make(counting(64));
    REQUIRE(key);
    Bytes work(8192, 1);
    CHECK_FALSE(key->encrypt(&work[16], &work[0], 4096, 4096, 0, 1));
    CHECK_FALSE(key->encrypt(&work[0], &work[16], 4096, 4096, 0, 1));
    CHECK_FALSE(key->decrypt(&work[0], &work[4095], 4096, 4096, 0, 1));
    CHECK(work == Bytes(8192, 1));
    CHECK(key->encrypt(&work[0], &work[4096], 4096, 4096, 0, 1));
    CHECK(key->encrypt(&work[0], &work[0], 4096, 4096, 0, 1));
}

TEST_CASE("single units of other lengths are 16 to 512 bytes, and agree with the volume's") {
    for (const dek::XtsEngine engine : engines_here()) {
        const auto key = dek::XtsKey::make(counting(32), engine);
        REQUIRE(key);
        for (const std::size_t size : {0, 15, 17, 528}) {
            Bytes work(size, 3);
            CHECK_FALSE(key->encrypt_blocks(work, tweak));
            CHECK_FALSE(key->decrypt_blocks(work, tweak));
            CHECK(work == Bytes(size, 3));
        }
        Bytes unit(512, 3), blocks(512, 3);
        REQUIRE(key->encrypt(unit.data(), unit.data(), 512, 512, 9, 1));
        REQUIRE(key->encrypt_blocks(blocks, tweak));
        CHECK(unit == blocks);
    }
}

TEST_CASE("a key that was moved from refuses to work; the one it moved to works") {
    for (const dek::XtsEngine engine : engines_here()) {
        auto first = dek::XtsKey::make(counting(64), engine);
        REQUIRE(first);
        const dek::XtsKey second = std::move(*first);
        Bytes work(512, 3);
        CHECK_FALSE(first->encrypt(work.data(), work.data(), 512, 512, 0, 1));
        CHECK_FALSE(first->decrypt(work.data(), work.data(), 512, 512, 0, 1));
        CHECK_FALSE(first->encrypt_blocks(work, tweak));
        CHECK_FALSE(first->decrypt_blocks(work, tweak));
        CHECK(work == Bytes(512, 3));
        CHECK(second.encrypt(work.data(), work.data(), 512, 512, 0, 1));
        CHECK(work == reference_encrypt(counting(64), Bytes(512, 3), {512, 0, 1}));
    }
}

TEST_CASE("a child process, whose copy of the schedule is wiped, fails instead of using it") {
    if (!dek::xts_engine_available(dek::XtsEngine::vaes512))
        return;
    const auto key = dek::XtsKey::make(counting(64), dek::XtsEngine::vaes512);
    REQUIRE(key);
    Bytes work(512, 3);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        const bool refused = !key->encrypt(work.data(), work.data(), 512, 512, 0, 1) &&
                             !key->decrypt(work.data(), work.data(), 512, 512, 0, 1) &&
                             !key->encrypt_blocks(work, tweak) &&
                             !key->decrypt_blocks(work, tweak) && work == Bytes(512, 3);
        ::_exit(refused ? 0 : 1);
    }
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    CHECK(key->encrypt(work.data(), work.data(), 512, 512, 0, 1));
}
