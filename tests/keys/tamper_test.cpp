// SPDX-License-Identifier: Apache-2.0
// A keystore that was edited behind its back: every edit is an error, or changes nothing that is
// read.
#include <map>
#include <set>

#include <unistd.h>

#include "folder.h"
#include "sqlite_file.h"

using namespace dek;
using namespace dek::keys;
using namespace dek::test;

namespace {

const std::string volume = "4a8f6c1e-0000-4000-8000-000000000001";

std::string shown(const KeyInfo& info) {
    std::string text = info.id + '|' + info.name + '|' + state_name(info.state) + '|' +
                       info.algorithm + '|' + std::to_string(info.bits) + '|' +
                       std::to_string(info.created) + '|' + std::to_string(info.changed);
    for (const auto& [name, value] : info.attributes)
        text += '|' + name + '=' + value;
    return text;
}

// A keystore with two keys, a destroyed one, a passphrase, and a remembered sequence; closed.
struct Prepared {
    Folder folder;
    KeyInfo a;
    KeyInfo b;
    KeyInfo dead;
    Prepared() {
        auto keystore = new_keystore(folder);
        a = must(keystore->put("a", material_of(1), {{"volume", "data"}}, soon()));
        b = must(keystore->put("b", material_of(2), {}, soon()));
        dead = must(keystore->put("dead", material_of(3), {}, soon()));
        must(keystore->set_state(dead.id, KeyState::deactivated, soon()));
        must(keystore->set_state(dead.id, KeyState::destroyed, soon()));
        must(keystore->enrol(PassphraseUnsealer{secret_of("p")}, cheap));
        must(keystore->remember_header_sequence(volume, 77));
    }
    std::string path() const { return folder / "ks"; }
};

// What an edited keystore answered: the codes of what failed. Whatever did not fail was compared.
class Reading {
  public:
    explicit Reading(const Prepared& prepared) : prepared_(prepared) {}

    std::set<Errc> run() {
        read_through(FileUnsealer{prepared_.folder / "ks.key"});
        read_through(PassphraseUnsealer{secret_of("p")});
        return failures_;
    }

  private:
    void read_through(const Unsealer& with) {
        auto keystore = Keystore::open(prepared_.path());
        if (!good(keystore))
            return;
        if (const auto slots = (*keystore)->enrolments(); good(slots))
            slots_ = slots->size();
        if (good((*keystore)->unseal(with)))
            read_keys(**keystore);
    }
    void read_keys(Keystore& keystore) {
        expect_material(keystore.get(prepared_.a.id, soon()), 1);
        expect_material(keystore.get(prepared_.b.id, soon()), 2);
        const auto dead = keystore.get(prepared_.dead.id, soon());
        REQUIRE_FALSE(dead.has_value());
        if (dead.error().code != Errc::refused)
            failures_.insert(dead.error().code);
        if (const auto info = keystore.info("a", soon()); good(info))
            REQUIRE(shown(*info) == shown(prepared_.a));
        if (const auto list = keystore.list(soon()); good(list))
            REQUIRE(list->size() == 3);
        if (const auto sequence = keystore.header_sequence(volume); good(sequence))
            REQUIRE(*sequence == std::optional<std::uint64_t>(77));
        good(keystore.export_for_passphrase(prepared_.b.id, secret_of("x"), cheap));
    }
    void expect_material(const Result<Provider::Key>& key, std::uint32_t seed) {
        if (!good(key))
            return;
        REQUIRE(key->material.equals(material_of(seed).bytes()));
        REQUIRE(shown(key->info) == shown(seed == 1 ? prepared_.a : prepared_.b));
    }
    template <class T>
    bool good(const Result<T>& result) {
        if (!result)
            failures_.insert(result.error().code);
        return result.has_value();
    }
    const Prepared& prepared_;
    std::set<Errc> failures_;
    std::size_t slots_ = 0;
};

// One column of one row, as bytes in hex, and how to put such bytes back as its type.
struct Cell {
    std::string table, column, key, hex, type;
    std::string update(const std::string& new_hex) const {
        std::string value = "x'" + new_hex + "'";
        if (type == "text")
            value = "CAST(" + value + " AS TEXT)";
        if (type == "integer")
            value = std::to_string(static_cast<std::int64_t>(std::stoull(new_hex, nullptr, 16)));
        return "PRAGMA ignore_check_constraints=1; UPDATE " + table + " SET " + column + " = " +
               value + " WHERE " + key;
    }
};

std::vector<Cell> cells_of(const std::string& path) {
    std::vector<Cell> cells;
    for (const auto& table : sql(path, "SELECT name FROM sqlite_schema WHERE type = 'table'")) {
        const auto columns = sql(path, "PRAGMA table_info(" + table[0] + ")");
        const std::string& first = columns[0][1];
        for (const auto& column : columns) {
            const std::string& name = column[1];
            const auto rows =
                sql(path, "SELECT quote(" + first + "), typeof(" + name + "), CASE typeof(" + name +
                              ") WHEN 'integer' THEN printf('%016x', " + name + ") ELSE hex(" +
                              name + ") END FROM " + table[0]);
            for (const auto& row : rows)
                cells.push_back({table[0], name, first + " = " + row[0], row[2], row[1]});
        }
    }
    return cells;
}

std::string flipped(const std::string& hex, std::size_t byte, int bit) {
    std::string out = hex;
    const int value = std::stoi(hex.substr(2 * byte, 2), nullptr, 16) ^ (1 << bit);
    static constexpr char digits[] = "0123456789ABCDEF";
    out[2 * byte] = digits[value >> 4];
    out[2 * byte + 1] = digits[value & 15];
    return out;
}

} // namespace

