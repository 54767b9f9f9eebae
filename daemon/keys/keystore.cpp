// SPDX-License-Identifier: Apache-2.0
// Making, opening, sealing and unsealing a keystore, and its slots.
#include "keys/keystore.h"

#include <cerrno>
#include <ctime>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/durable.h"
#include "keys/keystore_impl.h"
#include "keys/recovery.h"

namespace dek::keys {
namespace {

constexpr std::size_t most_slots = 32; // each passphrase among them costs an Argon2id to try

bool exists(const std::string& path) {
    struct stat about {};
    return ::lstat(path.c_str(), &about) == 0;
}

Result<Enrolment> enrolment_of(const Unsealer& unsealer, std::uint32_t slot) {
    auto hint = hint_of(unsealer);
    if (!hint)
        return tl::unexpected(hint.error());
    return Enrolment{slot, kind_of(unsealer), std::move(*hint), std::time(nullptr)};
}

// Everything a new keystore has, in the empty file `path`.
Result<void> fill(const std::string& path, ByteView store, const Slot& slot,
                  const MasterKeys& keys) {
    auto database = Database::open(path, Database::Mode::scratch);
    if (!database)
        return tl::unexpected(database.error());
    auto transaction = Transaction::begin(*database);
    if (!transaction)
        return tl::unexpected(transaction.error());
    auto filled = create_schema(*database, store);
    if (filled)
        filled = insert_slot(*database, slot);
    if (filled)
        filled = update_root(*database, store, keys);
    return filled ? transaction->commit() : filled;
}

Result<MasterKeys> build(const std::string& path, const Unsealer& first, const Argon2Cost& cost) {
    auto enrolment = enrolment_of(first, 1);
    if (!enrolment)
        return tl::unexpected(enrolment.error());
    auto secret = new_unsealer_secret(first);
    if (!secret)
        return tl::unexpected(secret.error());
    const Bytes store = random_bytes(16);
    auto keys = MasterKeys::derive(Secret::random(wrap_key_size), store);
    if (!keys)
        return keys;
    auto slot = make_slot(store, *enrolment, *secret, cost, keys->master);
    if (!slot)
        return tl::unexpected(slot.error());
    auto fresh = FreshFile::beside(path);
    if (!fresh)
        return tl::unexpected(fresh.error());
    auto built = fill(fresh->path(), store, *slot, *keys);
    if (built)
        built = fresh->install(path, true);
    if (!built)
        return tl::unexpected(built.error());
    return keys;
}

// A second slot for the same is one that goes on unsealing after "it" was removed. Told by trying:
// a passphrase leaves no other trace.
Result<void> check_not_enrolled(ByteView store, const std::vector<Slot>& slots,
                                const Enrolment& wanted, const Secret& secret) {
    for (const Slot& slot : slots)
        if (slot.enrolment.kind == wanted.kind && slot.enrolment.hint == wanted.hint &&
            open_slot(store, slot, secret))
            return fail(Errc::exists, "slot " + std::to_string(slot.enrolment.slot) + " has this " +
                                          wanted.kind + " already");
    return {};
}

} // namespace

Result<Fd> lock_keystore(const std::string& path) {
    const std::string name = path + ".lock";
    Fd lock(::open(name.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!lock)
        return fail_errno(errno, name + " cannot be opened");
    if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0)
        return fail_errno(errno, path + " is in use by another process");
    return lock;
}

Result<std::unique_ptr<Keystore::Impl>> Keystore::Impl::open(const std::string& path, Fd lock,
                                                             Database::Mode mode) {
    auto impl = std::make_unique<Impl>();
    impl->path = path;
    impl->lock = std::move(lock);
    auto database = Database::open(path, mode);
    if (!database)
        return tl::unexpected(database.error());
    impl->database = std::move(*database);
    auto checked = check_schema(impl->database);
    if (!checked)
        return tl::unexpected(checked.error());
    auto store = read_store_uuid(impl->database);
    if (!store)
        return tl::unexpected(store.error());
    impl->store = std::move(*store);
    return impl;
}

Result<void> Keystore::Impl::adopt(Secret master) {
    auto derived = MasterKeys::derive(std::move(master), store);
    if (!derived)
        return tl::unexpected(derived.error());
    keys = std::move(*derived);
    return {};
}

Result<void> Keystore::Impl::unseal(const Unsealer& with) {
    auto secret = unsealer_secret(with);
    auto slots = read_slots(database);
    if (!secret || !slots)
        return tl::unexpected(secret ? slots.error() : secret.error());
    const std::string kind = kind_of(with);
    Error failure{Errc::wrong_key, "no enrolled " + kind + " matches"};
    for (const Slot& slot : *slots) {
        if (slot.enrolment.kind != kind)
            continue;
        auto master = open_slot(store, slot, *secret);
        if (master)
            return adopt(std::move(*master));
        if (master.error().code != Errc::wrong_key)
            failure = master.error();
    }
    return tl::unexpected(failure);
}

Result<void> Keystore::Impl::require_unsealed() const {
    if (!keys)
        return fail(Errc::locked, "the keystore " + path + " is sealed");
    return {};
}

Keystore::Keystore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Keystore::~Keystore() = default;

Result<std::unique_ptr<Keystore>> Keystore::init(const std::string& path, const Unsealer& first,
                                                 const Argon2Cost& cost) {
    if (std::holds_alternative<RecoveryUnsealer>(first))
        return fail(Errc::invalid_argument,
                    "a recovery key is enrolled once the keystore is there, not to begin with");
    if (exists(path))
        return fail(Errc::exists, path + " exists already");
    auto lock = lock_keystore(path);
    if (!lock)
        return tl::unexpected(lock.error());
    auto keys = build(path, first, cost);
    if (!keys)
        return tl::unexpected(keys.error());
    auto impl = Impl::open(path, std::move(*lock), Database::Mode::durable);
    if (!impl)
        return tl::unexpected(impl.error());
    (*impl)->keys = std::move(*keys);
    return std::unique_ptr<Keystore>(new Keystore(std::move(*impl)));
}

Result<std::unique_ptr<Keystore>> Keystore::open(const std::string& path) {
    struct stat about {};
    if (::stat(path.c_str(), &about) != 0)
        return fail_errno(errno, path + " cannot be opened");
    if (!S_ISREG(about.st_mode))
        return fail(Errc::corrupt, path + " is not a regular file");
    auto lock = lock_keystore(path);
    if (!lock)
        return tl::unexpected(lock.error());
    auto impl = Impl::open(path, std::move(*lock), Database::Mode::durable);
    if (!impl)
        return tl::unexpected(impl.error());
    return std::unique_ptr<Keystore>(new Keystore(std::move(*impl)));
}

bool Keystore::sealed() const {
    return !impl_->keys;
}
Result<void> Keystore::unseal(const Unsealer& with) {
    return impl_->unseal(with);
}
void Keystore::seal() noexcept {
    impl_->keys.reset();
}

Result<void> Keystore::unseal_automatically() {
    auto slots = read_slots(impl_->database);
    if (!slots)
        return tl::unexpected(slots.error());
    std::string reasons;
    for (const Slot& slot : *slots) {
        const auto unsealer = unsealer_of(slot.enrolment);
        if (!unsealer)
            continue;
        auto secret = unsealer_secret(*unsealer);
        auto master = secret ? open_slot(impl_->store, slot, *secret)
                             : Result<Secret>(tl::unexpected(secret.error()));
        if (master)
            return impl_->adopt(std::move(*master));
        reasons += "; slot " + std::to_string(slot.enrolment.slot) + ": " + master.error().reason;
    }
    return fail(Errc::locked,
                "no enrolled file or credential unseals the keystore " + impl_->path + reasons);
}

Result<Secret> Keystore::enrol(const Unsealer& with, const Argon2Cost& cost) {
    if (auto open = impl_->require_unsealed(); !open)
        return tl::unexpected(open.error());
    const auto* recovery = std::get_if<RecoveryUnsealer>(&with);
    if (recovery != nullptr && !recovery->text.empty())
        return fail(Errc::invalid_argument, "a recovery key is drawn, it cannot be chosen");
    auto slots = read_slots(impl_->database);
    if (!slots)
        return tl::unexpected(slots.error());
    if (slots->size() >= most_slots)
        return fail(Errc::refused, "the keystore has 32 enrolments already");
    const std::uint32_t number = slots->empty() ? 1 : slots->back().enrolment.slot + 1;
    auto enrolment = enrolment_of(with, number);
    if (!enrolment)
        return tl::unexpected(enrolment.error());
    auto secret = recovery != nullptr ? Result<Secret>(Secret::random(recovery_key_size))
                                      : new_unsealer_secret(with);
    if (!secret)
        return secret;
    if (auto fresh = check_not_enrolled(impl_->store, *slots, *enrolment, *secret); !fresh)
        return tl::unexpected(fresh.error());
    auto slot = make_slot(impl_->store, *enrolment, *secret, cost, impl_->keys->master);
    if (!slot)
        return tl::unexpected(slot.error());
    // One statement is a transaction of its own, durable when it is done.
    if (auto written = insert_slot(impl_->database, *slot); !written)
        return tl::unexpected(written.error());
    return recovery != nullptr ? recovery_text(*secret) : Secret();
}

Result<void> Keystore::remove(std::uint32_t slot) {
    if (auto open = impl_->require_unsealed(); !open)
        return open;
    auto enrolled = enrolments();
    if (!enrolled)
        return tl::unexpected(enrolled.error());
    bool found = false;
    for (const Enrolment& one : *enrolled)
        found = found || one.slot == slot;
    if (!found)
        return fail(Errc::not_found, "the keystore has no slot " + std::to_string(slot));
    if (enrolled->size() == 1)
        return fail(Errc::refused, "slot " + std::to_string(slot) +
                                       " is the last one: without it nothing unseals the keystore");
    return Statement(impl_->database, "DELETE FROM slots WHERE slot = ?").number(1, slot).run();
}

Result<std::vector<Enrolment>> Keystore::enrolments() const {
    auto slots = read_slots(impl_->database);
    if (!slots)
        return tl::unexpected(slots.error());
    std::vector<Enrolment> enrolled;
    for (Slot& slot : *slots)
        enrolled.push_back(std::move(slot.enrolment));
    return enrolled;
}

} // namespace dek::keys
