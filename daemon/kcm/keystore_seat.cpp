// SPDX-License-Identifier: Apache-2.0
#include "kcm/keystore_seat.h"

#include <unistd.h>

#include "base/log.h"

namespace dek::kcm {
namespace {

class SeatProvider : public keys::Provider {
  public:
    explicit SeatProvider(std::shared_ptr<KeystoreSeat> seat) : seat_(std::move(seat)) {}

    std::string name() const override { return "keystore"; }
    Result<Key> get(const std::string& id, const keys::Deadline& deadline) override {
        return seat_->with([&](keys::Keystore& store) { return store.get(id, deadline); });
    }
    Result<keys::KeyInfo> info(const std::string& id_or_name,
                               const keys::Deadline& deadline) override {
        return seat_->with([&](keys::Keystore& store) { return store.info(id_or_name, deadline); });
    }
    Result<std::vector<keys::KeyInfo>> list(const keys::Deadline& deadline) override {
        return seat_->with([&](keys::Keystore& store) { return store.list(deadline); });
    }
    Result<keys::KeyInfo> put(const std::string& name, Secret material,
                              const std::map<std::string, std::string>& attributes,
                              const keys::Deadline& deadline) override {
        return seat_->with([&](keys::Keystore& store) {
            return store.put(name, std::move(material), attributes, deadline);
        });
    }
    Result<keys::KeyInfo> set_state(const std::string& id, keys::KeyState state,
                                    const keys::Deadline& deadline) override {
        return seat_->with(
            [&](keys::Keystore& store) { return store.set_state(id, state, deadline); });
    }

  private:
    std::shared_ptr<KeystoreSeat> seat_;
};

} // namespace

Result<void> KeystoreSeat::open() {
    const std::lock_guard lock(mutex_);
    return open_locked();
}

Result<void> KeystoreSeat::open_locked() {
    store_.reset();
    set_trouble({});
    sealed_ = true;
    present_ = ::access(path_.c_str(), F_OK) == 0;
    if (!present_)
        return {};
    auto opened = keys::Keystore::open(path_);
    if (!opened) {
        set_trouble(opened.error());
        return tl::unexpected(opened.error());
    }
    store_ = std::move(*opened);
    if (auto unsealed = store_->unseal_automatically(); !unsealed)
        log_error("keystore-stays-sealed", unsealed.error(), {{"path", path_}});
    sealed_ = store_->sealed();
    return {};
}

std::optional<Error> KeystoreSeat::trouble() const {
    const std::lock_guard lock(trouble_mutex_);
    return trouble_;
}

void KeystoreSeat::set_trouble(std::optional<Error> trouble) {
    const std::lock_guard lock(trouble_mutex_);
    trouble_ = std::move(trouble);
}

Result<void> KeystoreSeat::init(const keys::Unsealer& first) {
    const std::lock_guard lock(mutex_);
    if (store_)
        return fail(Errc::exists, "there is a keystore at " + path_ + " already");
    auto made = keys::Keystore::init(path_, first);
    if (!made)
        return tl::unexpected(made.error());
    store_ = std::move(*made);
    set_trouble({});
    present_ = true;
    if (store_->sealed())
        if (auto unsealed = store_->unseal(first); !unsealed)
            return unsealed;
    sealed_ = store_->sealed();
    return {};
}

Result<void> KeystoreSeat::restore(const std::string& from, const keys::Unsealer& with,
                                   bool force) {
    const std::lock_guard lock(mutex_);
    store_.reset();
    auto done = keys::Keystore::restore(path_, from, with, force);
    auto reopened = open_locked();
    if (!done)
        return done;
    if (!reopened)
        return reopened;
    return sealed_ ? store_->unseal(with).map([this] { sealed_ = false; }) : Result<void>();
}

std::unique_ptr<keys::Provider> make_seat_provider(std::shared_ptr<KeystoreSeat> seat) {
    return std::make_unique<SeatProvider>(std::move(seat));
}

} // namespace dek::kcm
