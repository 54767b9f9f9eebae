// SPDX-License-Identifier: Apache-2.0
// Key states, what a key may be called, and deadlines.
#include "keys/provider.h"

#include <algorithm>
#include <array>

namespace dek::keys {
namespace {

constexpr std::array states{KeyState::pre_active, KeyState::active, KeyState::deactivated,
                            KeyState::compromised, KeyState::destroyed};

bool printable(std::string_view text) {
    return std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; });
}

bool looks_like_id(std::string_view text) {
    return text.size() == 32 && std::all_of(text.begin(), text.end(), [](char c) {
               return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
           });
}

bool allowed(KeyState from, KeyState to) {
    switch (from) {
    case KeyState::pre_active:
        return to == KeyState::active || to == KeyState::compromised || to == KeyState::destroyed;
    case KeyState::active:
        return to == KeyState::deactivated || to == KeyState::compromised;
    case KeyState::deactivated:
        return to == KeyState::compromised || to == KeyState::destroyed;
    case KeyState::compromised:
        return to == KeyState::destroyed;
    case KeyState::destroyed:
        break;
    }
    return false;
}

} // namespace

const char* state_name(KeyState state) {
    switch (state) {
    case KeyState::pre_active:
        return "pre-active";
    case KeyState::active:
        return "active";
    case KeyState::deactivated:
        return "deactivated";
    case KeyState::compromised:
        return "compromised";
    case KeyState::destroyed:
        break;
    }
    return "destroyed";
}

std::optional<KeyState> state_of(std::string_view name) {
    for (const KeyState state : states)
        if (name == state_name(state))
            return state;
    return std::nullopt;
}

Result<void> check_key_id(const std::string& id) {
    if (id.empty() || id.size() > 64 || !printable(id) || id.find(' ') != std::string::npos)
        return fail(Errc::invalid_argument,
                    "a key ID is 1 to 64 printable ASCII characters without spaces");
    return {};
}

Result<void> check_key_name(const std::string& name) {
    if (name.empty())
        return {};
    if (name.size() > 64 || !printable(name) || name.front() == ' ' || name.back() == ' ')
        return fail(Errc::invalid_argument, "a key name is up to 64 printable ASCII characters "
                                            "without a space at either end");
    if (looks_like_id(name))
        return fail(Errc::invalid_argument, "a key name of 32 hex digits would read as a key ID");
    return {};
}

Result<void> check_key_attributes(const std::map<std::string, std::string>& attributes) {
    if (attributes.size() > 64)
        return fail(Errc::invalid_argument, "a key has at most 64 attributes");
    for (const auto& [name, value] : attributes) {
        if (name.empty() || !check_key_name(name) || name.find('=') != std::string::npos)
            return fail(Errc::invalid_argument, "an attribute's name is 1 to 64 printable ASCII "
                                                "characters without '=' or a space at either end");
        if (value.size() > 1024 || !printable(value))
            return fail(Errc::invalid_argument,
                        "an attribute's value is at most 1024 printable ASCII characters");
    }
    return {};
}

Result<void> check_key_material(const Secret& material) {
    if (material.size() != 32 && material.size() != 64)
        return fail(Errc::invalid_argument,
                    "a key has 32 bytes (AES-128-XTS) or 64 bytes (AES-256-XTS), not " +
                        std::to_string(material.size()));
    // A copy of one half, because equals() is what compares in constant time.
    const std::size_t half = material.size() / 2;
    if (Secret::copy_of(material.bytes().first(half)).equals(material.bytes().subspan(half)))
        return fail(Errc::invalid_argument, "the two halves of an XTS key must differ");
    return {};
}

Result<void> check_transition(KeyState from, KeyState to) {
    if (from == to)
        return fail(Errc::refused, std::string("the key is ") + state_name(from) + " already");
    if (!allowed(from, to))
        return fail(Errc::refused, std::string("a key that is ") + state_name(from) +
                                       " cannot become " + state_name(to));
    return {};
}

Result<void> check_usable(const KeyInfo& info) {
    if (info.state == KeyState::pre_active || info.state == KeyState::destroyed)
        return fail(Errc::refused, "key " + info.id + " is " + state_name(info.state));
    return {};
}

Deadline::Deadline(Clock::duration from_now) : until_(Clock::now()) {
    // Saturates, so that "for ever" is not in the past.
    if (from_now > Clock::time_point::max() - until_)
        until_ = Clock::time_point::max();
    else
        until_ += from_now;
}

void Deadline::cancel() noexcept {
    cancelled_.store(true, std::memory_order_release);
}

bool Deadline::expired() const noexcept {
    return cancelled_.load(std::memory_order_acquire) || Clock::now() >= until_;
}

Deadline::Clock::duration Deadline::left() const noexcept {
    if (cancelled_.load(std::memory_order_acquire))
        return Clock::duration::zero();
    return std::max(until_ - Clock::now(), Clock::duration::zero());
}

} // namespace dek::keys
