// SPDX-License-Identifier: Apache-2.0
// A provider that hangs, throws or is slow costs its callers the deadline and no more.
#include <condition_variable>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "folder.h"

using namespace dek;
using namespace dek::keys;
using namespace dek::test;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

namespace {

// Hangs in get() until released, whatever its deadline says, as a dead network peer would.
struct Gate {
    std::mutex mutex;
    std::condition_variable changed;
    bool open = false;
    int inside = 0;
    int gone = 0; // providers destroyed
    void release() {
        const std::lock_guard lock(mutex);
        open = true;
        changed.notify_all();
    }
    bool wait_inside() {
        std::unique_lock lock(mutex);
        return changed.wait_for(lock, 10s, [&] { return inside > 0; });
    }
    bool wait_gone() {
        std::unique_lock lock(mutex);
        return changed.wait_for(lock, 10s, [&] { return gone > 0; });
    }
};

class GatedProvider : public Provider {
  public:
    explicit GatedProvider(std::shared_ptr<Gate> gate) : gate_(std::move(gate)) {}
    ~GatedProvider() override {
        const std::lock_guard lock(gate_->mutex);
        ++gate_->gone;
        gate_->changed.notify_all();
    }
    std::string name() const override { return "gated"; }
    Result<Key> get(const std::string& id, const Deadline& deadline) override {
        if (id == "throw")
            throw std::runtime_error("thrown");
        if (id == "patient") // honours its deadline
            while (!deadline.expired())
                std::this_thread::sleep_for(1ms);
        if (id == "patient")
            return fail(Errc::timeout, "patient gave up");
        std::unique_lock lock(gate_->mutex);
        ++gate_->inside;
        gate_->changed.notify_all();
        gate_->changed.wait(lock, [&] { return gate_->open; });
        return Key{{}, material_of(1)};
    }
    Result<KeyInfo> info(const std::string& id, const Deadline&) override {
        KeyInfo found;
        found.id = id;
        return found;
    }
    Result<std::vector<KeyInfo>> list(const Deadline&) override { return std::vector<KeyInfo>(3); }
    Result<KeyInfo> put(const std::string& name, Secret material,
                        const std::map<std::string, std::string>&, const Deadline&) override {
        KeyInfo made;
        made.name = name;
        made.bits = static_cast<std::uint32_t>(material.size() * 8);
        return made;
    }
    Result<KeyInfo> set_state(const std::string&, KeyState state, const Deadline&) override {
        KeyInfo now;
        now.state = state;
        return now;
    }

  private:
    std::shared_ptr<Gate> gate_;
};

struct Stuck {
    std::shared_ptr<Gate> gate = std::make_shared<Gate>();
    std::unique_ptr<ProviderRunner> runner =
        std::make_unique<ProviderRunner>(std::make_unique<GatedProvider>(gate));
    ~Stuck() { gate->release(); }
};

std::chrono::milliseconds since(Clock::time_point start) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start);
}

} // namespace

TEST_CASE("the runner passes every call on and every answer back") {
    Stuck t;
    CHECK(t.runner->name() == "gated");
    CHECK(must(t.runner->info("i", 5s)).id == "i");
    CHECK(must(t.runner->list(5s)).size() == 3);
    CHECK(must(t.runner->put("n", material_of(1), {}, 5s)).bits == 512);
    CHECK(must(t.runner->set_state("i", KeyState::compromised, 5s)).state == KeyState::compromised);
    t.gate->release();
    CHECK(must(t.runner->get("i", 5s)).material.equals(material_of(1).bytes()));
    CHECK(must(t.runner->info("i", std::chrono::milliseconds::max())).id == "i");
}

