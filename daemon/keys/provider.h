// SPDX-License-Identifier: Apache-2.0
// What a key provider is: the interface every source of keys implements (the embedded keystore
// today; KMIP, TPM2, PKCS#11, split keys) and the conformance suite in tests/keys/ holds each of
// them to.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/secret.h"

namespace dek::keys {

// NIST SP 800-57 part 1, section 7, and KMIP 2.1 section 4.57.
enum class KeyState { pre_active, active, deactivated, compromised, destroyed };
const char* state_name(KeyState state); // "pre-active", ...
std::optional<KeyState> state_of(std::string_view name);

struct KeyInfo {
    std::string id;   // opaque text, at most 64 bytes; ours are 32 hex digits
    std::string name; // unique among keys that are not destroyed, or empty
    KeyState state = KeyState::pre_active;
    std::string algorithm = "AES";
    std::uint32_t bits = 0;   // of the whole XTS key: 256 (AES-128-XTS) or 512 (AES-256-XTS)
    std::int64_t created = 0; // seconds since the epoch
    std::int64_t changed = 0;
    std::map<std::string, std::string> attributes;
};

// The rules every provider keeps, as checks that say what is wrong.
// IDs: 1 to 64 printable ASCII characters without spaces.
Result<void> check_key_id(const std::string& id);
// Names: empty, or up to 64 printable ASCII characters, no space at either end, and not 32 hex
// digits (that would read as an ID).
Result<void> check_key_name(const std::string& name);
// At most 64 attributes; names as key names but not empty and without '=', values up to 1024
// printable ASCII characters.
Result<void> check_key_attributes(const std::map<std::string, std::string>& attributes);
// 32 or 64 bytes whose halves differ (IEEE 1619).
Result<void> check_key_material(const Secret& material);
// pre-active -> active, compromised, destroyed; active -> deactivated, compromised; deactivated ->
// compromised, destroyed; compromised -> destroyed. So an active key is deactivated before it can
// be destroyed. Errc::refused.
Result<void> check_transition(KeyState from, KeyState to);
// Errc::refused for pre-active and destroyed. Deactivated and compromised keys are given out, so
// that what they encrypted can be read: a caller that makes something new looks at info.state.
Result<void> check_usable(const KeyInfo& info);

// A deadline, and a way to give up before it. Shared between the caller and the thread that works;
// cancel() may be called from any thread.
class Deadline {
  public:
    using Clock = std::chrono::steady_clock;
    explicit Deadline(
        Clock::duration from_now); // none is too long; zero or less has passed already
    void cancel() noexcept;
    bool expired() const noexcept;         // passed or cancelled
    Clock::duration left() const noexcept; // zero when expired

  private:
    Clock::time_point until_;
    std::atomic<bool> cancelled_{false};
};

// Every call honours its deadline: it returns Errc::timeout as soon as it can once that has
// expired. Providers need not be thread-safe; ProviderRunner below serialises and bounds them.
class Provider {
  public:
    virtual ~Provider() = default;
    virtual std::string name() const = 0; // "keystore"; stands in volume headers as the hint
    // Key material and its info; Errc::unknown_key, locked, refused (state forbids use), timeout.
    struct Key {
        KeyInfo info;
        Secret material;
    };
    virtual Result<Key> get(const std::string& id, const Deadline& deadline) = 0;
    virtual Result<KeyInfo> info(const std::string& id_or_name, const Deadline& deadline) = 0;
    virtual Result<std::vector<KeyInfo>> list(const Deadline& deadline) = 0;
    // material of 32 or 64 bytes; durable before it returns.
    virtual Result<KeyInfo> put(const std::string& name, Secret material,
                                const std::map<std::string, std::string>& attributes,
                                const Deadline& deadline) = 0;
    // Only the transitions NIST SP 800-57 allows; to `destroyed` wipes the material for good.
    virtual Result<KeyInfo> set_state(const std::string& id, KeyState state,
                                      const Deadline& deadline) = 0;
};

// Runs a provider on a thread of its own, so that one that hangs costs its caller the deadline and
// no more: the call comes back with Errc::timeout while the provider may still be stuck, and
// further calls answer `unavailable` at once until it is free again. A call that came back with
// Errc::timeout may still take effect later, when the provider does not honour its deadline.
// Thread-safe; calls take turns, and a turn that does not come before the deadline is Errc::timeout
// too. Destroying it cancels the call under way and waits up to 1 s; a provider that is stuck
// longer keeps its thread, and itself, until it returns or the process ends. No call may be under
// way in another thread then.
class ProviderRunner {
  public:
    explicit ProviderRunner(std::unique_ptr<Provider> provider);
    ~ProviderRunner();
    ProviderRunner(const ProviderRunner&) = delete;
    ProviderRunner& operator=(const ProviderRunner&) = delete;
    std::string name() const;
    Result<Provider::Key> get(const std::string& id, std::chrono::milliseconds timeout);
    Result<KeyInfo> info(const std::string& id_or_name, std::chrono::milliseconds timeout);
    Result<std::vector<KeyInfo>> list(std::chrono::milliseconds timeout);
    Result<KeyInfo> put(const std::string& name, Secret material,
                        const std::map<std::string, std::string>& attributes,
                        std::chrono::milliseconds timeout);
    Result<KeyInfo> set_state(const std::string& id, KeyState state,
                              std::chrono::milliseconds timeout);
    void cancel(); // the call under way, if any

  private:
    struct State;
    template <class T>
    Result<T> call(std::chrono::milliseconds timeout,
                   std::function<Result<T>(Provider&, const Deadline&)> work);
    std::shared_ptr<State> state_;
};

} // namespace dek::keys
