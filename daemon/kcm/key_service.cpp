// SPDX-License-Identifier: Apache-2.0
#include "kcm/key_service.h"

namespace dek::kcm {

using keys::KeyInfo;
using keys::KeyState;

KeyService::KeyService(std::unique_ptr<keys::Provider> provider, const KeyLimits& limits)
    : limits_(limits), runner_(std::move(provider)), cache_(limits.keys, limits.lifetime) {}

Result<Secret> KeyService::material(const std::string& id) {
    std::uint64_t asked = 0;
    {
        const std::lock_guard lock(mutex_);
        if (auto cached = cache_.find(id))
            return std::move(*cached);
        asked = forgotten_;
    }
    auto key = runner_.get(id, limits_.provider_timeout);
    if (!key)
        return tl::unexpected(key.error());
    if (limits_.lifetime.count() > 0) {
        const std::lock_guard lock(mutex_);
        if (asked == forgotten_)
            cache_.store(id, key->material.clone());
    }
    return std::move(key->material);
}

Result<Secret> KeyService::material(const volume::HeaderKey& key) {
    auto material = this->material(key.id);
    if (material && !volume::key_matches(key, *material)) {
        forget(key.id);
        return fail(Errc::wrong_key, "key " + key.id + " of provider " + runner_.name() +
                                         " is not the key this volume was made with");
    }
    return material;
}

Result<KeyInfo> KeyService::info(const std::string& id_or_name) {
    return runner_.info(id_or_name, limits_.provider_timeout);
}

Result<std::vector<KeyInfo>> KeyService::list() {
    return runner_.list(limits_.provider_timeout);
}

Result<KeyInfo> KeyService::create(const std::string& name, std::uint32_t bits,
                                   const std::map<std::string, std::string>& attributes) {
    if (bits != 256 && bits != 512)
        return fail(Errc::invalid_argument,
                    "a key has 512 bits (AES-256-XTS) or 256 (AES-128-XTS)");
    return put(name, Secret::random(bits / 8), attributes);
}

Result<KeyInfo> KeyService::put(const std::string& name, Secret material,
                                const std::map<std::string, std::string>& attributes) {
    return runner_.put(name, std::move(material), attributes, limits_.provider_timeout);
}

Result<KeyInfo> KeyService::set_state(const std::string& id, KeyState state) {
    forget(id);
    auto info = runner_.set_state(id, state, limits_.provider_timeout);
    forget(id); // also where it failed: a provider that ran out of time may still have done it
    return info;
}

Result<KeyInfo> KeyService::destroy(const std::string& id) {
    auto info = this->info(id);
    if (!info || info->state == KeyState::destroyed)
        return info;
    if (info->state == KeyState::active) // NIST SP 800-57 has no way from there to destroyed
        if (auto left = set_state(info->id, KeyState::deactivated); !left)
            return left;
    return set_state(info->id, KeyState::destroyed);
}

std::size_t KeyService::flush() {
    const std::lock_guard lock(mutex_);
    const std::size_t n = cache_.size();
    forgotten_++;
    cache_.flush();
    return n;
}

void KeyService::forget(const std::string& id) {
    const std::lock_guard lock(mutex_);
    forgotten_++;
    cache_.forget(id);
}

void KeyService::expire() {
    const std::lock_guard lock(mutex_);
    cache_.expire();
}

std::optional<KeyService::Clock::time_point> KeyService::next_expiry() {
    const std::lock_guard lock(mutex_);
    return cache_.next_expiry();
}

std::size_t KeyService::cached() {
    const std::lock_guard lock(mutex_);
    return cache_.size();
}

} // namespace dek::kcm
