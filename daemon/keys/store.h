// SPDX-License-Identifier: Apache-2.0
// The keystore's schema, the row that stands for the keystore as a whole, and the keys derived from
// the master key.
#pragma once

#include <map>
#include <optional>

#include "keys/database.h"
#include "keys/wrapping.h"

namespace dek::keys {

// All of it lives only while the keystore is unsealed.
struct MasterKeys {
    Secret master; // what the slots seal
    Secret wrap;   // seals records
    Secret mac;    // authenticates the root
    static Result<MasterKeys> derive(Secret master, ByteView store);
};

Result<void> create_schema(Database& database, ByteView store);
// corrupt: no keystore, damaged, or with tables or triggers that are not ours; unsupported: a newer
// version.
Result<void> check_schema(Database& database);
// Whether the file begins as a keystore does, of any version and in any state.
bool has_keystore_mark(const std::string& path);
Result<Bytes> read_store_uuid(const Database& database); // 16 bytes

// The root authenticates the set of records and header sequences: what was removed, or put back as
// it was before, does not go with it. Errc::corrupt.
Result<void> verify_root(const Database& database, ByteView store, const MasterKeys& keys);
// After every change of either, in the same transaction; raises the generation.
Result<void> update_root(const Database& database, ByteView store, const MasterKeys& keys);

// As they stand; the root is what makes them trustworthy. Sequences take all 64 bits.
Result<std::optional<std::uint64_t>> read_header_sequence(const Database& database,
                                                          const std::string& volume);
Result<void> write_header_sequence(const Database& database, const std::string& volume,
                                   std::uint64_t sequence);

} // namespace dek::keys
