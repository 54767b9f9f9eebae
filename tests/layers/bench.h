// SPDX-License-Identifier: Apache-2.0
// Real endpoints beneath the layers: the shim core behind a port, with the faults a test asks for.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <endpoint.h>

#include "kcm/layers/initiator.h"
#include "kcm/layers/placement.h"

namespace bench {

using namespace dek::kcm::layers;
using dek::LunMap;

// Ranges that are a map.
LunMap map_of(std::vector<dek_range> ranges);

// Distinct halves, different for every number, which is the first byte.
std::array<std::uint8_t, DEK_KEY_DATA_SIZE> key_bytes(unsigned number);

// A key ID, its key in a blob, and a geometry, alive together.
class Key {
  public:
    explicit Key(unsigned number);
    Keying keying(const dek_geometry& geometry) const { return {id_, &blob_, geometry}; }
    unsigned number() const { return number_; }
    const std::string& id() const { return id_; }

  private:
    unsigned number_;
    std::string id_;
    std::array<std::uint8_t, DEK_KEY_DATA_SIZE> bytes_;
    dek_blob blob_{};
};

// What one LBA of an endpoint is in for.
struct Verdict {
    dek_verdict verdict;
    std::uint64_t tweak = 0;
    unsigned key = 0; // its number
};

// One endpoint of the core. A shim that publishes at once.
class Endpoint : public Port {
  public:
    Endpoint(std::uint64_t size, std::uint32_t unit, const char* class_name = DEK_CLASS_EHBA);
    ~Endpoint() override;

    dek::Result<void> send(Block block) override;
    // The must-encrypt map, of a new generation; 0 or -errno.
    int must_encrypt(const LunMap& map);
    // Another life: unmapped, without keys, under another ID.
    void new_life();

    std::uint64_t id() const { return dek_endpoint_id(ep_); }
    std::vector<dek_association_entry> associations() const;
    // For every LBA, reading and writing; a unit's own number for all of its LBAs.
    std::vector<Verdict> verdicts(bool write) const;

    dek_status ready = DEK_OK;  // to Query, and to a new Associate
    dek_status on_set = DEK_OK; // when the engine gets the key
    int sets_left = -1;         // so many keys it takes before on_set; -1: on_set holds
    int commands_left = -1;     // then it does not answer; -1: always
    bool lose_answers = false;  // what is carried out then is not answered
    bool drains = true;         // otherwise old I/O never ends: Busy
    std::uint32_t version = 1;  // of the protocol
    std::uint32_t max_associations = 1000;
    int sent = 0;
    // Opcode and ranges of every block that came.
    struct Seen {
        std::uint32_t opcode;
        std::uint32_t status;
        std::vector<dek_range> map;
        dek_geometry geometry;
        std::uint64_t association;
    };
    bool keep_seen = false;
    std::vector<Seen> seen;

  private:
    static dek_status key_set(void* self, dek_association* a);
    static dek_status key_ready(void* self, const dek_geometry*);
    static void random(void* self, void* out, std::size_t n);
    void make();
    void publish(dek_change& change);
    void settle(dek_change& change, std::uint8_t* block);

    dek_endpoint_config config_{};
    dek_engine_ops ops_{};
    dek_endpoint* ep_ = nullptr;
    std::uint64_t generation_ = 0;
    std::uint64_t seed_;
};

// The endpoints of a stack, by the names of its leaves.
class Endpoints {
  public:
    Endpoint& operator[](const std::string& name) { return *all_.at(name); }
    // For Tree::make(): made when first asked for. Fences are endpoints that never can.
    PortOf ports(const char* class_name = DEK_CLASS_EHBA);
    const std::map<std::string, std::shared_ptr<Endpoint>>& all() const { return all_; }
    std::size_t associations() const;

  private:
    std::map<std::string, std::shared_ptr<Endpoint>> all_;
};

// Stacks in a line each.
Device leaf(const std::string& name, Kind kind, std::uint64_t size, std::uint32_t unit = 512);
struct Segment {
    std::size_t device;
    std::uint64_t offset;
    std::uint64_t count;
};
Device linear(const std::string& name, const std::vector<Segment>& segments);
Device striped(const std::string& name, std::uint32_t chunk, std::uint64_t size,
               const std::vector<Leg>& legs);
Device mirror(const std::string& name, std::uint64_t size, const std::vector<Leg>& legs);
Device multipath(const std::string& name, std::uint64_t size, const std::vector<Leg>& legs);
Stack stack_of(std::vector<Device> devices);

} // namespace bench
