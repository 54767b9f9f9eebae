// SPDX-License-Identifier: Apache-2.0
// What the key cache keeps, and what it must not.
#include <catch2/catch.hpp>

#include "kcm/key_service.h"

using namespace dek;
using namespace dek::kcm;

namespace {

// Gives any key; `meanwhile` happens while it is being fetched.
class Fetching : public keys::Provider {
  public:
    explicit Fetching(const std::function<void()>& meanwhile) : meanwhile_(meanwhile) {}
    std::string name() const override { return "fetching"; }
    Result<Key> get(const std::string& id, const keys::Deadline&) override {
        meanwhile_();
        Key key{};
        key.info.id = id;
        key.material = Secret::random(64);
        return key;
    }
    Result<keys::KeyInfo> info(const std::string& id, const keys::Deadline&) override {
        return fail(Errc::unknown_key, id);
    }
    Result<std::vector<keys::KeyInfo>> list(const keys::Deadline&) override {
        return std::vector<keys::KeyInfo>();
    }
    Result<keys::KeyInfo> put(const std::string&, Secret, const std::map<std::string, std::string>&,
                              const keys::Deadline&) override {
        return fail(Errc::refused, "no");
    }
    Result<keys::KeyInfo> set_state(const std::string& id, keys::KeyState,
                                    const keys::Deadline&) override {
        return fail(Errc::unknown_key, id);
    }

  private:
    const std::function<void()>& meanwhile_;
};

} // namespace

TEST_CASE("a key that is taken back while it is being fetched does not enter the cache") {
    std::function<void()> meanwhile = [] {};
    KeyService service(std::make_unique<Fetching>(meanwhile), KeyLimits{});
    REQUIRE(service.material("kept"));
    CHECK(service.cached() == 1);
    SECTION("forgotten") {
        meanwhile = [&] { service.forget("key"); };
        REQUIRE(service.material("key"));
        CHECK(service.cached() == 1);
    }
    SECTION("flushed") {
        meanwhile = [&] { service.flush(); };
        REQUIRE(service.material("key"));
        CHECK(service.cached() == 0);
    }
    meanwhile = [] {};
    const auto before = service.cached();
    REQUIRE(service.material("key"));
    CHECK(service.cached() == before + 1);
}
