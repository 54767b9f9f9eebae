// SPDX-License-Identifier: Apache-2.0
// The place where the embedded keystore sits: it may not be there yet, be sealed, or be replaced,
// while a provider that reads it stays the same.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>

#include "keys/keystore.h"

namespace dek::kcm {

// Thread-safe: every use of the keystore holds the seat's mutex.
class KeystoreSeat {
  public:
    explicit KeystoreSeat(std::string path) : path_(std::move(path)) {}

    const std::string& path() const { return path_; }
    bool present() const { return present_; } // its file is, whatever state it is in
    bool sealed() const { return sealed_; }   // true too when there is none, or none to be opened
    // Why the one that is there could not be opened. Does not wait for who uses the keystore.
    std::optional<Error> trouble() const;

    // Opens the keystore if its file is there, and unseals it by itself if it can; staying sealed
    // is no error.
    Result<void> open();
    Result<void> init(const keys::Unsealer& first);
    // Puts `from` in its place. The old one is closed and, when this fails, open again and sealed.
    Result<void> restore(const std::string& from, const keys::Unsealer& with, bool force);

    // f(keystore), or Errc::unavailable where there is none.
    template <class F>
    auto with(F&& f) -> decltype(f(std::declval<keys::Keystore&>())) {
        const std::lock_guard lock(mutex_);
        if (!store_)
            if (auto broken = trouble())
                return tl::unexpected(*broken);
        if (!store_)
            return fail(Errc::unavailable,
                        "there is no keystore at " + path_ + "; dekctl keystore init makes one");
        auto result = f(*store_);
        sealed_ = store_->sealed();
        return result;
    }

  private:
    Result<void> open_locked();
    void set_trouble(std::optional<Error> trouble);

    const std::string path_;
    std::mutex mutex_;
    std::unique_ptr<keys::Keystore> store_;
    mutable std::mutex trouble_mutex_; // taken last, and only for the moment
    std::optional<Error> trouble_;
    std::atomic<bool> present_{false};
    std::atomic<bool> sealed_{true};
};

// The seat as a provider, for ProviderRunner.
std::unique_ptr<keys::Provider> make_seat_provider(std::shared_ptr<KeystoreSeat> seat);

} // namespace dek::kcm
