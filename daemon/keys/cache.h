// SPDX-License-Identifier: Apache-2.0
// Volume keys for a while: lifetime from the moment of storing, least recently used goes first,
// flush on request.
#pragma once

#include <chrono>
#include <functional>
#include <list>
#include <optional>
#include <string>
#include <unordered_map>

#include "base/secret.h"

namespace dek::keys {

// Not thread-safe. Expired entries are wiped by expire(), which the owner's timer calls at
// next_expiry(), and by every other call.
class KeyCache {
  public:
    using Clock = std::chrono::steady_clock;
    KeyCache(std::size_t capacity, Clock::duration lifetime,
             std::function<Clock::time_point()> now = Clock::now);
    void store(const std::string& id, Secret key);
    std::optional<Secret> find(const std::string& id); // a clone
    void forget(const std::string& id);
    void flush() noexcept;
    void expire();
    std::optional<Clock::time_point> next_expiry() const;
    std::size_t size() const { return entries_.size(); }

  private:
    struct Entry {
        std::string id;
        Secret key;
        Clock::time_point until;
    };
    std::size_t capacity_;
    Clock::duration lifetime_;
    std::function<Clock::time_point()> now_;
    std::list<Entry> entries_; // most recently used first
    std::unordered_map<std::string, std::list<Entry>::iterator> by_id_;
};

} // namespace dek::keys