TEST_CASE("what was not edited is read without an error") {
    const Prepared prepared;
    CHECK(Reading(prepared).run().empty());
}

TEST_CASE("a flipped bit in any column of any table is an error, never another key") {
    const Prepared prepared;
    const std::string good = text_of(prepared.path());
    const auto cells = cells_of(prepared.path());
    std::set<std::string> columns;
    int flips = 0;
    for (const Cell& cell : cells) {
        columns.insert(cell.table + '.' + cell.column);
        const std::size_t size = cell.hex.size() / 2;
        const std::size_t stride = size > 48 ? 5 : 1; // long blobs: every fifth byte
        for (std::size_t byte = 0; byte < size; byte += stride) {
            const std::string edit =
                cell.update(flipped(cell.hex, byte, static_cast<int>(byte) % 8));
            INFO(edit);
            sql(prepared.path(), edit);
            const auto failures = Reading(prepared).run();
            REQUIRE_FALSE(failures.empty());
            REQUIRE(failures.count(Errc::internal) == 0);
            write_text(prepared.path(), good);
            ++flips;
        }
    }
    CHECK(columns.size() == 4 + 10 + 10 + 2);
    CHECK(flips > 500);
    CHECK(Reading(prepared).run().empty());
}

TEST_CASE("a flipped byte anywhere in the file is an error or changes nothing") {
    const Prepared prepared;
    const std::string good = text_of(prepared.path());
    for (std::size_t at = 0; at < good.size(); at += at < 100 ? 1 : 149) {
        std::string bad = good;
        bad[at] = static_cast<char>(bad[at] ^ (1 << at % 8));
        INFO("byte " << at);
        write_text(prepared.path(), bad);
        Reading(prepared).run(); // compares all that is answered
    }
}

