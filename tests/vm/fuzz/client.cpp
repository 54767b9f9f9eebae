// SPDX-License-Identifier: Apache-2.0
#include "client.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <memory>
#include <stdexcept>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

Block associate_block(std::uint32_t opcode, std::uint64_t endpoint_id, std::uint64_t handle,
                      std::uint8_t seed, std::uint32_t unit, std::uint8_t rule,
                      const Ranges& ranges) {
    Block block;
    std::uint8_t key[DEK_KEY_DATA_SIZE];
    for (unsigned i = 0; i < sizeof key; i++)
        key[i] = static_cast<std::uint8_t>(seed + 3 * i);
    dek_blob blob{};
    blob.present = true;
    blob.type = DEK_BLOB_UNWRAPPED;
    blob.key_length = sizeof key;
    blob.algorithm = DEK_ALG_AES;
    blob.mode = DEK_MODE_XTS;
    blob.key_data = key;
    const dek_geometry geometry{unit, rule, 0, 0, 0, 0, 0};
    const char id[2] = {'k', static_cast<char>('a' + seed % 26)};
    dek_block_begin(block.bytes, opcode, endpoint_id, controller_handle);
    dek_block_associate(block.bytes, handle, &blob, id, sizeof id, &geometry, ranges.data(),
                        static_cast<__u32>(ranges.size()));
    return block;
}

Client::Client(const Uuid& uuid) : uuid_(uuid) {
    control_ = ::open("/dev/dek-control", O_RDWR | O_CLOEXEC);
    if (control_ < 0)
        throw std::runtime_error("no /dev/dek-control");
}

Client::~Client() {
    ::close(control_);
}

template <class T>
T Client::argument() const {
    T t{};
    std::copy(uuid_.begin(), uuid_.end(), t.uuid);
    return t;
}

int Client::raw(unsigned long number, void* argument) const {
    return ::ioctl(control_, number, argument) < 0 ? errno : 0;
}

int Client::send(Block& block, bool seal) const {
    auto c = argument<dek_ioc_command>();
    if (seal)
        dek_block_seal(block.bytes);
    std::memcpy(c.block, block.bytes, DEK_BLOCK_SIZE);
    const int error = raw(DEK_IOC_COMMAND, &c);
    std::memcpy(block.bytes, c.block, DEK_BLOCK_SIZE);
    return error ? -error
                 : static_cast<int>(dek_get_le32(block.bytes + offsetof(dek_wire_header, status)));
}

int Client::handshake(std::uint64_t& id) const {
    Block block;
    const std::uint8_t random[768] = {1, 2, 3};
    dek_block_begin(block.bytes, DEK_OP_HANDSHAKE, 0, controller_handle);
    dek_block_handshake(block.bytes, DEK_CLASS_EHBA, random);
    const int status = send(block);
    id = dek_get_le64(block.bytes + offsetof(dek_wire_header, endpoint_id));
    return status;
}

int Client::query(std::uint64_t id, const Ranges& ranges) const {
    Block block;
    dek_block_begin(block.bytes, DEK_OP_QUERY, id, controller_handle);
    dek_block_query(block.bytes, ranges.data(), static_cast<__u32>(ranges.size()));
    return send(block);
}

int Client::associate(std::uint64_t id, std::uint64_t& handle, std::uint8_t seed,
                      const Ranges& ranges, std::uint32_t opcode) const {
    Block block = associate_block(opcode, id, handle, seed, unit, DEK_TWEAK_UNIT, ranges);
    const int status = send(block);
    if (status == DEK_OK)
        handle = dek_get_le64(block.bytes + offsetof(dek_wire_associate, association));
    return status;
}

int Client::disassociate(std::uint64_t id, std::uint64_t handle) const {
    Block block;
    dek_block_begin(block.bytes, DEK_OP_DISASSOCIATE, id, controller_handle);
    dek_block_disassociate(block.bytes, handle);
    return send(block);
}

int Client::map(std::uint64_t generation, std::uint32_t flags, const Ranges& ranges) const {
    auto m = std::make_unique<dek_ioc_map>(argument<dek_ioc_map>());
    m->generation = generation;
    m->flags = flags;
    m->count = static_cast<__u32>(std::min<std::size_t>(ranges.size(), DEK_MAP_PAGE));
    for (unsigned i = 0; i < m->count; i++)
        m->entry[i] = {ranges[i].first, ranges[i].count, DEK_MAP_ENCRYPT, 0};
    return raw(DEK_IOC_MAP, m.get());
}

int Client::quiesce(dek_range range, std::uint32_t milliseconds, std::uint64_t& token) const {
    auto q = argument<dek_ioc_quiesce>();
    q.first = range.first;
    q.count = range.count;
    q.timeout_ms = milliseconds;
    const int error = raw(DEK_IOC_QUIESCE, &q);
    token = q.token;
    return error;
}

int Client::release(std::uint64_t token) const {
    auto r = argument<dek_ioc_release>();
    r.token = token;
    return raw(DEK_IOC_RELEASE, &r);
}

int Client::yield(std::uint64_t token, dek_range range) const {
    auto y = argument<dek_ioc_yield>();
    y.token = token;
    y.first = range.first;
    y.count = range.count;
    return raw(DEK_IOC_YIELD, &y);
}

int Client::fence(std::uint32_t fence) const {
    auto f = argument<dek_ioc_fence>();
    f.fence = fence;
    return raw(DEK_IOC_FENCE, &f);
}

void Client::let_go() const {
    auto t = argument<dek_ioc_tokens>();
    fence(DEK_FENCE_EIO);
    if (raw(DEK_IOC_TOKENS, &t))
        return;
    for (unsigned i = 0; i < t.count; i++)
        release(t.entry[i].token);
}
