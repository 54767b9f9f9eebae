// SPDX-License-Identifier: Apache-2.0
// Well-formed calls of /dev/dek-control to one endpoint. Answers are errno or, of a protocol block,
// its status.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include <dek/codec.h>
#include <dek/ioctl.h>

using Uuid = std::array<std::uint8_t, DEK_UUID_SIZE>;
using Ranges = std::vector<dek_range>;

struct alignas(8) Block {
    std::uint8_t bytes[DEK_BLOCK_SIZE];
};

constexpr std::uint64_t controller_handle = 7;

// An Associate or Update of a key whose every byte is made from `seed`.
Block associate_block(std::uint32_t opcode, std::uint64_t endpoint_id, std::uint64_t handle,
                      std::uint8_t seed, std::uint32_t unit, std::uint8_t rule,
                      const Ranges& ranges);

class Client {
  public:
    // Opens /dev/dek-control; throws std::runtime_error if there is none.
    explicit Client(const Uuid& uuid);
    ~Client();
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;

    // Any call at all: 0 or errno.
    int raw(unsigned long number, void* argument) const;

    // The block, sealed if asked for, becomes its response. Status, or -errno of the ioctl.
    int send(Block& block, bool seal = true) const;
    int handshake(std::uint64_t& id) const;
    int query(std::uint64_t id, const Ranges& ranges) const;
    int associate(std::uint64_t id, std::uint64_t& handle, std::uint8_t seed, const Ranges& ranges,
                  std::uint32_t opcode = DEK_OP_ASSOCIATE) const;
    int disassociate(std::uint64_t id, std::uint64_t handle) const;

    int map(std::uint64_t generation, std::uint32_t flags, const Ranges& ranges) const;
    int quiesce(dek_range range, std::uint32_t milliseconds, std::uint64_t& token) const;
    int release(std::uint64_t token) const;
    int yield(std::uint64_t token, dek_range range) const;
    int fence(std::uint32_t fence) const;
    // Releases every token and lets every fence answer EIO, so that nothing waits.
    void let_go() const;

    [[nodiscard]] const Uuid& uuid() const { return uuid_; }
    std::uint32_t unit = 4096; // bytes, of what associate() and query() say

  private:
    template <class T>
    T argument() const;

    Uuid uuid_;
    int control_;
};
