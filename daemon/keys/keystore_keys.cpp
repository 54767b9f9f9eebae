// SPDX-License-Identifier: Apache-2.0
// The keystore as a key provider: its records, and the header sequence numbers.
#include <algorithm>
#include <ctime>

#include "keys/export.h"
#include "keys/keystore_impl.h"

namespace dek::keys {
namespace {

std::string random_id() {
    static constexpr char digits[] = "0123456789abcdef";
    std::string id;
    for (const std::uint8_t byte : random_bytes(16)) {
        id += digits[byte >> 4];
        id += digits[byte & 15];
    }
    return id;
}

Result<void> in_time(const Deadline& deadline) {
    if (deadline.expired())
        return fail(Errc::timeout, "the keystore did not answer before the deadline");
    return {};
}

// Reading and writing rows of a local file: nothing here waits for anybody.
const Deadline& endless() {
    static const Deadline deadline(Deadline::Clock::duration::max());
    return deadline;
}

tl::unexpected<Error> unknown(const std::string& id) {
    return fail(Errc::unknown_key, "the keystore has no key " + id);
}

// Whoever names a key gives its ID or its name: neither may be either of another key.
Result<void> check_unlike(const Database& database, const KeyInfo& info) {
    auto known = find_record(database, info.id);
    auto named = find_named_record(database, info.name);
    auto known_as_name = find_named_record(database, info.id);
    auto named_as_id = find_record(database, info.name);
    for (const auto* found : {&known, &named, &known_as_name, &named_as_id})
        if (!*found)
            return tl::unexpected(found->error());
    if (*known && (*known)->info.state == KeyState::destroyed)
        return fail(Errc::exists, "key " + info.id +
                                      " was destroyed, and what this keystore has "
                                      "destroyed it never takes in again");
    if (*known)
        return fail(Errc::exists, "the keystore has a key " + info.id + " already");
    if (!info.name.empty() && *named)
        return fail(Errc::exists, "a key with the name " + info.name + " exists already");
    if (*known_as_name)
        return fail(Errc::exists, "the ID " + info.id + " is the name of key " +
                                      (*known_as_name)->info.id + " already");
    if (*named_as_id)
        return fail(Errc::exists, "the name " + info.name + " is the ID of a key already");
    return {};
}

Result<void> check_volume(const std::string& uuid) {
    if (!check_key_id(uuid))
        return fail(Errc::invalid_argument, "that is no volume UUID");
    return {};
}

} // namespace

Result<void> Keystore::Impl::ready(const Deadline& deadline) const {
    auto usable = require_unsealed();
    if (usable)
        usable = in_time(deadline);
    return usable ? verify_root(database, store, *keys) : usable;
}

Result<Provider::Key> Keystore::Impl::key(const std::string& id) const {
    auto record = find_record(database, id);
    if (!record)
        return tl::unexpected(record.error());
    if (!*record)
        return unknown(id);
    auto material = open_record(keys->wrap, store, **record);
    if (!material)
        return tl::unexpected(material.error());
    return Key{std::move((*record)->info), std::move(*material)};
}

// With the progress handler gone before COMMIT: from there on it is done or it has failed.
Result<KeyInfo> Keystore::Impl::insert(const KeyInfo& info, const Secret& material,
                                       const Deadline& deadline) {
    auto transaction = Transaction::begin(database);
    if (!transaction)
        return tl::unexpected(transaction.error());
    auto done = ready(deadline);
    if (done)
        done = check_unlike(database, info);
    if (!done)
        return tl::unexpected(done.error());
    auto record = make_record(keys->wrap, store, info, material);
    if (!record)
        return tl::unexpected(record.error());
    done = insert_record(database, *record);
    if (done)
        done = update_root(database, store, *keys);
    if (done)
        done = in_time(deadline);
    if (done)
        done = transaction->commit();
    if (!done)
        return tl::unexpected(done.error());
    return info;
}

Result<Provider::Key> Keystore::get(const std::string& id, const Deadline& deadline) {
    const DeadlineGuard guard(impl_->database, deadline);
    auto usable = check_key_id(id);
    if (usable)
        usable = impl_->ready(deadline);
    auto found = usable ? impl_->key(id) : tl::unexpected(usable.error());
    if (!found)
        return found;
    if (usable = check_usable(found->info); usable)
        usable = in_time(deadline);
    if (!usable)
        return tl::unexpected(usable.error());
    return found;
}

Result<KeyInfo> Keystore::info(const std::string& id_or_name, const Deadline& deadline) {
    const DeadlineGuard guard(impl_->database, deadline);
    if (!check_key_id(id_or_name) && (id_or_name.empty() || !check_key_name(id_or_name)))
        return fail(Errc::invalid_argument, "that is neither a key ID nor a key name");
    if (auto usable = impl_->ready(deadline); !usable)
        return tl::unexpected(usable.error());
    auto found = impl_->key(id_or_name);
    if (!found && found.error().code == Errc::unknown_key) {
        auto named = find_named_record(impl_->database, id_or_name);
        if (!named)
            return tl::unexpected(named.error());
        if (*named)
            found = impl_->key((*named)->info.id);
    }
    if (!found)
        return tl::unexpected(found.error());
    return std::move(found->info);
}

Result<std::vector<KeyInfo>> Keystore::list(const Deadline& deadline) {
    const DeadlineGuard guard(impl_->database, deadline);
    if (auto usable = impl_->ready(deadline); !usable)
        return tl::unexpected(usable.error());
    auto records = read_records(impl_->database);
    if (!records)
        return tl::unexpected(records.error());
    std::vector<KeyInfo> listed;
    for (Record& record : *records) {
        if (auto early = in_time(deadline); !early)
            return tl::unexpected(early.error());
        auto material = open_record(impl_->keys->wrap, impl_->store, record);
        if (!material)
            return tl::unexpected(material.error());
        listed.push_back(std::move(record.info));
    }
    return listed;
}

Result<KeyInfo> Keystore::put(const std::string& name, Secret material,
                              const std::map<std::string, std::string>& attributes,
                              const Deadline& deadline) {
    Key key{{}, std::move(material)};
    key.info.name = name;
    key.info.state = KeyState::active;
    key.info.attributes = attributes;
    return import(std::move(key), deadline);
}

Result<KeyInfo> Keystore::import(Key key, const Deadline& deadline) {
    const DeadlineGuard guard(impl_->database, deadline);
    KeyInfo& info = key.info;
    if (info.id.empty())
        info.id = random_id();
    info.changed = std::time(nullptr);
    if (info.created == 0)
        info.created = info.changed;
    info.bits = static_cast<std::uint32_t>(key.material.size() * 8);
    auto fit = check_key_id(info.id);
    if (fit)
        fit = check_key_name(info.name);
    if (fit)
        fit = check_key_attributes(info.attributes);
    if (fit)
        fit = check_key_material(key.material);
    if (fit && info.algorithm != "AES")
        fit = fail(Errc::invalid_argument, "only AES keys can be kept");
    if (fit && info.state == KeyState::destroyed)
        fit = fail(Errc::invalid_argument, "a destroyed key cannot be taken in");
    if (!fit)
        return tl::unexpected(fit.error());
    return impl_->insert(info, key.material, deadline);
}

Result<std::string> Keystore::twin_of(const Secret& material, const Deadline& deadline) {
    const DeadlineGuard guard(impl_->database, deadline);
    if (auto usable = impl_->ready(deadline); !usable)
        return tl::unexpected(usable.error());
    auto records = read_records(impl_->database);
    if (!records)
        return tl::unexpected(records.error());
    for (const Record& record : *records) {
        if (auto early = in_time(deadline); !early)
            return tl::unexpected(early.error());
        auto theirs = open_record(impl_->keys->wrap, impl_->store, record);
        if (!theirs)
            return tl::unexpected(theirs.error());
        if (record.info.state != KeyState::destroyed && theirs->equals(material.bytes()))
            return record.info.id;
    }
    return std::string();
}

Result<KeyInfo> Keystore::set_state(const std::string& id, KeyState state,
                                    const Deadline& deadline) {
    const DeadlineGuard guard(impl_->database, deadline);
    if (auto fit = check_key_id(id); !fit)
        return tl::unexpected(fit.error());
    auto transaction = Transaction::begin(impl_->database);
    if (!transaction)
        return tl::unexpected(transaction.error());
    auto done = impl_->ready(deadline);
    auto found = done ? impl_->key(id) : tl::unexpected(done.error());
    if (!found)
        return tl::unexpected(found.error());
    if (done = check_transition(found->info.state, state); !done)
        return tl::unexpected(done.error());
    found->info.state = state;
    found->info.changed = std::time(nullptr);
    if (state == KeyState::destroyed)
        found->material.wipe();
    auto record = make_record(impl_->keys->wrap, impl_->store, found->info, found->material);
    if (!record)
        return tl::unexpected(record.error());
    done = replace_record(impl_->database, *record);
    if (done)
        done = update_root(impl_->database, impl_->store, *impl_->keys);
    if (done)
        done = in_time(deadline);
    if (done)
        done = transaction->commit();
    if (!done)
        return tl::unexpected(done.error());
    return std::move(found->info);
}

// Not ready(): the way out of a keystore whose root no longer fits must not need the root.
Result<Provider::Key> Keystore::Impl::exportable(const std::string& id) const {
    auto usable = check_key_id(id);
    if (usable)
        usable = require_unsealed();
    auto found = usable ? key(id) : tl::unexpected(usable.error());
    if (!found)
        return found;
    if (usable = check_usable(found->info); !usable)
        return tl::unexpected(usable.error());
    return found;
}

Result<std::string> Keystore::export_for_passphrase(const std::string& id, const Secret& passphrase,
                                                    const Argon2Cost& cost) {
    auto found = impl_->exportable(id);
    if (!found)
        return tl::unexpected(found.error());
    return wrap_for_passphrase(*found, passphrase, cost);
}

Result<std::string> Keystore::export_for_public_key(const std::string& id, const std::string& pem) {
    auto found = impl_->exportable(id);
    if (!found)
        return tl::unexpected(found.error());
    return wrap_for_public_key(*found, pem);
}

Result<Provider::Key> Keystore::import_wrapped(const std::string& text, const Secret& passphrase) {
    return unwrap_with_passphrase(text, passphrase);
}

Result<std::optional<std::uint64_t>> Keystore::header_sequence(const std::string& volume_uuid) {
    auto usable = check_volume(volume_uuid);
    if (usable)
        usable = impl_->ready(endless());
    if (!usable)
        return tl::unexpected(usable.error());
    return read_header_sequence(impl_->database, volume_uuid);
}

Result<void> Keystore::remember_header_sequence(const std::string& volume_uuid,
                                                std::uint64_t sequence) {
    if (auto usable = check_volume(volume_uuid); !usable)
        return usable;
    auto transaction = Transaction::begin(impl_->database);
    if (!transaction)
        return tl::unexpected(transaction.error());
    auto done = impl_->ready(endless());
    if (done)
        done = write_header_sequence(impl_->database, volume_uuid, sequence);
    if (done)
        done = update_root(impl_->database, impl_->store, *impl_->keys);
    return done ? transaction->commit() : done;
}

} // namespace dek::keys
