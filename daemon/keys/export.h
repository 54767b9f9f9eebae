// SPDX-License-Identifier: Apache-2.0
// A key as text that can leave the machine, wrapped under a passphrase or a public key.
// docs/keystore.md has the format, from which a stranger can unwrap one.
#pragma once

#include <string>

#include "keys/argon2_cost.h"
#include "keys/provider.h"

namespace dek::keys {

Result<std::string> wrap_for_passphrase(const Provider::Key& key, const Secret& passphrase,
                                        const Argon2Cost& cost);
// RSA of at least 2048 bits, or EC (P-256, P-384, P-521); anything else is invalid_argument.
Result<std::string> wrap_for_public_key(const Provider::Key& key, const std::string& pem);
// invalid_argument when it is no such text, unsupported when it is wrapped otherwise, wrong_key
// when the passphrase is not the one or the text was edited.
Result<Provider::Key> unwrap_with_passphrase(const std::string& text, const Secret& passphrase);

} // namespace dek::keys
