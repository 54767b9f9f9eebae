// SPDX-License-Identifier: Apache-2.0
// A controller for tests: calls, blocks, I/O on a volume's node, and the independent cipher.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <dek/codec.h>
#include <dek/ioctl.h>

#include "stage.h"

namespace conformance {

using Bytes = std::vector<std::uint8_t>;

// One open control file.
class Caller {
  public:
    Caller();
    ~Caller();
    Caller(const Caller&) = delete;
    Caller& operator=(const Caller&) = delete;
    void reopen();

    int fd() const { return fd_; }
    // 0 or errno.
    template <class T>
    int call(unsigned long number, T& argument) {
        return raw(number, &argument);
    }
    int raw(unsigned long number, void* argument);

  private:
    int fd_;
};

struct Association {
    Bytes key;
    std::vector<dek_range> ranges;
    dek_geometry geometry{4096, DEK_TWEAK_UNIT, 0, 0, 0, 0, 0};
    std::string key_id = "key";
    std::uint64_t handle = 0;
};

// A volume and what a controller does with it. Each failure of what must not fail throws.
class Volume {
  public:
    explicit Volume(const Spec& spec = {});
    ~Volume();
    Volume(const Volume&) = delete;
    Volume& operator=(const Volume&) = delete;

    Caller& caller() { return caller_; }
    void reopen() { caller_.reopen(); } // in a new life
    const Place& place() const { return place_; }
    const Spec& spec() const { return spec_; }
    // The UUID filled in.
    template <class T>
    T argument() const {
        T t{};
        std::copy(place_.uuid.begin(), place_.uuid.end(), t.uuid);
        return t;
    }

    std::uint64_t endpoint_id();
    dek_status command(std::uint8_t block[DEK_BLOCK_SIZE]);
    dek_status query(const std::vector<dek_range>& ranges);
    // New (handle 0), refresh, or update; the handle comes back in it.
    dek_status associate(Association& a, std::uint32_t opcode = DEK_OP_ASSOCIATE);
    dek_status disassociate(std::uint64_t handle);
    int map(std::uint64_t generation, const std::vector<dek_range>& encrypt,
            const std::vector<dek_range>& reserved = {});
    int quiesce(std::uint64_t first, std::uint64_t count, std::uint64_t& token,
                std::uint32_t timeout_ms = 0);
    int release(std::uint64_t token);
    int yield(std::uint64_t token, std::uint64_t first, std::uint64_t count);
    int engine(std::uint32_t engine);
    dek_list_entry listed();
    dek_ioc_stats stats();
    std::vector<dek_range_entry> ranges();
    std::vector<dek_association_entry> associations();
    std::vector<dek_token_entry> tokens();

    // I/O on the node, direct, at sectors of the volume (0 is its first). 0 or errno.
    int write(std::uint64_t sector, const Bytes& data);
    int read(std::uint64_t sector, Bytes& data);
    int write_bytes(std::uint64_t byte, const Bytes& data);
    int read_bytes(std::uint64_t byte, Bytes& data);
    int node() const { return node_; }
    // What lies on the device, at sectors of the device.
    Bytes on_device(std::uint64_t sector, std::uint64_t count) const;
    void put_on_device(std::uint64_t sector, const Bytes& data);

  private:
    Spec spec_;
    Caller caller_;
    Place place_;
    int node_ = -1;
};

// Bytes that differ from block to block.
Bytes pattern(std::size_t size, unsigned seed);
Bytes test_key(std::size_t size, unsigned seed);
// AES-XTS by OpenSSL's EVP, one IV per unit, the tweak from the document's formula: what `plain`,
// which starts at `lba` of the device, must look like on it.
Bytes expected(const Association& a, std::uint64_t lba, const Bytes& plain);

} // namespace conformance
