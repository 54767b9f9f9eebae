// SPDX-License-Identifier: Apache-2.0
// Small parts of dek-shimd: the event ring, shared holds, requests and their memory, messages.
#include <catch2/catch.hpp>

#include <array>
#include <cstring>

#include <sys/socket.h>
#include <unistd.h>

#include "events.h"
#include "handover.h"
#include "holds.h"
#include "request.h"

using namespace dek;
using namespace dek::shim;

TEST_CASE("events are numbered without gaps and read in pages") {
    EventRing ring;
    std::array<dek_event, 4> page{};
    bool more = true;
    CHECK(ring.read(0, page, more) == 0);
    CHECK_FALSE(more);
    for (std::uint64_t i = 1; i <= 6; i++) {
        dek_event e{};
        e.handle = i;
        ring.add(e);
    }
    CHECK(ring.newest() == 6);
    REQUIRE(ring.read(0, page, more) == 4);
    CHECK(more);
    CHECK(page[0].sequence == 1);
    CHECK(page[3].handle == 4);
    CHECK(page[3].time_ns >= page[0].time_ns);
    REQUIRE(ring.read(4, page, more) == 2);
    CHECK_FALSE(more);
    CHECK(page[0].sequence == 5);
    CHECK(ring.read(6, page, more) == 0);
    CHECK(ring.read(~0ull, page, more) == 0);
}

TEST_CASE("a full ring forgets the oldest events, and the gap shows") {
    EventRing ring;
    for (std::size_t i = 0; i < EventRing::kKept + 10; i++)
        ring.add({});
    std::array<dek_event, 2> page{};
    bool more = false;
    REQUIRE(ring.read(3, page, more) == 2);
    CHECK(page[0].sequence == 11);
    CHECK(more);
}

namespace {

unsigned dropped;
void key_drop(void*, dek_association*) {
    dropped++;
}
const dek_engine_ops counting{nullptr, key_drop, nullptr, nullptr, nullptr};

// As the core makes them: freed by the last hold.
dek_association* an_association() {
    auto* a = static_cast<dek_association*>(dek_alloc(sizeof(dek_association)));
    dek_ref_init(&a->refs);
    a->ops = &counting;
    return a;
}

} // namespace

TEST_CASE("a lane's requests share one hold, let go when none uses it") {
    dropped = 0;
    Holds holds;
    dek_association* a = an_association();
    holds.take(a);
    holds.take(a);
    CHECK(a->refs.n == 2);
    dek_association_put(a); // the snapshot's
    holds.drop(a);
    holds.settle();
    CHECK(dropped == 0);
    holds.drop(a);
    holds.settle();
    CHECK(dropped == 1);
}

TEST_CASE("more associations than a lane remembers are held all the same") {
    dropped = 0;
    {
        Holds holds;
        std::array<dek_association*, 20> all{};
        for (auto& a : all) {
            a = an_association();
            holds.take(a);
            holds.take(a);
        }
        for (auto* a : all)
            dek_association_put(a);
        for (auto* a : all)
            holds.drop(a);
        holds.settle();
        CHECK(dropped == 0);
        for (auto* a : all)
            holds.drop(a);
    }
    CHECK(dropped == 20);
}

TEST_CASE("what is under way where since when") {
    Request r;
    r.first = 100;
    r.count = 10;
    CHECK_FALSE(r.under_way(9, 0, ~0ull)); // not begun
    r.epoch = 5;
    CHECK(r.under_way(6, 0, ~0ull));
    CHECK_FALSE(r.under_way(5, 0, ~0ull)); // begun under this very state
    CHECK(r.under_way(6, 100, 1));
    CHECK(r.under_way(6, 109, 1));
    CHECK(r.under_way(6, 90, 11));
    CHECK_FALSE(r.under_way(6, 110, 5));
    CHECK_FALSE(r.under_way(6, 90, 10));
    CHECK(r.under_way(6, 105, ~0ull));
    CHECK_FALSE(r.under_way(6, ~0ull - 1, 1));
}

TEST_CASE("a large write's memory goes on behind the small piece, a read's lies together") {
    RequestPool pool;
    REQUIRE(pool.grow(2, 1));
    Request* r = pool.take();
    REQUIRE(r);
    CHECK(r->memory(0).data() == r->small);
    CHECK(r->memory(4096).size() == kSmall - 4096);
    r->large = pool.take_large();
    REQUIRE(r->large);
    CHECK_FALSE(pool.has_large());
    CHECK(r->memory(4096).data() == r->large + 4096);
    r->write = true;
    CHECK(r->memory(4096).data() == r->small + 4096);
    CHECK(r->memory(kSmall).data() == r->large);
    CHECK(r->memory(kSmall + 512).data() == r->large + 512);
    std::uint8_t* large = r->large;
    Request* second = pool.take();
    REQUIRE(second);
    CHECK(pool.exhausted());
    pool.give(r);
    CHECK(pool.take_large() == large);
    CHECK(pool.take() == r);
}

TEST_CASE("requests queue first in, first out") {
    Request a, b, c;
    RequestQueue one, two;
    CHECK(one.pop() == nullptr);
    one.push(&a);
    two.push(&b);
    two.push(&c);
    one.append(two);
    CHECK(two.empty());
    CHECK(one.pop() == &a);
    CHECK(one.pop() == &b);
    CHECK(one.pop() == &c);
    CHECK(one.empty());
}

TEST_CASE("descriptors travel between holder and worker") {
    int pair[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    Fd left(pair[0]), right(pair[1]);
    int pipe_ends[2];
    REQUIRE(::pipe(pipe_ends) == 0);
    const Fd reader(pipe_ends[0]), writer(pipe_ends[1]);
    REQUIRE(send_message(left.get(), Word::keep, 7, {writer.get(), writer.get()}));
    auto message = receive_message(right.get(), 1000);
    REQUIRE(message);
    CHECK(message->word == Word::keep);
    CHECK(message->slot == 7);
    REQUIRE(message->fds.size() == 2);
    CHECK(::write(message->fds[1].get(), "x", 1) == 1);
    char c = 0;
    CHECK(::read(reader.get(), &c, 1) == 1);
    CHECK(c == 'x');
    CHECK(receive_message(right.get(), 0).error().code == Errc::timeout);
    left.reset();
    CHECK_FALSE(receive_message(right.get(), 1000));
    CHECK_FALSE(send_message(right.get(), Word::done));
}