TEST_CASE("a provider that hangs costs its caller the deadline, the next ones nothing") {
    Stuck t;
    auto start = Clock::now();
    CHECK(code_of(t.runner->get("x", 100ms)) == Errc::timeout);
    CHECK(since(start) >= 100ms);
    CHECK(since(start) < 2s);
    start = Clock::now();
    CHECK(code_of(t.runner->info("x", 10s)) == Errc::unavailable);
    CHECK(since(start) < 2s);
    t.gate->release();
    Result<KeyInfo> later = fail(Errc::internal, "");
    for (int i = 0; i < 500 && !later; ++i) {
        later = t.runner->info("x", 5s);
        std::this_thread::sleep_for(5ms);
    }
    CHECK(must(std::move(later)).id == "x");
}

TEST_CASE("cancel() ends the call under way, also of a provider that does not listen") {
    Stuck t;
    bool seen = false;
    std::thread other([&] {
        seen = t.gate->wait_inside();
        t.runner->cancel();
    });
    const auto start = Clock::now();
    CHECK(code_of(t.runner->get("x", 60s)) == Errc::timeout);
    other.join();
    CHECK(since(start) < 20s);
    CHECK(seen);
}

TEST_CASE("a provider that honours its deadline is free again at once") {
    Stuck t;
    for (int i = 0; i < 5; ++i) {
        CHECK(t.runner->get("patient", 20ms).error().code == Errc::timeout);
        const auto next = t.runner->info("x", 5s);
        CHECK((next || next.error().code == Errc::unavailable));
        for (int wait = 0; wait < 500 && !t.runner->info("x", 5s); ++wait)
            std::this_thread::sleep_for(2ms);
        CHECK(t.runner->info("x", 5s).has_value());
    }
}

TEST_CASE("a deadline that is over before the call reaches nobody") {
    Stuck t;
    CHECK(code_of(t.runner->info("x", 0ms)) == Errc::timeout);
    CHECK(code_of(t.runner->info("x", -5ms)) == Errc::timeout);
    CHECK(code_of(t.runner->info("x", std::chrono::milliseconds::min())) == Errc::timeout);
    CHECK(t.runner->info("x", 5s).has_value());
}

TEST_CASE("an exception of a provider becomes an error") {
    Stuck t;
    CHECK(code_of(t.runner->get("throw", 5s)) == Errc::internal);
    CHECK(t.runner->info("x", 5s).has_value());
}

TEST_CASE("callers wait for their turn, and those behind a stuck one learn of it") {
    Stuck t;
    Errc met = Errc::internal;
    std::thread first([&] { met = t.runner->get("x", 300ms).error().code; });
    CHECK(t.gate->wait_inside());
    CHECK(code_of(t.runner->info("a", 20ms)) == Errc::timeout); // its turn did not come
    const auto start = Clock::now();
    CHECK(code_of(t.runner->info("b", 60s)) == Errc::unavailable);
    CHECK(since(start) < 20s);
    first.join();
    CHECK(met == Errc::timeout);
    std::atomic<int> good{0};
    t.gate->release();
    std::vector<std::thread> many;
    while (!t.runner->info("x", 5s))
        std::this_thread::sleep_for(1ms);
    for (int i = 0; i < 8; ++i)
        many.emplace_back([&, i] {
            const std::string id = std::to_string(i);
            for (int n = 0; n < 50; ++n) { // Catch's own checks belong to one thread
                const auto found = t.runner->info(id, 30s);
                good += found && found->id == id ? 1 : 0;
            }
        });
    for (auto& thread : many)
        thread.join();
    CHECK(good == 400);
}

TEST_CASE("destroying a runner frees its provider; a stuck one is left behind, not waited for") {
    Stuck free;
    free.runner.reset();
    CHECK(free.gate->wait_gone());

    Stuck stuck;
    CHECK(code_of(stuck.runner->get("x", 20ms)) == Errc::timeout);
    const auto start = Clock::now();
    stuck.runner.reset();
    CHECK(since(start) < 5s);
    CHECK(stuck.gate->gone == 0);
    stuck.gate->release();
    CHECK(stuck.gate->wait_gone());
}
