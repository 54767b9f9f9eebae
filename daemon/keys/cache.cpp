// SPDX-License-Identifier: Apache-2.0
// A list in order of use, and an index into it.
#include "keys/cache.h"

#include <algorithm>

namespace dek::keys {

KeyCache::KeyCache(std::size_t capacity, Clock::duration lifetime,
                   std::function<Clock::time_point()> now)
    : capacity_(capacity), lifetime_(lifetime), now_(std::move(now)) {}

void KeyCache::store(const std::string& id, Secret key) {
    expire();
    forget(id);
    if (capacity_ == 0)
        return;
    if (entries_.size() == capacity_)
        forget(std::string(entries_.back().id)); // a copy: the entry goes while its ID is needed
    entries_.push_front(Entry{id, std::move(key), now_() + lifetime_});
    by_id_[id] = entries_.begin();
}

std::optional<Secret> KeyCache::find(const std::string& id) {
    expire();
    const auto found = by_id_.find(id);
    if (found == by_id_.end())
        return std::nullopt;
    entries_.splice(entries_.begin(), entries_, found->second);
    return found->second->key.clone();
}

void KeyCache::forget(const std::string& id) {
    const auto found = by_id_.find(id);
    if (found == by_id_.end())
        return;
    entries_.erase(found->second);
    by_id_.erase(found);
}

void KeyCache::flush() noexcept {
    by_id_.clear();
    entries_.clear();
}

void KeyCache::expire() {
    const auto now = now_();
    for (auto entry = entries_.begin(); entry != entries_.end();) {
        if (entry->until > now) {
            ++entry;
            continue;
        }
        by_id_.erase(entry->id);
        entry = entries_.erase(entry);
    }
}

std::optional<KeyCache::Clock::time_point> KeyCache::next_expiry() const {
    const auto first =
        std::min_element(entries_.begin(), entries_.end(),
                         [](const Entry& a, const Entry& b) { return a.until < b.until; });
    if (first == entries_.end())
        return std::nullopt;
    return first->until;
}

} // namespace dek::keys
