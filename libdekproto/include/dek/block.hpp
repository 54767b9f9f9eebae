// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
// Command blocks of the DEK management protocol as C++ values. docs/protocol.md is the format.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include <dek/codec.h>
#include <dek/lunmap.hpp>
#include <tl/expected.hpp>

namespace dek {

// To whom, and what the answer is to be recognised by.
struct Address {
    std::uint64_t endpoint_id = 0;
    std::uint64_t controller_handle = 0;
};

// The body of Associate and Update. Points at its owner's memory.
struct AssociationBody {
    std::uint64_t association = 0;  // Associate: 0 for a new one
    const dek_blob* blob = nullptr; // nullptr: key ID only
    std::string_view key_id;        // 1..64 bytes
    dek_geometry geometry{};
    std::span<const dek_range> map; // 1..60
};

// 1536 bytes of its own, which may hold a key: move-only, locked in memory and left out of core
// dumps and of fork, wiped when let go. A moved-from block is empty and may only be assigned or
// destroyed. The builders give sealed blocks that decode; what would not is refused with the status
// it would have got. Not thread-safe for writing; concurrent reading is fine.
class CommandBlock {
  public:
    static constexpr std::size_t size = DEK_BLOCK_SIZE;
    using Bytes = std::span<const std::uint8_t, size>;
    using Built = tl::expected<CommandBlock, dek_status>;

    // Zeroed. std::bad_alloc when memory cannot be had or root may not lock it; an unprivileged
    // user's RLIMIT_MEMLOCK is tolerated.
    CommandBlock();
    explicit CommandBlock(Bytes bytes);
    CommandBlock(CommandBlock&& other) noexcept;
    CommandBlock& operator=(CommandBlock&& other) noexcept;
    CommandBlock(const CommandBlock&) = delete;
    CommandBlock& operator=(const CommandBlock&) = delete;
    ~CommandBlock();

    static Built handshake(std::string_view class_name, std::span<const std::uint8_t, 768> random,
                           std::uint64_t controller_handle);
    static Built query(Address address, std::span<const dek_range> map);
    static Built associate(Address address, const AssociationBody& body);
    static Built update(Address address, const AssociationBody& body);
    static Built disassociate(Address address, std::uint64_t association);

    bool empty() const { return data_ == nullptr; }
    std::uint8_t* data() { return data_; }
    const std::uint8_t* data() const { return data_; }
    Bytes bytes() const { return Bytes(data_, size); }
    std::span<std::uint8_t, size> bytes() { return std::span<std::uint8_t, size>(data_, size); }
    void wipe() noexcept; // to zeros

    // The command or response in this block, or the named rejection. Points into the block.
    tl::expected<dek_command, dek_status> decode() const&;
    tl::expected<dek_command, dek_status> decode() && = delete;

    // This block as the answer to `command`. The status it carries if that is not Success;
    // BAD_SIGNATURE or BAD_CHECKSUM if it cannot be read; MALFORMED if it answers something else.
    tl::expected<dek_command, dek_status> answer_to(const CommandBlock& command) const&;
    tl::expected<dek_command, dek_status> answer_to(const CommandBlock& command) && = delete;

  private:
    static Built built(CommandBlock block, dek_status status);
    static Built association(std::uint32_t opcode, Address address, const AssociationBody& body);

    std::uint8_t* data_ = nullptr;
};

} // namespace dek