TEST_CASE("records that changed places, went or came are found, and stop every use") {
    const Prepared prepared;
    const auto edit = [&](const std::string& statement) {
        sql(prepared.path(), statement);
        auto keystore = open_keystore(prepared.folder);
        CHECK(code_of(keystore->get(prepared.a.id, soon())) == Errc::corrupt);
        CHECK(code_of(keystore->info(prepared.a.id, soon())) == Errc::corrupt);
        CHECK(code_of(keystore->list(soon())) == Errc::corrupt);
        CHECK(code_of(keystore->put("c", material_of(5), {}, soon())) == Errc::corrupt);
        CHECK(code_of(keystore->set_state(prepared.b.id, KeyState::deactivated, soon())) ==
              Errc::corrupt);
        CHECK(code_of(keystore->remember_header_sequence(volume, 78)) == Errc::corrupt);
    };
    const std::string a = "'" + prepared.a.id + "'";
    const std::string b = "'" + prepared.b.id + "'";
    SECTION("materials swapped") {
        edit("CREATE TEMP TABLE t AS SELECT * FROM keys;"
             "UPDATE keys SET (nonce, wrapped) = (SELECT nonce, wrapped FROM t WHERE id = " +
             b + ") WHERE id = " + a +
             ";"
             "UPDATE keys SET (nonce, wrapped) = (SELECT nonce, wrapped FROM t WHERE id = " +
             a + ") WHERE id = " + b);
    }
    SECTION("IDs swapped") {
        edit("UPDATE keys SET id = 'x' WHERE id = " + a + "; UPDATE keys SET id = " + a +
             " WHERE id = " + b + "; UPDATE keys SET id = " + b + " WHERE id = 'x'");
    }
    SECTION("a record removed") {
        edit("DELETE FROM keys WHERE id = " + b);
    }
    SECTION("a record added") {
        edit("INSERT INTO keys SELECT 'extra', 'extra', state, algorithm, bits, created, changed, "
             "attributes, nonce, wrapped FROM keys WHERE id = " +
             a);
    }
    SECTION("a sequence removed") {
        edit("DELETE FROM header_sequences");
    }
}

TEST_CASE("an edited field spoils its record, and no other") {
    const Prepared prepared;
    const std::string field =
        GENERATE("state = 'compromised'", "name = 'c'", "bits = 256", "created = 1", "changed = 1",
                 "algorithm = 'DES'", "attributes = '{}'", "attributes = 'x'");
    sql(prepared.path(), "UPDATE keys SET " + field + " WHERE id = '" + prepared.a.id + "'");
    auto keystore = open_keystore(prepared.folder);
    CHECK(code_of(keystore->get(prepared.a.id, soon())) == Errc::corrupt);
    CHECK(code_of(keystore->info(prepared.a.id, soon())) == Errc::corrupt);
    CHECK(code_of(keystore->list(soon())) == Errc::corrupt);
    CHECK(code_of(keystore->set_state(prepared.a.id, KeyState::deactivated, soon())) ==
          Errc::corrupt);
    CHECK(code_of(keystore->export_for_passphrase(prepared.a.id, secret_of("p"), cheap)) ==
          Errc::corrupt);
    CHECK(must(keystore->get(prepared.b.id, soon())).material.equals(material_of(2).bytes()));
}

TEST_CASE("a whole record put back as it was before is found, and export is still the way out") {
    Prepared prepared;
    const std::string a = "'" + prepared.a.id + "'";
    const auto row = sql(prepared.path(), "SELECT quote(id), quote(name), quote(state), "
                                          "quote(algorithm), quote(bits), quote(created), "
                                          "quote(changed), quote(attributes), quote(nonce), "
                                          "quote(wrapped) FROM keys WHERE id = " +
                                              a);
    {
        auto keystore = open_keystore(prepared.folder);
        must(keystore->set_state(prepared.a.id, KeyState::compromised, soon()));
    }
    std::string values;
    for (const std::string& value : row[0])
        values += (values.empty() ? "" : ", ") + value;
    sql(prepared.path(),
        "DELETE FROM keys WHERE id = " + a + "; INSERT INTO keys VALUES (" + values + ")");
    auto keystore = open_keystore(prepared.folder);
    CHECK(code_of(keystore->info(prepared.a.id, soon())) == Errc::corrupt);
    const auto text = must(keystore->export_for_passphrase(prepared.b.id, secret_of("x"), cheap));
    CHECK(must(Keystore::import_wrapped(text, secret_of("x")))
              .material.equals(material_of(2).bytes()));
}

