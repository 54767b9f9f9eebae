// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
// A command block, field by field, for people and for programs. Never a byte of a key: of key data
// only the length is told, whatever the block's type says and whether it decodes or not.
#pragma once

#include <span>
#include <string>

#include <dek/proto.h>
#include <nlohmann/json.hpp>

namespace dek {

// One line a field: byte offset, name, value. Ends with a newline. Only printable ASCII.
//
//      24  opcode              3 (Associate)
//
// A block that is rejected shows its header (if it can be trusted) and why, nothing of its body.
std::string describe_text(std::span<const std::uint8_t, DEK_BLOCK_SIZE> block);

// The same as an object whose members are the field names. Endpoint IDs and handles are hexadecimal
// strings, because they fill 64 bits; LBAs and lengths are numbers. `verdict` is the decoder's.
nlohmann::ordered_json describe_json(std::span<const std::uint8_t, DEK_BLOCK_SIZE> block);

} // namespace dek
