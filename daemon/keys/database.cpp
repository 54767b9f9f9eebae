// SPDX-License-Identifier: Apache-2.0
// Opening, statements, transactions, and what SQLite's result codes mean to us.
#include "keys/database.h"

#include <cerrno>
#include <utility>

#include <sqlite3.h>

#include "keys/provider.h"

namespace dek::keys {
namespace {

// trusted_schema and cell_size_check: the file may have been prepared by somebody else. DELETE with
// synchronous=EXTRA also syncs the directory after the journal is gone, so a commit that was
// acknowledged is not rolled back by a power cut.
constexpr const char* common_settings = "PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON; "
                                        "PRAGMA mmap_size=0; PRAGMA temp_store=MEMORY; ";
const char* settings_of(Database::Mode mode) {
    switch (mode) {
    case Database::Mode::durable:
        return "PRAGMA journal_mode=DELETE; PRAGMA synchronous=EXTRA; PRAGMA secure_delete=ON;";
    case Database::Mode::scratch:
        return "PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF; PRAGMA secure_delete=ON;";
    case Database::Mode::read_only:
        break;
    }
    return "PRAGMA query_only=ON;";
}

Errc errc_of(int code) {
    switch (code & 0xff) {
    case SQLITE_FULL:
        return Errc::no_space;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_SCHEMA:
        return Errc::corrupt;
    case SQLITE_PERM:
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
        return Errc::permission;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return Errc::busy;
    case SQLITE_INTERRUPT:
        return Errc::timeout;
    case SQLITE_IOERR:
        return Errc::io;
    default:
        return Errc::internal;
    }
}

} // namespace

void Database::Close::operator()(sqlite3* handle) const {
    sqlite3_close_v2(handle);
}

Result<Database> Database::open(const std::string& path, Mode mode) {
    Database database;
    database.path_ = path;
    sqlite3* handle = nullptr;
    const int access = mode == Mode::read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
    const int opened = sqlite3_open_v2(
        path.c_str(), &handle, access | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, nullptr);
    database.handle_.reset(handle);
    if (opened != SQLITE_OK)
        return tl::unexpected(database.error(opened, "cannot be opened"));
    sqlite3_db_config(handle, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
    sqlite3_db_config(handle, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, nullptr);
    sqlite3_db_config(handle, SQLITE_DBCONFIG_ENABLE_VIEW, 0, nullptr);
    auto configured = database.execute(std::string(common_settings) + settings_of(mode));
    if (!configured)
        return tl::unexpected(configured.error());
    return database;
}

// By the time an error is reported the rollback has spoilt errno; the file remembers its own.
static int system_error_of(sqlite3* handle) {
    int of_file = 0;
    sqlite3_file_control(handle, "main", SQLITE_FCNTL_LAST_ERRNO, &of_file);
    return of_file != 0 ? of_file : sqlite3_system_errno(handle);
}

Error Database::error(int code, const std::string& what) const {
    const bool of_system = (code & 0xff) == SQLITE_IOERR || (code & 0xff) == SQLITE_CANTOPEN;
    const int system = of_system && handle_ ? system_error_of(handle_.get()) : 0;
    if (system != 0)
        return fail_errno(system, path_ + ' ' + what).value();
    return Error{errc_of(code), path_ + ' ' + what + ": " + sqlite3_errstr(code)};
}

Result<void> Database::execute(const std::string& sql) {
    const int result = sqlite3_exec(handle_.get(), sql.c_str(), nullptr, nullptr, nullptr);
    if (result != SQLITE_OK)
        return tl::unexpected(error(result, "cannot be read or written"));
    return {};
}

Result<void> Database::copy_into(Database& to) const {
    sqlite3_backup* copy = sqlite3_backup_init(to.handle(), "main", handle_.get(), "main");
    if (copy == nullptr)
        return tl::unexpected(to.error(sqlite3_extended_errcode(to.handle()), "cannot be copied"));
    sqlite3_backup_step(copy, -1);
    const int result = sqlite3_backup_finish(copy);
    if (result != SQLITE_OK)
        return tl::unexpected(to.error(result, "cannot be copied"));
    return {};
}

void Statement::Finalize::operator()(sqlite3_stmt* statement) const {
    sqlite3_finalize(statement);
}

Statement::Statement(const Database& database, std::string_view sql) : database_(database) {
    sqlite3_stmt* statement = nullptr;
    keep(sqlite3_prepare_v2(database.handle(), sql.data(), static_cast<int>(sql.size()), &statement,
                            nullptr));
    statement_.reset(statement);
}

void Statement::keep(int result) {
    if (failed_ == SQLITE_OK)
        failed_ = result;
}

Statement& Statement::text(int at, std::string_view value) {
    keep(sqlite3_bind_text64(statement_.get(), at, value.data(), value.size(), SQLITE_TRANSIENT,
                             SQLITE_UTF8));
    return *this;
}

Statement& Statement::number(int at, std::int64_t value) {
    keep(sqlite3_bind_int64(statement_.get(), at, value));
    return *this;
}

Statement& Statement::blob(int at, ByteView value) {
    keep(sqlite3_bind_blob64(statement_.get(), at, value.data(), value.size(), SQLITE_TRANSIENT));
    return *this;
}

Result<bool> Statement::step() {
    if (failed_ == SQLITE_OK) {
        const int result = sqlite3_step(statement_.get());
        if (result == SQLITE_ROW || result == SQLITE_DONE)
            return result == SQLITE_ROW;
        failed_ = result;
    }
    return tl::unexpected(database_.error(failed_, "cannot be read or written"));
}

Result<void> Statement::run() {
    auto stepped = step();
    if (!stepped)
        return tl::unexpected(stepped.error());
    return {};
}

std::string Statement::text_at(int column) const {
    const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement_.get(), column));
    const int size = sqlite3_column_bytes(statement_.get(), column);
    return text == nullptr ? std::string() : std::string(text, static_cast<std::size_t>(size));
}

std::int64_t Statement::number_at(int column) const {
    return sqlite3_column_int64(statement_.get(), column);
}

Bytes Statement::blob_at(int column) const {
    const auto* data =
        static_cast<const std::uint8_t*>(sqlite3_column_blob(statement_.get(), column));
    const int size = sqlite3_column_bytes(statement_.get(), column);
    return data == nullptr ? Bytes() : Bytes(data, data + size);
}

Result<Transaction> Transaction::begin(Database& database) {
    auto begun = database.execute("BEGIN IMMEDIATE");
    if (!begun)
        return tl::unexpected(begun.error());
    return Transaction(database);
}

Transaction::Transaction(Transaction&& other) noexcept
    : database_(std::exchange(other.database_, nullptr)) {}

Transaction::~Transaction() {
    // SQLite has rolled back by itself after some errors; then there is nothing left to do.
    if (database_ != nullptr && sqlite3_get_autocommit(database_->handle()) == 0)
        sqlite3_exec(database_->handle(), "ROLLBACK", nullptr, nullptr, nullptr);
}

Result<void> Transaction::commit() {
    auto committed = database_->execute("COMMIT");
    if (committed)
        database_ = nullptr;
    return committed;
}

DeadlineGuard::DeadlineGuard(Database& database, const Deadline& deadline) : database_(database) {
    sqlite3_progress_handler(
        database.handle(), 1000,
        [](void* context) { return static_cast<const Deadline*>(context)->expired() ? 1 : 0; },
        const_cast<Deadline*>(&deadline));
}

DeadlineGuard::~DeadlineGuard() {
    sqlite3_progress_handler(database_.handle(), 0, nullptr, nullptr);
}

} // namespace dek::keys
