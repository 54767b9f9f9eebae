// SPDX-License-Identifier: Apache-2.0
// The embedded keystore: an SQLite database in which each key is wrapped (AES-256-GCM, key ID and
// state bound as associated data) under a master key, and the master key is sealed once for each
// enrolled unsealer. docs/keystore.md has the schema and every construction.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "keys/argon2_cost.h"
#include "keys/provider.h"

namespace dek::keys {

// What opens the master key. Several may be enrolled side by side.
struct FileUnsealer { // 32 random bytes in a file of mode 0600 (nobody else may read it), root's or
                      // the caller's
    std::string path;
};
struct CredentialUnsealer { // the same in $CREDENTIALS_DIRECTORY/<name> (systemd
                            // LoadCredentialEncrypted=)
    std::string name;
};
struct PassphraseUnsealer { // Argon2id
    Secret passphrase;
};
struct RecoveryUnsealer { // the printed recovery key
    Secret text;
};
using Unsealer =
    std::variant<FileUnsealer, CredentialUnsealer, PassphraseUnsealer, RecoveryUnsealer>;

struct Enrolment {
    std::uint32_t slot;
    std::string kind; // "file", "credential", "passphrase", "recovery"
    std::string hint; // path or credential name; empty otherwise
    std::int64_t created;
};

// One process at a time has it open (flock on `path`.lock; Errc::busy). Not thread-safe:
// ProviderRunner serialises. Opened sealed; while sealed, everything but enrolments() and backup()
// is Errc::locked. Everything that is read is authenticated: what was edited, swapped or put back
// behind the keystore's back is Errc::corrupt, and then only the export_ calls still serve keys, as
// the way out.
class Keystore : public Provider {
  public:
    // Makes a new one; Errc::exists. Durable when it returns. For RecoveryUnsealer with empty text
    // a recovery key is drawn and returned by enrol(); init takes the other kinds. Comes back
    // unsealed.
    static Result<std::unique_ptr<Keystore>> init(const std::string& path, const Unsealer& first,
                                                  const Argon2Cost& cost = {});
    // not_found, busy, permission; corrupt when it is no keystore or damaged; unsupported when
    // newer.
    static Result<std::unique_ptr<Keystore>> open(const std::string& path);
    ~Keystore() override;

    bool sealed() const;
    // Errc::wrong_key; sealed stays sealed.
    Result<void> unseal(const Unsealer& with);
    // Tries file and credential enrolments, in slot order; Errc::locked when none works.
    Result<void> unseal_automatically();
    void seal() noexcept; // wipes the master key

    // Errc::locked while sealed. For a recovery key: returns its text, to be shown once; empty
    // otherwise. A file that does not exist yet is made (O_EXCL, 0600, fsync'ed) before the slot
    // refers to it. Errc::exists for a passphrase, file or credential that has a slot already.
    Result<Secret> enrol(const Unsealer& with, const Argon2Cost& cost = {});
    // Errc::refused for the last one, not_found. A file that was enrolled is left where it is.
    Result<void> remove(std::uint32_t slot);
    Result<std::vector<Enrolment>> enrolments() const;

    // A consistent copy (SQLite backup API), durable when it returns. Errc::exists for a file that
    // is there; force replaces another keystore or an empty file, and nothing else.
    Result<void> backup(const std::string& to, bool force);
    // Replaces `path` by `from` atomically after a check of its schema, its integrity and that
    // `with` unseals it; the keystore must not be open. Errc::refused unless force,
    // listing them, where keys would be lost or destroyed ones live again, or where the replaced
    // one remembers higher header sequences; those stay remembered even with force.
    static Result<void> restore(const std::string& path, const std::string& from,
                                const Unsealer& with, bool force);

    // Wrapped under a passphrase (Argon2id + AES-256-GCM) or an RSA/EC public key in PEM; text, for
    // export. Serves the states get() serves.
    Result<std::string> export_for_passphrase(const std::string& id, const Secret& passphrase,
                                              const Argon2Cost& cost = {});
    Result<std::string> export_for_public_key(const std::string& id, const std::string& pem);
    // The reverse of export_for_passphrase.
    static Result<Key> import_wrapped(const std::string& text, const Secret& passphrase);
    // Takes in a key as it was: its ID (or a new one when empty), state and time of creation stay.
    // Errc::exists for a known ID, destroyed or not, for a taken name, and where the ID or the name
    // is the other of another key. put() is for new keys: it gives them an ID.
    Result<KeyInfo> import(Key key, const Deadline& deadline);
    // The ID of a key that has these very bytes, or empty.
    Result<std::string> twin_of(const Secret& material, const Deadline& deadline);

    // The last header sequence number seen for each volume UUID (text, at most 64 bytes), to refuse
    // older headers. What is remembered replaces what was, also by a lower number.
    Result<std::optional<std::uint64_t>> header_sequence(const std::string& volume_uuid);
    Result<void> remember_header_sequence(const std::string& volume_uuid, std::uint64_t sequence);

    std::string name() const override { return "keystore"; }
    Result<Key> get(const std::string& id, const Deadline& deadline) override;
    Result<KeyInfo> info(const std::string& id_or_name, const Deadline& deadline) override;
    Result<std::vector<KeyInfo>> list(const Deadline& deadline) override;
    Result<KeyInfo> put(const std::string& name, Secret material,
                        const std::map<std::string, std::string>& attributes,
                        const Deadline& deadline) override;
    Result<KeyInfo> set_state(const std::string& id, KeyState state,
                              const Deadline& deadline) override;

  private:
    class Impl;
    explicit Keystore(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

} // namespace dek::keys
