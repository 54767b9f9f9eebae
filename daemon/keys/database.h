// SPDX-License-Identifier: Apache-2.0
// SQLite, opened the way a keystore needs it (durable, erasing what it deletes, distrusting the
// file), with its errors as ours.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "keys/wrapping.h"

struct sqlite3;
struct sqlite3_stmt;

namespace dek::keys {

class Deadline;

// Not thread-safe.
class Database {
  public:
    enum class Mode {
        durable, // an existing file; rollback journal, synchronous=EXTRA
        scratch, // an existing empty file that is not in place yet: no journal on disk, its writer
                 // syncs it
        read_only, // an existing file
    };
    static Result<Database> open(const std::string& path, Mode mode);

    Result<void> execute(const std::string& sql); // one or more statements without results
    // Everything of this one into `to`, which becomes byte for byte a keystore of its own.
    Result<void> copy_into(Database& to) const;
    Error error(int code, const std::string& what) const; // of an SQLite result code
    sqlite3* handle() const { return handle_.get(); }

  private:
    struct Close {
        void operator()(sqlite3* handle) const;
    };
    std::unique_ptr<sqlite3, Close> handle_;
    std::string path_;
};

// One prepared statement. A failure while preparing or binding comes out of step().
class Statement {
  public:
    Statement(const Database& database, std::string_view sql);
    Statement& text(int at, std::string_view value);
    Statement& number(int at, std::int64_t value);
    Statement& blob(int at, ByteView value);
    Result<bool> step(); // true: a row
    Result<void> run();  // for statements without rows

    std::string text_at(int column) const;
    std::int64_t number_at(int column) const;
    Bytes blob_at(int column) const;

  private:
    void keep(int result);
    struct Finalize {
        void operator()(sqlite3_stmt* statement) const;
    };
    const Database& database_;
    std::unique_ptr<sqlite3_stmt, Finalize> statement_;
    int failed_ = 0;
};

// All or nothing: rolled back unless committed.
class Transaction {
  public:
    static Result<Transaction> begin(Database& database);
    Transaction(Transaction&& other) noexcept;
    Transaction& operator=(Transaction&&) = delete;
    ~Transaction();
    Result<void> commit(); // durable when it succeeds

  private:
    explicit Transaction(Database& database) : database_(&database) {}
    Database* database_;
};

// While it lives, statements end with Errc::timeout once the deadline has expired.
class DeadlineGuard {
  public:
    DeadlineGuard(Database& database, const Deadline& deadline);
    ~DeadlineGuard();
    DeadlineGuard(const DeadlineGuard&) = delete;
    DeadlineGuard& operator=(const DeadlineGuard&) = delete;

  private:
    Database& database_;
};

} // namespace dek::keys
