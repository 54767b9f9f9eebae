// SPDX-License-Identifier: Apache-2.0
// Any bytes as a command block: decoded, described, answered. The first byte says how they are
// dressed, because neither signature nor checksum would ever be met by chance.
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include <dek/block.hpp>
#include <dek/describe.hpp>

#include "../tests/proto/invariants.h"
#include "../tests/proto/sample.h"

namespace {

void demand(bool held) {
    if (!held)
        std::abort();
}

// Even: the bytes as they come. Odd: sealed, and mostly with an opcode and a version that exist.
sample::Block dressed(const std::uint8_t* data, std::size_t size) {
    sample::Block block{};
    std::memcpy(block.data(), data + 1, std::min(size - 1, block.size()));
    if (data[0] % 2 == 0)
        return block;
    dek_put_le64(block.data(), DEK_SIGNATURE);
    if (std::uint32_t opcode = data[0] / 2 % 8; opcode < 6) {
        dek_put_le32(&block[16], DEK_PROTO_VERSION);
        dek_put_le32(&block[24], opcode);
    }
    dek_block_seal(block.data());
    return block;
}

// What was decoded can be built again, and decodes again.
void rebuild(const dek_command& c) {
    sample::Block block;
    std::array<dek_range, DEK_MAX_RANGES> map;
    for (std::uint32_t i = 0; i < c.map_count; i++)
        map[i] = dek_command_range(&c, i);
    dek_block_begin(block.data(), c.opcode, c.endpoint_id, c.controller_handle);
    demand(dek_block_associate(block.data(), c.association, &c.blob, c.key_id, c.key_id_length,
                               &c.geometry, map.data(), c.map_count) == DEK_OK);
    dek_block_seal(block.data());
    dek_command again;
    demand(dek_block_decode(block.data(), &again) == DEK_OK && sample::holds(block.data(), again));
    demand(again.map_count == c.map_count && again.key_id_length == c.key_id_length);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0)
        return 0;
    sample::Block block = dressed(data, size);
    dek_command command;
    dek_status status = dek_block_decode(block.data(), &command);
    demand(status < DEK_STATUS_COUNT);
    demand(!dek::describe_text(block).empty());
    demand(dek::describe_json(block)["verdict"] == dek_status_text(status));
    if (status != DEK_OK)
        return 0;
    demand(sample::holds(block.data(), command));
    if (command.opcode == DEK_OP_ASSOCIATE || command.opcode == DEK_OP_UPDATE)
        rebuild(command);
    sample::Block response = block;
    if (command.opcode == DEK_OP_HANDSHAKE)
        dek_block_answer_handshake(response.data(), 1, DEK_PROTO_VERSION);
    else
        dek_block_answer(response.data(), DEK_BUSY);
    demand(dek_block_decode(response.data(), &command) == DEK_OK);
    return 0;
}
