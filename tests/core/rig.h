// SPDX-License-Identifier: Apache-2.0
// An endpoint in the hands of a shim that does nothing else: publishes at once, reclaims at once,
// and lets the test say when old I/O has gone. And the commands to send it, in one line each.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include <endpoint.h>

namespace rig {

using Block = std::array<std::uint8_t, DEK_BLOCK_SIZE>;
using Ranges = std::vector<dek_range>;

// The cipher: takes every key, or answers what it is told to.
struct Engine {
    dek_status on_set = DEK_OK;
    dek_status on_ready = DEK_OK;
    dek_status on_resolve = DEK_OK;
    std::array<std::uint8_t, DEK_KEY_DATA_SIZE> resolved{}; // key that key_resolve gives
    long sets = 0;
    long drops = 0;
    std::uint64_t seed = 1;
    dek_engine_ops ops{};

    Engine();
};

// Bytes of a key: distinct halves, different for every number.
std::array<std::uint8_t, DEK_KEY_DATA_SIZE> key_bytes(unsigned number, unsigned length = 64);

// What an Associate or Update says.
struct Body {
    std::uint64_t handle = 0;
    Ranges map;
    unsigned key = 1;
    std::string key_id = "key-1";
    unsigned key_length = 64;
    std::uint8_t type = DEK_BLOB_UNWRAPPED;
    bool blob = true;
    dek_geometry geometry{.data_unit = 4096,
                          .tweak_rule = DEK_TWEAK_UNIT,
                          .device_origin = 0,
                          .logical_origin = 0,
                          .chunk = 0,
                          .stripes = 0,
                          .leg = 0};
};

struct Answer {
    dek_status status;
    std::uint64_t handle;
};

struct Verdict {
    dek_verdict verdict;
    std::uint64_t handle; // 0: no association
    std::uint64_t count;
    bool operator==(const Verdict&) const = default;
};

class Endpoint {
  public:
    Engine engine;
    dek_endpoint_config config{};
    dek_endpoint* ep = nullptr;
    dek_change change{};
    std::vector<dek_event_type> events;

    // `count` LBAs, 4096-byte units. Not made until make() if `now` is false.
    explicit Endpoint(std::uint64_t count = 4096, bool now = true);
    ~Endpoint();
    Endpoint(const Endpoint&) = delete;
    Endpoint& operator=(const Endpoint&) = delete;
    void make();

    // Whether old I/O ends while the command waits (the default), or the wait is given up.
    bool drains = true;
    std::uint64_t held = 0; // the hold of the last wait that was given up

    Answer send(Block& block);
    Answer associate(const Body& body);
    Answer associate(Ranges map, unsigned key = 1);
    Answer update(const Body& body);
    Answer disassociate(std::uint64_t handle);
    Answer query(const Ranges& map);
    // The I/O that an abandoned command waited for has gone.
    void drained(std::uint64_t hold);

    int map(std::uint64_t generation, const Ranges& encrypt, const Ranges& reserved = {});
    int map_page(std::uint64_t generation, unsigned flags,
                 const std::vector<dek_map_entry>& entries);
    int quiesce(std::uint64_t first, std::uint64_t count, std::uint64_t& token);
    int release(std::uint64_t token);
    int yield(std::uint64_t token, std::uint64_t first, std::uint64_t count);

    // Publishes and reclaims a change made by hand; waits as told.
    int settle(int err, std::uint8_t* block = nullptr);

    Verdict look(std::uint64_t lba, bool write = false, std::uint64_t count = 1) const;
    dek_verdict read(std::uint64_t lba) const { return look(lba, false).verdict; }
    dek_verdict write(std::uint64_t lba) const { return look(lba, true).verdict; }
    std::vector<dek_range_entry> ranges() const;
    std::vector<dek_association_entry> associations() const;
    std::vector<dek_token_entry> tokens() const;
    dek_list_entry describe() const;

    Block associate_block(const Body& body, std::uint32_t opcode = DEK_OP_ASSOCIATE) const;

  private:
    void publish(dek_change& c);
};

} // namespace rig
