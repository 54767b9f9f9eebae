// SPDX-License-Identifier: Apache-2.0
// A provider on a thread of its own. Caller and thread share the State, so that either may outlive
// the other.
#include "keys/provider.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace dek::keys {
namespace {

using namespace std::chrono_literals;

// A provider that honours its deadline answers just after it: that answer is worth this wait.
constexpr auto grace = 20ms;
constexpr auto farewell = 1s;

} // namespace

// `mutex` guards everything but `provider`, which only the thread touches once it runs.
struct ProviderRunner::State {
    std::mutex mutex;
    std::condition_variable changed;
    std::unique_ptr<Provider> provider;
    std::string name;
    std::function<void(Provider&)> job; // set by a caller, taken by the thread
    std::shared_ptr<Deadline> deadline; // of the call under way
    bool occupied = false;              // a call is under way, its caller waiting or gone
    bool abandoned = false;             // its caller is gone
    bool stop = false;
    bool ended = false;

    void serve() {
        std::unique_lock lock(mutex);
        for (;;) {
            changed.wait(lock, [&] { return stop || job; });
            if (!job)
                break;
            auto work = std::exchange(job, nullptr);
            lock.unlock();
            work(*provider);
            work = nullptr; // what nobody fetched is wiped before the next call
            lock.lock();
            occupied = abandoned = false;
            deadline = nullptr;
            changed.notify_all();
        }
        lock.unlock();
        provider.reset();
        lock.lock();
        ended = true;
        changed.notify_all();
    }
};

ProviderRunner::ProviderRunner(std::unique_ptr<Provider> provider)
    : state_(std::make_shared<State>()) {
    state_->name = provider->name();
    state_->provider = std::move(provider);
    std::thread([state = state_] { state->serve(); }).detach();
}

ProviderRunner::~ProviderRunner() {
    std::unique_lock lock(state_->mutex);
    state_->stop = true;
    if (state_->deadline)
        state_->deadline->cancel();
    state_->changed.notify_all();
    state_->changed.wait_for(lock, farewell, [&] { return state_->ended; });
}

std::string ProviderRunner::name() const {
    return state_->name;
}

void ProviderRunner::cancel() {
    const std::lock_guard lock(state_->mutex);
    if (state_->deadline)
        state_->deadline->cancel();
    state_->changed.notify_all();
}

template <class T>
Result<T> ProviderRunner::call(std::chrono::milliseconds timeout,
                               std::function<Result<T>(Provider&, const Deadline&)> work) {
    State& state = *state_;
    const auto bounded = std::clamp<std::chrono::milliseconds>(timeout, 0ms, 24h);
    const auto deadline = std::make_shared<Deadline>(bounded);
    const auto until = Deadline::Clock::now() + bounded;
    const auto late = [&](const char* what) { return fail(Errc::timeout, state.name + what); };

    std::unique_lock lock(state.mutex);
    state.changed.wait_until(lock, until, [&] { return !state.occupied || state.abandoned; });
    if (state.abandoned)
        return fail(Errc::unavailable, state.name + " does not answer: an earlier call is stuck");
    if (state.occupied || deadline->expired())
        return late(" was not free before the deadline");

    const auto answer = std::make_shared<std::optional<Result<T>>>();
    state.occupied = true;
    state.deadline = deadline;
    state.job = [work = std::move(work), answer, deadline, shared = state_](Provider& provider) {
        std::optional<Result<T>> result;
        try {
            result = work(provider, *deadline);
        } catch (...) {
            result = fail(Errc::internal, shared->name + " failed unexpectedly");
        }
        const std::lock_guard guard(shared->mutex);
        *answer = std::move(result);
        shared->changed.notify_all();
    };
    state.changed.notify_all();
    const auto answered = [&] { return answer->has_value(); };
    state.changed.wait_until(lock, until, [&] { return answered() || deadline->expired(); });
    deadline->cancel();
    if (!state.changed.wait_for(lock, grace, answered)) {
        state.abandoned = true;
        state.changed.notify_all(); // those who wait for their turn need not
        return late(" did not answer before the deadline");
    }
    return std::move(**answer);
}

Result<Provider::Key> ProviderRunner::get(const std::string& id,
                                          std::chrono::milliseconds timeout) {
    return call<Provider::Key>(timeout, [id](Provider& provider, const Deadline& deadline) {
        return provider.get(id, deadline);
    });
}

Result<KeyInfo> ProviderRunner::info(const std::string& id_or_name,
                                     std::chrono::milliseconds timeout) {
    return call<KeyInfo>(timeout, [id_or_name](Provider& provider, const Deadline& deadline) {
        return provider.info(id_or_name, deadline);
    });
}

Result<std::vector<KeyInfo>> ProviderRunner::list(std::chrono::milliseconds timeout) {
    return call<std::vector<KeyInfo>>(timeout, [](Provider& provider, const Deadline& deadline) {
        return provider.list(deadline);
    });
}

Result<KeyInfo> ProviderRunner::put(const std::string& name, Secret material,
                                    const std::map<std::string, std::string>& attributes,
                                    std::chrono::milliseconds timeout) {
    // std::function wants what it holds copyable; the material is not.
    const auto shared = std::make_shared<Secret>(std::move(material));
    return call<KeyInfo>(timeout,
                         [name, shared, attributes](Provider& provider, const Deadline& deadline) {
                             return provider.put(name, std::move(*shared), attributes, deadline);
                         });
}

Result<KeyInfo> ProviderRunner::set_state(const std::string& id, KeyState state,
                                          std::chrono::milliseconds timeout) {
    return call<KeyInfo>(timeout, [id, state](Provider& provider, const Deadline& deadline) {
        return provider.set_state(id, state, deadline);
    });
}

} // namespace dek::keys
