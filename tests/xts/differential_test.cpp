// SPDX-License-Identifier: Apache-2.0
// Random data units, tweak numbers and places in memory: every engine writes what libcrypto writes,
// reads it back, and touches nothing beside it.
#include <algorithm>
#include <latch>
#include <random>
#include <thread>

#include <catch2/catch.hpp>

#include "evp_reference.h"

namespace {

std::mt19937_64& dice() {
    static std::mt19937_64 engine(20240229);
    return engine;
}

std::uint64_t draw(std::uint64_t below) {
    return dice()() % below;
}

Bytes random_bytes(std::size_t size) {
    Bytes bytes(size);
    std::generate(bytes.begin(), bytes.end(),
                  [] { return static_cast<std::uint8_t>(dice()() >> 32); });
    return bytes;
}

// Anywhere, low, or so high that the numbers of the later units wrap.
std::uint64_t random_tweak() {
    switch (draw(4)) {
    case 0:
        return draw(1000);
    case 1:
        return ~std::uint64_t{0} - draw(300);
    case 2:
        return (std::uint64_t{1} << 32) - draw(100);
    default:
        return dice()();
    }
}

constexpr std::size_t margin = 128;

// A buffer at any alignment, with bytes on both sides that must stay.
struct Framed {
    explicit Framed(const Bytes& content)
        : offset(margin + draw(64)), size(content.size()), bytes(size + 2 * margin + 64, 0xa5) {
        std::copy(content.begin(), content.end(), data());
    }
    std::uint8_t* data() { return bytes.data() + offset; }
    Bytes content() { return Bytes(data(), data() + size); }
    bool frame_intact() const {
        const auto is_frame = [](std::uint8_t byte) { return byte == 0xa5; };
        const auto from = bytes.begin() + static_cast<std::ptrdiff_t>(offset);
        return std::all_of(bytes.begin(), from, is_frame) &&
               std::all_of(from + static_cast<std::ptrdiff_t>(size), bytes.end(), is_frame);
    }
    std::size_t offset, size;
    Bytes bytes;
};

using Method = bool (dek::XtsKey::*)(std::uint8_t*, const std::uint8_t*, std::size_t, std::uint32_t,
                                     std::uint64_t, std::uint32_t) const noexcept;

void check_way(const dek::XtsKey& key, Method method, const Bytes& from, const Bytes& to,
               const Geometry& geometry) {
    Framed source(from), target(Bytes(from.size(), 0x3c));
    REQUIRE((key.*method)(target.data(), source.data(), from.size(), geometry.data_unit,
                          geometry.tweak, geometry.step));
    REQUIRE(target.content() == to);
    REQUIRE(source.content() == from);
    REQUIRE((key.*method)(source.data(), source.data(), from.size(), geometry.data_unit,
                          geometry.tweak, geometry.step));
    REQUIRE(source.content() == to);
    REQUIRE((source.frame_intact() && target.frame_intact()));
}

void check_once(std::size_t key_bytes, const Geometry& geometry, std::size_t units) {
    const Bytes key = random_bytes(key_bytes), plain = random_bytes(units * geometry.data_unit);
    const Bytes cipher = reference_encrypt(key, plain, geometry);
    CAPTURE(key_bytes, geometry.data_unit, geometry.tweak, geometry.step, units);
    for (const dek::XtsEngine engine : engines_here()) {
        INFO(dek::xts_engine_name(engine));
        const auto made = dek::XtsKey::make(key, engine);
        REQUIRE(made);
        REQUIRE(made->engine() == engine);
        check_way(*made, &dek::XtsKey::encrypt, plain, cipher, geometry);
        check_way(*made, &dek::XtsKey::decrypt, cipher, plain, geometry);
    }
}

} // namespace

TEST_CASE("random volumes are encrypted as libcrypto encrypts them") {
    const auto data_unit = GENERATE(512U, 1024U, 2048U, 4096U);
    const auto key_bytes = GENERATE(std::size_t{32}, std::size_t{64});
    for (int round = 0; round < 40; round++) {
        const std::size_t units = 1 + draw(70);
        check_once(key_bytes, {data_unit, random_tweak(), 1}, units);
        check_once(key_bytes, {data_unit, random_tweak(), data_unit / 512}, units);
    }
}

TEST_CASE("every number of units from 1 to 70 is right, whatever an engine takes in one batch") {
    for (std::size_t units = 1; units <= 70; units++)
        check_once(64, {512, ~std::uint64_t{0} - 20, 1}, units);
}

namespace {

// Rounds of `times` that gave the expected bytes, both ways.
int work_under(const dek::XtsKey& key, const Bytes& plain, const Bytes& cipher,
               const Geometry& geometry, int times) {
    Bytes work(plain.size());
    int good = 0;
    for (int round = 0; round < times; round++)
        good += key.encrypt(work.data(), plain.data(), work.size(), geometry.data_unit,
                            geometry.tweak, geometry.step) &&
                work == cipher &&
                key.decrypt(work.data(), work.data(), work.size(), geometry.data_unit,
                            geometry.tweak, geometry.step) &&
                work == plain;
    return good;
}

} // namespace

// Small units, so that threads that wrongly shared a context would meet between its tweak and its
// data.
TEST_CASE("one key serves many threads at once") {
    constexpr std::size_t threads_used = 8;
    constexpr int times = 1500;
    const Bytes secret = random_bytes(64), plain = random_bytes(32 * 512);
    for (const dek::XtsEngine engine : engines_here()) {
        const auto key = dek::XtsKey::make(secret, engine);
        REQUIRE(key);
        std::latch start(threads_used);
        std::vector<int> good(threads_used);
        std::vector<std::thread> threads;
        for (std::size_t i = 0; i < threads_used; i++)
            threads.emplace_back([&, i] {
                const Geometry geometry{512, i << 20, 1};
                const Bytes cipher = reference_encrypt(secret, plain, geometry);
                start.arrive_and_wait();
                good[i] = work_under(*key, plain, cipher, geometry, times);
            });
        for (std::thread& thread : threads)
            thread.join();
        REQUIRE(good == std::vector<int>(threads_used, times));
    }
}
