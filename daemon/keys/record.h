// SPDX-License-Identifier: Apache-2.0
// A row of the table `keys`: everything known of one key, and its material sealed under the
// wrapping key with all the rest of the row, and the keystore's own UUID, bound.
#pragma once

#include <optional>

#include "keys/database.h"
#include "keys/provider.h"
#include "keys/wrapping.h"

namespace dek::keys {

struct Record {
    KeyInfo info;
    std::string attributes; // JSON, as it stands in the row: that text is what is bound
    Sealed material;        // of an empty text once the key is destroyed
};

// Seals `material` (empty for a destroyed key) for `info`.
Result<Record> make_record(const Secret& wrap, ByteView store, const KeyInfo& info,
                           const Secret& material);
// The material. Errc::corrupt when the row is not as it was written.
Result<Secret> open_record(const Secret& wrap, ByteView store, const Record& record);

Result<std::optional<Record>> find_record(const Database& database, const std::string& id);
// The key that bears the name now: not a destroyed one.
Result<std::optional<Record>> find_named_record(const Database& database, const std::string& name);
Result<std::vector<Record>> read_records(const Database& database); // by ID
Result<void> insert_record(const Database& database, const Record& record);
// What the old row held is overwritten.
Result<void> replace_record(const Database& database, const Record& record);

} // namespace dek::keys
