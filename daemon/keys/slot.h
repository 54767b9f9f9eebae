// SPDX-License-Identifier: Apache-2.0
// A slot: the master key sealed for one unsealer. The table `slots` holds them.
#pragma once

#include <optional>

#include "keys/database.h"
#include "keys/keystore.h"
#include "keys/wrapping.h"

namespace dek::keys {

struct Slot {
    Enrolment enrolment;
    Bytes salt;      // 32 bytes
    Argon2Cost cost; // zeros but for passphrases
    Sealed master;
};

// "file", "credential", "passphrase", "recovery".
const char* kind_of(const Unsealer& unsealer);
// What a slot shows of its unsealer: an absolute path, a credential's name, or nothing.
Result<std::string> hint_of(const Unsealer& unsealer);
// The unsealer that a slot names by itself: files and credentials only.
std::optional<Unsealer> unsealer_of(const Enrolment& enrolment);

// What the unsealer holds: 32 bytes from a file, a credential or a recovery key; the passphrase
// itself. invalid_argument when a recovery key is mistyped or a passphrase empty.
Result<Secret> unsealer_secret(const Unsealer& unsealer);
// The same for enrolling: makes the file where there is none.
Result<Secret> new_unsealer_secret(const Unsealer& unsealer);

// Seals `master` for whoever holds `secret`. `enrolment.slot` and the rest of it are bound.
Result<Slot> make_slot(ByteView store, const Enrolment& enrolment, const Secret& secret,
                       const Argon2Cost& cost, const Secret& master);
// Errc::wrong_key when `secret` is not this slot's, or the slot was edited.
Result<Secret> open_slot(ByteView store, const Slot& slot, const Secret& secret);

Result<std::vector<Slot>> read_slots(const Database& database); // by number
Result<void> insert_slot(const Database& database, const Slot& slot);

} // namespace dek::keys
