// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
// dek::CommandBlock: memory of its own for each block, and the C builders and decoder over it.
#include <dek/block.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <new>
#include <utility>

#include <sys/mman.h>
#include <unistd.h>

namespace dek {

namespace {

// A page to itself: locks count by pages, not by callers, so two blocks must not share one.
std::uint8_t* map_locked(std::size_t size) {
    void* p = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        throw std::bad_alloc();
    if (mlock(p, size) != 0 && geteuid() == 0) {
        munmap(p, size);
        throw std::bad_alloc();
    }
    madvise(p, size, MADV_DONTDUMP);
    madvise(p, size, MADV_WIPEONFORK);
    return static_cast<std::uint8_t*>(p);
}

} // namespace

CommandBlock::CommandBlock() : data_(map_locked(size)) {}

CommandBlock::CommandBlock(Bytes bytes) : CommandBlock() {
    std::copy(bytes.begin(), bytes.end(), data_);
}

CommandBlock::CommandBlock(CommandBlock&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)) {}

CommandBlock& CommandBlock::operator=(CommandBlock&& other) noexcept {
    CommandBlock taken(std::move(other));
    std::swap(data_, taken.data_);
    return *this;
}

CommandBlock::~CommandBlock() {
    if (!data_)
        return;
    wipe();
    munmap(data_, size);
}

void CommandBlock::wipe() noexcept {
    dek_wipe(data_, size);
}

CommandBlock::Built CommandBlock::built(CommandBlock block, dek_status status) {
    dek_command command;
    dek_block_seal(block.data_);
    if (status == DEK_OK)
        status = dek_block_decode(block.data_, &command);
    if (status != DEK_OK)
        return tl::unexpected(status);
    return block;
}

CommandBlock::Built CommandBlock::handshake(std::string_view class_name,
                                            std::span<const std::uint8_t, 768> random,
                                            std::uint64_t controller_handle) {
    CommandBlock block;
    std::array<char, DEK_CLASS_NAME_SIZE> name{};
    // A NUL inside would cut the name short without a word.
    if (class_name.size() >= name.size() || class_name.find('\0') != class_name.npos)
        return tl::unexpected(DEK_MALFORMED);
    std::copy(class_name.begin(), class_name.end(), name.begin());
    dek_block_begin(block.data_, DEK_OP_HANDSHAKE, 0, controller_handle);
    dek_status status = dek_block_handshake(block.data_, name.data(), random.data());
    return built(std::move(block), status);
}

CommandBlock::Built CommandBlock::query(Address address, std::span<const dek_range> map) {
    CommandBlock block;
    if (map.size() > DEK_MAX_RANGES)
        return tl::unexpected(DEK_MALFORMED);
    dek_block_begin(block.data_, DEK_OP_QUERY, address.endpoint_id, address.controller_handle);
    dek_status status =
        dek_block_query(block.data_, map.data(), static_cast<std::uint32_t>(map.size()));
    return built(std::move(block), status);
}

CommandBlock::Built CommandBlock::association(std::uint32_t opcode, Address address,
                                              const AssociationBody& body) {
    CommandBlock block;
    if (body.map.size() > DEK_MAX_RANGES || body.key_id.size() > DEK_KEY_ID_MAX)
        return tl::unexpected(DEK_MALFORMED);
    dek_block_begin(block.data_, opcode, address.endpoint_id, address.controller_handle);
    dek_status status =
        dek_block_associate(block.data_, body.association, body.blob, body.key_id.data(),
                            static_cast<std::uint32_t>(body.key_id.size()), &body.geometry,
                            body.map.data(), static_cast<std::uint32_t>(body.map.size()));
    return built(std::move(block), status);
}

CommandBlock::Built CommandBlock::associate(Address address, const AssociationBody& body) {
    return association(DEK_OP_ASSOCIATE, address, body);
}

CommandBlock::Built CommandBlock::update(Address address, const AssociationBody& body) {
    return association(DEK_OP_UPDATE, address, body);
}

CommandBlock::Built CommandBlock::disassociate(Address address, std::uint64_t association) {
    CommandBlock block;
    dek_block_begin(block.data_, DEK_OP_DISASSOCIATE, address.endpoint_id,
                    address.controller_handle);
    dek_block_disassociate(block.data_, association);
    return built(std::move(block), DEK_OK);
}

tl::expected<dek_command, dek_status> CommandBlock::decode() const& {
    dek_command command;
    dek_status status = dek_block_decode(data_, &command);
    if (status != DEK_OK)
        return tl::unexpected(status);
    return command;
}

tl::expected<dek_command, dek_status> CommandBlock::answer_to(const CommandBlock& command) const& {
    const auto* sent = reinterpret_cast<const dek_wire_header*>(command.data_);
    dek_command answer;
    dek_status status = dek_block_decode(data_, &answer);
    if (status == DEK_BAD_SIGNATURE || status == DEK_BAD_CHECKSUM)
        return tl::unexpected(status);
    if (answer.opcode != dek_get_le32(&sent->opcode) ||
        answer.controller_handle != dek_get_le64(&sent->controller_handle))
        return tl::unexpected(DEK_MALFORMED);
    // A refused command's body is the command's own, right or wrong.
    if (answer.status != DEK_OK)
        status = answer.status < DEK_STATUS_COUNT ? static_cast<dek_status>(answer.status)
                                                  : DEK_MALFORMED;
    if (status != DEK_OK)
        return tl::unexpected(status);
    return answer;
}

} // namespace dek
