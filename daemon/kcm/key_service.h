// SPDX-License-Identifier: Apache-2.0
// Keys for volumes: from the cache, else from the provider within its deadline.
#pragma once

#include <mutex>

#include "keys/cache.h"
#include "keys/provider.h"
#include "volume/header.h"

namespace dek::kcm {

struct KeyLimits {
    std::chrono::seconds lifetime{300}; // 0: nothing is cached
    std::size_t keys = 64;
    std::chrono::milliseconds provider_timeout{10000};
};

// Thread-safe. A provider that hangs costs each caller the deadline; the cache goes on working.
class KeyService {
  public:
    using Clock = keys::KeyCache::Clock;
    KeyService(std::unique_ptr<keys::Provider> provider, const KeyLimits& limits);

    std::string provider() const { return runner_.name(); }
    // The key a header names; Errc::wrong_key when it does not have the header's check value.
    Result<Secret> material(const volume::HeaderKey& key);
    // A key for a new volume, or by hand: by ID.
    Result<Secret> material(const std::string& id);
    Result<keys::KeyInfo> info(const std::string& id_or_name);
    Result<std::vector<keys::KeyInfo>> list();
    // Drawn here; bits 256 or 512.
    Result<keys::KeyInfo> create(const std::string& name, std::uint32_t bits,
                                 const std::map<std::string, std::string>& attributes);
    Result<keys::KeyInfo> put(const std::string& name, Secret material,
                              const std::map<std::string, std::string>& attributes);
    // Leaves the cache as well.
    Result<keys::KeyInfo> set_state(const std::string& id, keys::KeyState state);
    // By the transitions that are allowed, to destroyed.
    Result<keys::KeyInfo> destroy(const std::string& id);

    std::size_t flush(); // how many were there
    void forget(const std::string& id);
    void expire();
    std::optional<Clock::time_point> next_expiry();
    std::size_t cached();
    std::chrono::seconds lifetime() const { return limits_.lifetime; }

  private:
    KeyLimits limits_;
    keys::ProviderRunner runner_;
    std::mutex mutex_; // of the cache; never held during a provider's call
    keys::KeyCache cache_;
    // Counts calls of forget() and flush(): what was asked for before the last one is not stored.
    std::uint64_t forgotten_ = 0;
};

} // namespace dek::kcm
