// SPDX-License-Identifier: Apache-2.0
// The tables of a volume's device where its own endpoint does not encrypt: linear over endpoints
// beneath, or dm-crypt.
#pragma once

#include "kcm/kernel_keys.h"
#include "kcm/negotiate.h"
#include "kcm/volume.h"

namespace dek::kcm {

// None for Encryptor::top. Makes the device of an in-place header's place where there is one.
NodeSpec::Lines lines_by(layers::Encryptor who, const volume::Header& header, bool read_only);
// The keys by the names that the lines of Encryptor::software give them.
Result<void> offer_keys(KernelKeys& ring, const volume::Header& header, const KeyFinder& find_key);
// Who encrypts by a live table of a volume.
Result<layers::Encryptor> encryptor_of(const std::vector<layers::TableLine>& table);

} // namespace dek::kcm
