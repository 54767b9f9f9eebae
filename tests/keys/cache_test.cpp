// SPDX-License-Identifier: Apache-2.0
// The key cache: lifetime, order of leaving, flush.
#include "folder.h"
#include "keys/cache.h"

using namespace dek;
using namespace dek::test;
using namespace std::chrono_literals;
using dek::keys::KeyCache;

namespace {
struct Hands {
    KeyCache::Clock::time_point now{100s};
    KeyCache cache{2, 10s, [this] { return now; }};
};
} // namespace

TEST_CASE("a cached key lives for its lifetime from when it was stored, however often it is used") {
    Hands t;
    CHECK_FALSE(t.cache.next_expiry());
    t.cache.store("a", material_of(1));
    t.now += 9s;
    CHECK(t.cache.find("a")->equals(material_of(1).bytes()));
    CHECK(*t.cache.next_expiry() == KeyCache::Clock::time_point(110s));
    t.now += 1s;
    CHECK_FALSE(t.cache.find("a"));
    CHECK(t.cache.size() == 0);
}

TEST_CASE("the least recently used key leaves a full cache") {
    Hands t;
    t.cache.store("a", material_of(1));
    t.cache.store("b", material_of(2));
    CHECK(t.cache.find("a"));
    t.cache.store("c", material_of(3));
    CHECK(t.cache.size() == 2);
    CHECK_FALSE(t.cache.find("b"));
    CHECK(t.cache.find("a"));
    CHECK(t.cache.find("c"));
}

TEST_CASE("storing again replaces the key and starts its life anew") {
    Hands t;
    t.cache.store("a", material_of(1));
    t.now += 9s;
    t.cache.store("a", material_of(2));
    CHECK(t.cache.size() == 1);
    t.now += 9s;
    CHECK(t.cache.find("a")->equals(material_of(2).bytes()));
}

TEST_CASE("expire, forget and flush take keys out; a cache without room keeps none") {
    Hands t;
    t.cache.store("a", material_of(1));
    t.now += 5s;
    t.cache.store("b", material_of(2));
    t.now += 5s;
    t.cache.expire();
    CHECK(t.cache.size() == 1);
    CHECK(*t.cache.next_expiry() == KeyCache::Clock::time_point(115s));
    t.cache.forget("b");
    t.cache.forget("unknown");
    CHECK(t.cache.size() == 0);
    t.cache.store("a", material_of(1));
    t.cache.flush();
    CHECK(t.cache.size() == 0);
    CHECK_FALSE(t.cache.find("a"));
    KeyCache none(0, 10s);
    none.store("a", material_of(1));
    CHECK(none.size() == 0);
}
