// SPDX-License-Identifier: Apache-2.0
// The table of a volume that dm-crypt encrypts: crypt for exactly the encrypted ranges, linear for
// the rest. Keys stay in the kernel's keyring; the lines only name them.
#pragma once

#include <string>
#include <vector>

#include <dek/codec.h>

#include "base/result.h"
#include "kcm/layers/table_line.h"

namespace dek::kcm::layers {

struct CryptRange {
    dek_range lbas{};      // of the volume
    std::string key;       // description of a `logon` key: "dekstack:NAME"
    unsigned key_size = 0; // bytes: 32 or 64
};

struct CryptVolume {
    std::uint64_t size = 0;   // LBAs
    std::string device;       // "8:16": what is beneath, by number
    std::uint64_t offset = 0; // LBA of it where the volume begins
    std::uint32_t data_unit = 4096;
    dek_tweak_rule tweak = DEK_TWEAK_UNIT;
    std::vector<CryptRange> ranges; // sorted, apart, aligned to the data unit
    // What may be read and not written: these LBAs lie from the start of a device that sees to it.
    dek_range reserved{};
    std::string reserved_device;
};

// Without ranges: linear alone, for a volume that endpoints beneath encrypt.
// Errc::invalid_argument when the ranges are no such list, a key's name could not stand in a table
// line, or the volume's end cuts a data unit.
Result<std::vector<TableLine>> crypt_table(const CryptVolume& volume);

} // namespace dek::kcm::layers
