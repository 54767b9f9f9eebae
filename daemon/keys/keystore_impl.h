// SPDX-License-Identifier: Apache-2.0
// What an open keystore holds, shared by the files that implement it.
#pragma once

#include <optional>

#include "base/fd.h"
#include "keys/keystore.h"
#include "keys/record.h"
#include "keys/slot.h"
#include "keys/store.h"

namespace dek::keys {

class Keystore::Impl {
  public:
    std::string path;
    Fd lock; // on path.lock, for as long as this lives
    Database database;
    Bytes store; // its UUID
    std::optional<MasterKeys> keys;

    // Opens and checks; `lock` is already held.
    static Result<std::unique_ptr<Impl>> open(const std::string& path, Fd lock,
                                              Database::Mode mode);
    Result<void> unseal(const Unsealer& with);
    Result<void> adopt(Secret master);
    Result<void> require_unsealed() const; // Errc::locked
    // Unsealed, the deadline not over, and the records as we left them.
    Result<void> ready(const Deadline& deadline) const;
    // Authenticated; Errc::unknown_key.
    Result<Key> key(const std::string& id) const;
    Result<KeyInfo> insert(const KeyInfo& info, const Secret& material, const Deadline& deadline);
    Result<Key> exportable(const std::string& id) const;
};

// Errc::busy when somebody has it. The lock file is made when missing, and stays: removing it would
// let two processes each lock a file of that name.
Result<Fd> lock_keystore(const std::string& path);

// A new empty file beside `path`, 0600, removed again unless install() came to its end.
class FreshFile {
  public:
    static Result<FreshFile> beside(const std::string& path);
    FreshFile(FreshFile&& other) noexcept : path_(std::exchange(other.path_, {})) {}
    FreshFile& operator=(FreshFile&&) = delete;
    ~FreshFile();
    const std::string& path() const { return path_; }
    // Durable, under the name `to`, which it replaces unless `exclusive`. A rollback journal that a
    // crash left beside `to` is settled first: SQLite would apply it to what takes its place.
    Result<void> install(const std::string& to, bool exclusive);

  private:
    explicit FreshFile(std::string path) : path_(std::move(path)) {}
    std::string path_;
};

} // namespace dek::keys
