// SPDX-License-Identifier: Apache-2.0
// The volume table after a worker was killed between any two stores: old entry or new, never a
// mixture.
#include <catch2/catch.hpp>

#include <csignal>
#include <cstring>
#include <random>

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "table.h"

using namespace dek;
using namespace dek::shim;

namespace {

// Every member follows from the number, so a mixture shows.
dek_ioc_volume numbered(std::uint64_t n) {
    dek_ioc_volume v{};
    std::memcpy(v.uuid, &n, sizeof(n));
    v.offset = n * 8;
    v.count = n;
    v.data_unit = static_cast<std::uint32_t>(n);
    for (char& c : v.device)
        c = static_cast<char>('a' + n % 26);
    v.device[sizeof(v.device) - 1] = 0;
    return v;
}

bool whole(const Slot& s) {
    std::uint64_t n;
    std::memcpy(&n, s.config.uuid, sizeof(n));
    const dek_ioc_volume wanted = numbered(n);
    // The length alone changes while a volume lives: by one whole store to n or twice n.
    return (s.config.count == n || s.config.count == 2 * n) && s.config.offset == wanted.offset &&
           s.config.data_unit == wanted.data_unit &&
           std::memcmp(s.config.device, wanted.device, sizeof(wanted.device)) == 0 &&
           s.identity == DeviceIdentity{n, n + 1};
}

[[noreturn]] void change_for_ever(VolumeTable table, unsigned seed) {
    std::mt19937_64 random(seed);
    for (;;) {
        const unsigned slot = random() % 8;
        if (!table.used(slot)) {
            const std::uint64_t n = 1 + random() % 0x7fffffff;
            table.prepare(slot, numbered(n), {n, n + 1});
            table.commit(slot);
        } else if (random() % 2) {
            table.set_count(slot, table.at(slot).config.data_unit * (1 + random() % 2));
        } else {
            table.erase(slot);
        }
    }
}

} // namespace

TEST_CASE("a killed writer leaves whole entries") {
    auto table = VolumeTable::create();
    REQUIRE(table);
    unsigned seen = 0;
    for (unsigned round = 0; round < 60; round++) {
        const pid_t child = ::fork();
        if (child == 0)
            change_for_ever(std::move(*VolumeTable::open(Fd(::dup(table->fd())))), round);
        ::usleep(300 + round * 37);
        ::kill(child, SIGKILL);
        ::waitpid(child, nullptr, 0);
        for (unsigned i = 0; i < table->size(); i++) {
            if (!table->used(i))
                continue;
            seen++;
            REQUIRE(whole(table->at(i)));
        }
    }
    CHECK(seen > 60);
}

TEST_CASE("an entry shows only after its commit") {
    auto table = VolumeTable::create();
    REQUIRE(table);
    CHECK(table->find_free() == 0);
    table->prepare(0, numbered(5), {5, 6});
    CHECK_FALSE(table->used(0));
    table->commit(0);
    CHECK(table->used(0));
    CHECK(table->find_free() == 1);
    table->set_had_map(0);
    *table->flush_failed(0) = 1;
    table->count_restart(0);
    *table->flushes(0) = 2;
    CHECK(table->settle_flushes(0) == 2);
    CHECK(table->settle_flushes(0) == 0);
    *table->flushes(0) = 3;
    CHECK(table->settle_flushes(0) == 3);
    *table->flushes(0) = 1;
    table->set_fence(0, 2);
    const auto other = VolumeTable::open(Fd(::dup(table->fd())));
    REQUIRE(other);
    CHECK(other->at(0).had_map == 1);
    CHECK(other->at(0).flush_failed == 1);
    CHECK(other->at(0).flushes_unknown == 5);
    CHECK(other->at(0).restarts == 1);
    CHECK(other->at(0).config.fence == 2);
    table->erase(0);
    CHECK_FALSE(other->used(0));
    table->prepare(0, numbered(7), {7, 8});
    CHECK(table->at(0).had_map == 0); // nothing of the last one
    CHECK(table->at(0).flush_failed == 0);
    CHECK(table->at(0).flushes == 0);
    CHECK(table->at(0).flushes_unknown == 0);
    CHECK(table->at(0).restarts == 0);
}

TEST_CASE("what is no table is refused") {
    CHECK_FALSE(VolumeTable::open(Fd(::memfd_create("empty", MFD_CLOEXEC))));
    auto table = VolumeTable::create();
    REQUIRE(table);
    const std::uint64_t wrong = 1;
    REQUIRE(::pwrite(table->fd(), &wrong, sizeof(wrong), 0) == sizeof(wrong));
    CHECK_FALSE(VolumeTable::open(Fd(::dup(table->fd()))));
}

TEST_CASE("a full table says so") {
    auto table = VolumeTable::create();
    REQUIRE(table);
    for (unsigned i = 0; i < table->size(); i++)
        table->commit(i);
    CHECK(table->find_free() == -1);
}
