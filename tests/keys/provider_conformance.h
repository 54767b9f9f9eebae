// SPDX-License-Identifier: Apache-2.0
// What every key provider must do, whatever it stands on. A provider's test calls check_provider()
// from a TEST_CASE with a function that makes an empty, ready one; each call of that function must
// make another.
#pragma once

#include <functional>
#include <memory>
#include <thread>

#include "folder.h"
#include "keys/provider.h"

namespace dek::test {

using MakeProvider = std::function<std::unique_ptr<keys::Provider>()>;

namespace conformance {

using keys::Deadline;
using keys::KeyState;

inline keys::KeyInfo put(keys::Provider& provider, const std::string& name, std::uint32_t seed) {
    return must(provider.put(name, material_of(seed), {}, soon()));
}

inline std::size_t count(keys::Provider& provider) {
    return must(provider.list(soon())).size();
}

inline void keeps_keys(keys::Provider& provider) {
    const std::map<std::string, std::string> attributes{{"volume", "data"}, {"q\"'", "it's; --"}};
    for (const std::size_t size : {std::size_t{32}, std::size_t{64}}) {
        const std::string name = "key of " + std::to_string(size);
        const auto made = must(provider.put(name, material_of(1, size), attributes, soon()));
        CHECK(made.state == KeyState::active);
        CHECK(made.bits == size * 8);
        CHECK(made.algorithm == "AES");
        CHECK(made.created > 0);
        CHECK(keys::check_key_id(made.id).has_value());
        const auto got = must(provider.get(made.id, soon()));
        CHECK(got.material.equals(material_of(1, size).bytes()));
        CHECK(got.info.name == name);
        CHECK(got.info.attributes == attributes);
        CHECK(must(provider.info(made.id, soon())).name == name);
        CHECK(must(provider.info(name, soon())).id == made.id);
    }
    CHECK(count(provider) == 2);
}

inline void refuses_unknown_keys(keys::Provider& provider) {
    put(provider, "a", 1);
    const std::string id(32, '0');
    CHECK(code_of(provider.get(id, soon())) == Errc::unknown_key);
    CHECK(code_of(provider.info(id, soon())) == Errc::unknown_key);
    CHECK(code_of(provider.info("b", soon())) == Errc::unknown_key);
    CHECK(code_of(provider.set_state(id, KeyState::deactivated, soon())) == Errc::unknown_key);
    // get() takes IDs only: a name is not one, even when there is such a name.
    CHECK(code_of(provider.get("a", soon())) == Errc::unknown_key);
}

inline void refuses_taken_names(keys::Provider& provider) {
    const auto first = put(provider, "a", 1);
    CHECK(code_of(provider.put("a", material_of(2), {}, soon())) == Errc::exists);
    CHECK(count(provider) == 1);
    must(provider.set_state(first.id, KeyState::deactivated, soon()));
    CHECK(code_of(provider.put("a", material_of(2), {}, soon())) == Errc::exists);
    must(provider.set_state(first.id, KeyState::destroyed, soon()));
    const auto second = put(provider, "a", 2);
    CHECK(must(provider.info("a", soon())).id == second.id);
    put(provider, "", 3);
    put(provider, "", 4); // no name is no name twice
}

inline void refuses_hostile_words(keys::Provider& provider) {
    const auto kept = put(provider, "a", 1);
    const std::vector<std::string> names{std::string(65, 'n'),
                                         "line\nbreak",
                                         std::string("nul\0", 4),
                                         "\x1b[2J",
                                         " space",
                                         "space ",
                                         "\xff\xfe",
                                         std::string(32, 'a')};
    for (const std::string& name : names) {
        CHECK(code_of(provider.put(name, material_of(2), {}, soon())) == Errc::invalid_argument);
        CHECK_FALSE(provider.get(name, soon()));
    }
    const std::vector<std::string> ids{
        "", std::string(65, 'i'), std::string(1 << 20, 'i'), "a\nb", "a b", std::string("a\0b", 3)};
    for (const std::string& id : ids) {
        CHECK(code_of(provider.get(id, soon())) == Errc::invalid_argument);
        CHECK(code_of(provider.set_state(id, KeyState::deactivated, soon())) ==
              Errc::invalid_argument);
    }
    using Attributes = std::map<std::string, std::string>;
    for (const Attributes& wrong :
         {Attributes{{"", "v"}}, Attributes{{"n", "v\n"}}, Attributes{{"n=m", "v"}},
          Attributes{{"n", std::string(1025, 'v')}}, Attributes{{"n\x7f", "v"}}})
        CHECK(code_of(provider.put("x", material_of(2), wrong, soon())) == Errc::invalid_argument);
    CHECK(count(provider) == 1);
    CHECK(must(provider.get(kept.id, soon())).material.equals(material_of(1).bytes()));
}

inline void takes_words_as_words(keys::Provider& provider) {
    const std::string name = "x'); DROP TABLE keys; --";
    const auto made = put(provider, name, 1);
    CHECK(must(provider.info(name, soon())).id == made.id);
    for (const char* id : {"'OR'1'='1", "%", "*", "\";--", "_"}) {
        CHECK(code_of(provider.get(id, soon())) == Errc::unknown_key);
        CHECK(code_of(provider.set_state(id, KeyState::deactivated, soon())) == Errc::unknown_key);
    }
    CHECK(count(provider) == 1);
    CHECK(must(provider.info(made.id, soon())).state == KeyState::active);
}

inline void refuses_unfit_material(keys::Provider& provider) {
    for (const std::size_t size : {0, 1, 16, 31, 33, 48, 63, 65, 128})
        CHECK(code_of(provider.put("a", material_of(1, size), {}, soon())) ==
              Errc::invalid_argument);
    for (const std::size_t size : {32, 64}) {
        Secret twins = material_of(1, size);
        const auto half = twins.bytes().first(size / 2);
        std::copy(half.begin(), half.end(), twins.bytes().last(size / 2).begin());
        CHECK(code_of(provider.put("a", std::move(twins), {}, soon())) == Errc::invalid_argument);
    }
    CHECK(count(provider) == 0);
}

// Every state that a new key can be brought into, and every further one from there.
inline void keeps_to_the_states(keys::Provider& provider) {
    using S = KeyState;
    const std::vector<S> all{S::pre_active, S::active, S::deactivated, S::compromised,
                             S::destroyed};
    const std::vector<std::vector<S>> paths{{},
                                            {S::deactivated},
                                            {S::compromised},
                                            {S::deactivated, S::compromised},
                                            {S::deactivated, S::destroyed},
                                            {S::compromised, S::destroyed}};
    for (const auto& path : paths)
        for (const S next : all) {
            const auto key = put(provider, "", 1);
            for (const S step : path)
                CHECK(must(provider.set_state(key.id, step, soon())).state == step);
            const S from = path.empty() ? S::active : path.back();
            const bool allowed = keys::check_transition(from, next).has_value();
            const auto moved = provider.set_state(key.id, next, soon());
            INFO(keys::state_name(from) << " to " << keys::state_name(next));
            CHECK(moved.has_value() == allowed);
            if (!moved)
                CHECK(moved.error().code == Errc::refused);
            const S now = allowed ? next : from;
            CHECK(must(provider.info(key.id, soon())).state == now);
            const auto got = provider.get(key.id, soon());
            CHECK(got.has_value() == (now != S::destroyed));
            if (!got)
                CHECK(got.error().code == Errc::refused);
        }
}

inline void changes_nothing_when_late(keys::Provider& provider) {
    const auto kept = put(provider, "a", 1);
    Deadline cancelled(std::chrono::hours(1));
    cancelled.cancel();
    const Deadline passed(std::chrono::seconds(-1));
    for (const Deadline* deadline : {static_cast<const Deadline*>(&cancelled), &passed}) {
        CHECK(code_of(provider.put("b", material_of(2), {}, *deadline)) == Errc::timeout);
        CHECK(code_of(provider.set_state(kept.id, KeyState::deactivated, *deadline)) ==
              Errc::timeout);
        CHECK(code_of(provider.get(kept.id, *deadline)) == Errc::timeout);
        CHECK(code_of(provider.info(kept.id, *deadline)) == Errc::timeout);
        CHECK(code_of(provider.list(*deadline)) == Errc::timeout);
    }
    CHECK(count(provider) == 1);
    CHECK(must(provider.info("a", soon())).state == KeyState::active);
}

// Deadlines that end at ever later moments of a call: it happened, and says so, or it did not.
inline void is_late_or_whole(keys::Provider& provider) {
    int late = 0;
    int done = 0;
    for (int step = 0; step < 2000 && done < 20; ++step) {
        const Deadline deadline(std::chrono::microseconds(step * 20));
        const std::string name = "key " + std::to_string(step);
        const auto made =
            provider.put(name, material_of(static_cast<std::uint32_t>(step)), {}, deadline);
        const auto found = provider.info(name, soon());
        REQUIRE(made.has_value() == found.has_value());
        if (!made)
            REQUIRE(made.error().code == Errc::timeout);
        ++(made ? done : late);
    }
    CHECK(late > 0);
    CHECK(done > 0);
    CHECK(count(provider) == static_cast<std::size_t>(done));
}

// cancel() from another thread at ever later moments.
inline void can_be_cancelled(keys::Provider& provider) {
    for (int step = 0; step < 60; ++step) {
        Deadline deadline(std::chrono::hours(1));
        std::thread other([&] {
            std::this_thread::sleep_for(std::chrono::microseconds(step * 25));
            deadline.cancel();
        });
        const std::string name = "key " + std::to_string(step);
        const auto made = provider.put(name, material_of(1), {}, deadline);
        other.join();
        REQUIRE(made.has_value() == provider.info(name, soon()).has_value());
        if (!made)
            REQUIRE(made.error().code == Errc::timeout);
    }
}

} // namespace conformance

inline void check_provider(const MakeProvider& make) {
    const auto provider = make();
    CHECK_FALSE(provider->name().empty());
    using namespace conformance;
    SECTION("keys of both sizes come back as they were put") {
        keeps_keys(*provider);
    }
    SECTION("an unknown key is an unknown key") {
        refuses_unknown_keys(*provider);
    }
    SECTION("a taken name is refused until its key is destroyed") {
        refuses_taken_names(*provider);
    }
    SECTION("hostile names, IDs and attributes are refused") {
        refuses_hostile_words(*provider);
    }
    SECTION("words are never taken for commands") {
        takes_words_as_words(*provider);
    }
    SECTION("material of a wrong size or with equal halves is refused") {
        refuses_unfit_material(*provider);
    }
    SECTION("only the allowed changes of state happen") {
        keeps_to_the_states(*provider);
    }
    SECTION("a call whose deadline is over changes nothing") {
        changes_nothing_when_late(*provider);
    }
    SECTION("a call that runs out of time is undone") {
        is_late_or_whole(*provider);
    }
    SECTION("a call that is cancelled is undone") {
        can_be_cancelled(*provider);
    }
}

} // namespace dek::test
