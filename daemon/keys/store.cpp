// SPDX-License-Identifier: Apache-2.0
// Schema version 1, and the MAC over what is in it.
#include "keys/store.h"

#include <algorithm>
#include <fstream>

#include <openssl/crypto.h>

namespace dek::keys {
namespace {

constexpr int schema_version = 1;
constexpr std::int64_t application = 0x44454b53; // "DEKS"

// As SQLite keeps it: the text is compared, so that a trigger, a view or another table is noticed.
const std::map<std::string, std::string> schema{
    {"store", "CREATE TABLE store (one INTEGER PRIMARY KEY CHECK (one = 1), uuid BLOB NOT NULL, "
              "generation INTEGER NOT NULL, root BLOB NOT NULL) STRICT"},
    {"slots", "CREATE TABLE slots (slot INTEGER PRIMARY KEY, kind TEXT NOT NULL, hint TEXT NOT "
              "NULL, created INTEGER NOT NULL, salt BLOB NOT NULL, memory_kib INTEGER NOT NULL, "
              "passes INTEGER NOT NULL, lanes INTEGER NOT NULL, nonce BLOB NOT NULL, sealed BLOB "
              "NOT NULL) STRICT"},
    {"keys", "CREATE TABLE keys (id TEXT PRIMARY KEY, name TEXT NOT NULL, state TEXT NOT NULL, "
             "algorithm TEXT NOT NULL, bits INTEGER NOT NULL, created INTEGER NOT NULL, changed "
             "INTEGER NOT NULL, attributes TEXT NOT NULL, nonce BLOB NOT NULL, wrapped BLOB NOT "
             "NULL) STRICT, WITHOUT ROWID"},
    {"header_sequences", "CREATE TABLE header_sequences (volume TEXT PRIMARY KEY, sequence INTEGER "
                         "NOT NULL) STRICT, WITHOUT ROWID"},
};

Result<std::int64_t> number_from(const Database& database, std::string_view sql) {
    Statement select(database, sql);
    auto row = select.step();
    if (!row)
        return tl::unexpected(row.error());
    return *row ? select.number_at(0) : 0;
}

Result<void> check_tables(const Database& database) {
    Statement select(database, "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL");
    std::map<std::string, std::string> found;
    for (;;) {
        auto row = select.step();
        if (!row)
            return tl::unexpected(row.error());
        if (!*row)
            break;
        found.emplace(select.text_at(0), select.text_at(1));
    }
    if (found != schema)
        return fail(Errc::corrupt, "the keystore's tables are not the ones dekstack makes");
    return {};
}

Result<void> check_integrity(const Database& database) {
    Statement check(database, "PRAGMA integrity_check(1)");
    auto row = check.step();
    if (!row)
        return tl::unexpected(row.error());
    if (!*row || check.text_at(0) != "ok")
        return fail(Errc::corrupt, "the keystore is damaged: SQLite's integrity check fails");
    return {};
}

using Mac = std::array<std::uint8_t, 32>;

bool same(const Mac& mac, const Bytes& stored) {
    return stored.size() == mac.size() && CRYPTO_memcmp(stored.data(), mac.data(), mac.size()) == 0;
}

// The tag of a record stands for all of its row: everything in the row is bound to it.
Result<void> add_records(const Database& database, AssociatedData& all) {
    Statement select(database, "SELECT id, nonce, wrapped FROM keys ORDER BY id");
    for (;;) {
        auto row = select.step();
        if (!row)
            return tl::unexpected(row.error());
        if (!*row)
            return {};
        const Bytes wrapped = select.blob_at(2);
        const ByteView tag = ByteView(wrapped).last(std::min(wrapped.size(), tag_size));
        all.number(1).text(select.text_at(0)).bytes(select.blob_at(1)).bytes(tag);
    }
}

Result<void> add_sequences(const Database& database, AssociatedData& all) {
    Statement select(database, "SELECT volume, sequence FROM header_sequences ORDER BY volume");
    for (;;) {
        auto row = select.step();
        if (!row)
            return tl::unexpected(row.error());
        if (!*row)
            return {};
        all.number(2).text(select.text_at(0)).number(select.number_at(1));
    }
}

Result<Mac> root_of(const Database& database, ByteView store, const MasterKeys& keys,
                    std::int64_t generation) {
    AssociatedData all("dekstack keystore root 1");
    all.bytes(store).number(generation);
    auto added = add_records(database, all);
    if (added)
        added = add_sequences(database, all);
    if (!added)
        return tl::unexpected(added.error());
    return hmac_sha256(keys.mac, all.view());
}

} // namespace

Result<MasterKeys> MasterKeys::derive(Secret master, ByteView store) {
    auto wrap = hkdf_sha256(master, store, "dekstack keystore wrap 1");
    auto mac = hkdf_sha256(master, store, "dekstack keystore mac 1");
    if (!wrap || !mac)
        return tl::unexpected(wrap ? mac.error() : wrap.error());
    return MasterKeys{std::move(master), std::move(*wrap), std::move(*mac)};
}

Result<void> create_schema(Database& database, ByteView store) {
    std::string sql = "PRAGMA application_id=" + std::to_string(application) +
                      "; PRAGMA user_version=" + std::to_string(schema_version) + ';';
    for (const auto& [name, table] : schema)
        sql += table + ';';
    auto created = database.execute(sql);
    if (!created)
        return created;
    return Statement(database, "INSERT INTO store VALUES (1, ?, 0, x'')").blob(1, store).run();
}

Result<void> check_schema(Database& database) {
    auto mark = number_from(database, "PRAGMA application_id");
    auto version = number_from(database, "PRAGMA user_version");
    if (!mark || !version)
        return tl::unexpected(mark ? version.error() : mark.error());
    if (*mark != application || *version < 1)
        return fail(Errc::corrupt, "the file is not a dekstack keystore");
    if (*version > schema_version)
        return fail(Errc::unsupported, "the keystore has version " + std::to_string(*version) +
                                           ", newer than this program knows (" +
                                           std::to_string(schema_version) + ")");
    auto tables = check_tables(database);
    return tables ? check_integrity(database) : tables;
}

bool has_keystore_mark(const std::string& path) {
    constexpr std::size_t id_at = 68; // in SQLite's header: the application ID, big-endian
    char head[id_at + 4] = {};
    std::ifstream(path, std::ios::binary).read(head, sizeof head);
    std::int64_t mark = 0;
    for (std::size_t i = id_at; i < sizeof head; i++)
        mark = mark << 8 | static_cast<std::uint8_t>(head[i]);
    return std::string_view(head) == "SQLite format 3" && mark == application;
}

Result<Bytes> read_store_uuid(const Database& database) {
    Statement select(database, "SELECT uuid FROM store");
    auto row = select.step();
    if (!row)
        return tl::unexpected(row.error());
    Bytes uuid = *row ? select.blob_at(0) : Bytes();
    if (uuid.size() != 16)
        return fail(Errc::corrupt, "the keystore has no UUID");
    return uuid;
}

Result<void> verify_root(const Database& database, ByteView store, const MasterKeys& keys) {
    Statement select(database, "SELECT generation, root FROM store");
    auto row = select.step();
    if (!row)
        return tl::unexpected(row.error());
    auto root = root_of(database, store, keys, *row ? select.number_at(0) : 0);
    if (!root)
        return tl::unexpected(root.error());
    if (!*row || !same(*root, select.blob_at(1)))
        return fail(Errc::corrupt, "the keystore's records were changed behind its back: restore a "
                                   "backup, or export what is whole");
    return {};
}

Result<void> update_root(const Database& database, ByteView store, const MasterKeys& keys) {
    auto generation = number_from(database, "SELECT generation FROM store");
    if (!generation)
        return tl::unexpected(generation.error());
    auto root = root_of(database, store, keys, *generation + 1);
    if (!root)
        return tl::unexpected(root.error());
    return Statement(database, "UPDATE store SET generation = ?, root = ?")
        .number(1, *generation + 1)
        .blob(2, *root)
        .run();
}

Result<std::optional<std::uint64_t>> read_header_sequence(const Database& database,
                                                          const std::string& volume) {
    Statement select(database, "SELECT sequence FROM header_sequences WHERE volume = ?");
    auto row = select.text(1, volume).step();
    if (!row)
        return tl::unexpected(row.error());
    if (!*row)
        return std::optional<std::uint64_t>();
    return std::optional<std::uint64_t>(static_cast<std::uint64_t>(select.number_at(0)));
}

Result<void> write_header_sequence(const Database& database, const std::string& volume,
                                   std::uint64_t sequence) {
    return Statement(database, "INSERT OR REPLACE INTO header_sequences VALUES (?, ?)")
        .text(1, volume)
        .number(2, static_cast<std::int64_t>(sequence))
        .run();
}

} // namespace dek::keys