TEST_CASE("a destroyed key cannot be had back from the file") {
    const Folder folder;
    auto keystore = new_keystore(folder);
    std::map<std::string, std::string> wrapped; // by ID
    for (std::uint32_t i = 0; i < 6; ++i) {
        const auto key = must(keystore->put("", material_of(i), {}, soon()));
        const std::string hex =
            sql(folder / "ks", "SELECT hex(wrapped) FROM keys WHERE id = '" + key.id + "'")[0][0];
        REQUIRE(hex.size() == 2 * (64 + 16));
        for (std::size_t at = 0; at < hex.size(); at += 2)
            wrapped[key.id] += static_cast<char>(std::stoi(hex.substr(at, 2), nullptr, 16));
        REQUIRE(text_of(folder / "ks").find(wrapped[key.id]) != std::string::npos);
    }
    const auto left_of = [&](const std::string& raw) { // in pieces of 16 bytes
        const std::string file = text_of(folder / "ks");
        int left = 0;
        for (std::size_t at = 0; at + 16 <= raw.size(); at += 16)
            left += file.find(raw.substr(at, 16)) != std::string::npos ? 1 : 0;
        return left;
    };
    for (const auto& [id, raw] : wrapped) {
        must(keystore->set_state(id, KeyState::compromised, soon()));
        CHECK(left_of(raw) == 0); // wrapped anew
        must(keystore->set_state(id, KeyState::destroyed, soon()));
    }
    for (const auto& row : sql(folder / "ks", "SELECT length(wrapped) FROM keys"))
        CHECK(row[0] == "16");
}

TEST_CASE("foreign tables, triggers and views are refused") {
    const Prepared prepared;
    const std::string extra =
        GENERATE("CREATE TABLE extra (x)", "CREATE VIEW extra AS SELECT * FROM keys",
                 "CREATE TRIGGER extra AFTER INSERT ON keys BEGIN DELETE FROM slots; END",
                 "CREATE INDEX extra ON keys(name)", "DROP TABLE header_sequences",
                 "ALTER TABLE slots ADD COLUMN extra TEXT", "PRAGMA application_id=1",
                 "PRAGMA user_version=0");
    sql(prepared.path(), extra);
    CHECK(code_of(Keystore::open(prepared.path())) == Errc::corrupt);
}

TEST_CASE("a keystore of a newer version is not opened") {
    const Prepared prepared;
    sql(prepared.path(), "PRAGMA user_version=2");
    const auto opened = Keystore::open(prepared.path());
    CHECK(code_of(opened) == Errc::unsupported);
    CHECK(opened.error().reason.find("version 2") != std::string::npos);
}

TEST_CASE("a keystore that was cut short, or is none, is corrupt") {
    const Prepared prepared;
    const std::string good = text_of(prepared.path());
    for (const std::size_t size :
         {0UL, 1UL, 99UL, 100UL, 4095UL, 4096UL, 8192UL, good.size() - 4096, good.size() - 1}) {
        write_text(prepared.path(), good.substr(0, size));
        INFO("cut to " << size);
        // SQLite reads a last page that lacks only some bytes as if they were zero.
        const auto failures = Reading(prepared).run();
        CHECK(failures.count(Errc::corrupt) == 1);
        if (size + 4096 <= good.size())
            CHECK(code_of(Keystore::open(prepared.path())) == Errc::corrupt);
    }
    write_text(prepared.path(), std::string(16384, 'n'));
    CHECK(code_of(Keystore::open(prepared.path())) == Errc::corrupt);
    CHECK(code_of(Keystore::open(prepared.folder.path())) == Errc::corrupt);
}
