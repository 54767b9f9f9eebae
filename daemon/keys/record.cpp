// SPDX-License-Identifier: Apache-2.0
// Between rows, records and sealed material.
#include "keys/record.h"

#include <nlohmann/json.hpp>

namespace dek::keys {
namespace {

constexpr const char* columns = "id, name, state, algorithm, bits, created, changed, attributes, "
                                "nonce, wrapped";

AssociatedData binding_of(ByteView store, const Record& record) {
    const KeyInfo& info = record.info;
    AssociatedData bound("dekstack keystore key 1");
    bound.bytes(store).text(info.id).text(info.name).text(state_name(info.state));
    bound.text(info.algorithm).number(info.bits).number(info.created).number(info.changed);
    bound.text(record.attributes);
    return bound;
}

tl::unexpected<Error> edited(const std::string& id) {
    const bool printable = check_key_id(id).has_value();
    return fail(Errc::corrupt, "the record of key " + (printable ? id : std::string("?")) +
                                   " is not as the keystore wrote it");
}

Result<Record> record_of(const Statement& row) {
    Record record;
    KeyInfo& info = record.info;
    info.id = row.text_at(0);
    info.name = row.text_at(1);
    info.algorithm = row.text_at(3);
    info.created = row.number_at(5);
    info.changed = row.number_at(6);
    record.attributes = row.text_at(7);
    record.material = {row.blob_at(8), row.blob_at(9)};
    const auto state = state_of(row.text_at(2));
    const std::int64_t bits = row.number_at(4);
    const auto attributes = nlohmann::json::parse(record.attributes, nullptr, false);
    if (!state || bits < 0 || bits > UINT32_MAX || !attributes.is_object())
        return edited(info.id);
    for (const auto& [name, value] : attributes.items()) {
        if (!value.is_string())
            return edited(info.id);
        info.attributes.emplace(name, value.get<std::string>());
    }
    info.state = *state;
    info.bits = static_cast<std::uint32_t>(bits);
    return record;
}

Result<std::optional<Record>> one_of(Statement& select) {
    auto row = select.step();
    if (!row)
        return tl::unexpected(row.error());
    if (!*row)
        return std::optional<Record>();
    auto record = record_of(select);
    if (!record)
        return tl::unexpected(record.error());
    return std::optional<Record>(std::move(*record));
}

} // namespace

Result<Record> make_record(const Secret& wrap, ByteView store, const KeyInfo& info,
                           const Secret& material) {
    Record record{info, nlohmann::json(info.attributes).dump(), {}};
    auto sealed = seal(wrap, material.bytes(), binding_of(store, record).view());
    if (!sealed)
        return tl::unexpected(sealed.error());
    record.material = std::move(*sealed);
    return record;
}

Result<Secret> open_record(const Secret& wrap, ByteView store, const Record& record) {
    auto material = unseal(wrap, record.material, binding_of(store, record).view());
    if (!material && material.error().code == Errc::wrong_key)
        return edited(record.info.id);
    return material;
}

Result<std::optional<Record>> find_record(const Database& database, const std::string& id) {
    Statement select(database, std::string("SELECT ") + columns + " FROM keys WHERE id = ?");
    return one_of(select.text(1, id));
}

Result<std::optional<Record>> find_named_record(const Database& database, const std::string& name) {
    Statement select(database, std::string("SELECT ") + columns +
                                   " FROM keys WHERE name = ? AND state <> 'destroyed'");
    return one_of(select.text(1, name));
}

Result<std::vector<Record>> read_records(const Database& database) {
    Statement select(database, std::string("SELECT ") + columns + " FROM keys ORDER BY id");
    std::vector<Record> records;
    for (;;) {
        auto record = one_of(select);
        if (!record)
            return tl::unexpected(record.error());
        if (!*record)
            return records;
        records.push_back(std::move(**record));
    }
}

Result<void> insert_record(const Database& database, const Record& record) {
    const KeyInfo& info = record.info;
    return Statement(database, "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
        .text(1, info.id)
        .text(2, info.name)
        .text(3, state_name(info.state))
        .text(4, info.algorithm)
        .number(5, info.bits)
        .number(6, info.created)
        .number(7, info.changed)
        .text(8, record.attributes)
        .blob(9, record.material.nonce)
        .blob(10, record.material.text)
        .run();
}

Result<void> replace_record(const Database& database, const Record& record) {
    auto removed =
        Statement(database, "DELETE FROM keys WHERE id = ?").text(1, record.info.id).run();
    if (!removed)
        return removed;
    return insert_record(database, record);
}

} // namespace dek::keys
