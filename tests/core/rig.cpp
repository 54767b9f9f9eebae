// SPDX-License-Identifier: Apache-2.0
#include "rig.h"

#include <algorithm>
#include <cstring>

#include "allocator.h"

namespace rig {

namespace {

dek_status key_set(void* shim, dek_association* a) {
    auto& engine = *static_cast<Engine*>(shim);
    if (engine.on_set != DEK_OK)
        return engine.on_set;
    ++engine.sets;
    a->engine = shim;
    allocator::watch(a, offsetof(dek_association, key), sizeof(a->key));
    return DEK_OK;
}

void key_drop(void* shim, dek_association* a) {
    auto& engine = *static_cast<Engine*>(shim);
    engine.drops += a->engine == shim;
    a->engine = nullptr;
}

dek_status key_resolve(void* shim, const dek_command*, std::uint8_t* key, std::uint8_t* length) {
    auto& engine = *static_cast<Engine*>(shim);
    std::memcpy(key, engine.resolved.data(), DEK_KEY_DATA_SIZE);
    *length = 64;
    return engine.on_resolve;
}

dek_status ready(void* shim, const dek_geometry*) {
    return static_cast<Engine*>(shim)->on_ready;
}

void random(void* shim, void* out, std::size_t n) {
    auto& engine = *static_cast<Engine*>(shim);
    for (std::size_t i = 0; i < n; ++i) {
        engine.seed = engine.seed * 6364136223846793005u + 1442695040888963407u;
        static_cast<std::uint8_t*>(out)[i] = static_cast<std::uint8_t>(engine.seed >> 56);
    }
}

} // namespace

Engine::Engine() {
    resolved = key_bytes(99);
    ops = {key_set, key_drop, key_resolve, ready, random};
}

std::array<std::uint8_t, DEK_KEY_DATA_SIZE> key_bytes(unsigned number, unsigned length) {
    std::array<std::uint8_t, DEK_KEY_DATA_SIZE> key{};
    for (unsigned i = 0; i < length; ++i)
        key[i] = static_cast<std::uint8_t>(number * 37 + i + (i >= length / 2 ? 101 : 1));
    return key;
}

Endpoint::Endpoint(std::uint64_t count, bool now) {
    for (unsigned i = 0; i < DEK_UUID_SIZE; ++i)
        config.uuid[i] = static_cast<std::uint8_t>(i + 1);
    config.count = count;
    config.data_unit = 4096;
    config.class_name = DEK_CLASS_EHBA;
    config.engine = DEK_ENGINE_CPU;
    config.max_associations = 1000;
    config.max_ranges = 2000;
    config.ops = &engine.ops;
    config.shim = &engine;
    if (now)
        make();
}

Endpoint::~Endpoint() {
    dek_endpoint_destroy(ep);
}

void Endpoint::make() {
    ep = dek_endpoint_create(&config);
}

void Endpoint::publish(dek_change& c) {
    if (c.next)
        dek_endpoint_published(ep, &c);
    if (c.event)
        events.push_back(c.event);
    dek_change_reclaim(&c);
}

int Endpoint::settle(int err, std::uint8_t* block) {
    publish(change);
    if (!change.hold)
        return err;
    dek_change after;
    if (drains) {
        dek_endpoint_drained(ep, change.hold, block, &after);
    } else {
        held = change.hold;
        dek_endpoint_gave_up(ep, change.hold, block, &after);
    }
    publish(after);
    return err;
}

Answer Endpoint::send(Block& block) {
    dek_endpoint_command(ep, block.data(), &change);
    settle(0, block.data());
    const auto* w = reinterpret_cast<const dek_wire_associate*>(block.data());
    return {static_cast<dek_status>(dek_get_le32(&w->head.status)), dek_get_le64(&w->association)};
}

Block Endpoint::associate_block(const Body& body, std::uint32_t opcode) const {
    Block block;
    auto key = key_bytes(body.key, body.key_length);
    static const std::uint8_t filler[DEK_WRAP_NONCE_SIZE + DEK_WRAP_TAG_SIZE] = {};
    if (body.type == DEK_BLOB_KEYRING) {
        key.fill(0);
        key[0] = 'k';
    }
    dek_blob blob{};
    blob.present = true;
    blob.type = body.type;
    blob.key_length =
        static_cast<std::uint8_t>(body.type == DEK_BLOB_KEYRING ? 1 : body.key_length);
    blob.algorithm = DEK_ALG_AES;
    blob.mode = DEK_MODE_XTS;
    blob.key_data = key.data();
    blob.nonce = filler;
    blob.tag = filler;
    blob.kek_name = "kek";
    blob.kek_name_length = 3;
    dek_block_begin(block.data(), opcode, dek_endpoint_id(ep), 7);
    dek_block_associate(block.data(), body.handle, body.blob ? &blob : nullptr, body.key_id.data(),
                        static_cast<std::uint32_t>(body.key_id.size()), &body.geometry,
                        body.map.data(), static_cast<std::uint32_t>(body.map.size()));
    dek_block_seal(block.data());
    return block;
}

Answer Endpoint::associate(const Body& body) {
    Block block = associate_block(body);
    return send(block);
}

Answer Endpoint::associate(Ranges map, unsigned key) {
    Body body;
    body.map = std::move(map);
    body.key = key;
    return associate(body);
}

Answer Endpoint::update(const Body& body) {
    Block block = associate_block(body, DEK_OP_UPDATE);
    return send(block);
}

Answer Endpoint::disassociate(std::uint64_t handle) {
    Block block;
    dek_block_begin(block.data(), DEK_OP_DISASSOCIATE, dek_endpoint_id(ep), 7);
    dek_block_disassociate(block.data(), handle);
    dek_block_seal(block.data());
    return send(block);
}

Answer Endpoint::query(const Ranges& map) {
    Block block;
    dek_block_begin(block.data(), DEK_OP_QUERY, dek_endpoint_id(ep), 7);
    dek_block_query(block.data(), map.data(), static_cast<std::uint32_t>(map.size()));
    dek_block_seal(block.data());
    return send(block);
}

void Endpoint::drained(std::uint64_t hold) {
    dek_change after;
    dek_endpoint_drained(ep, hold, nullptr, &after);
    publish(after);
}

int Endpoint::map_page(std::uint64_t generation, unsigned flags,
                       const std::vector<dek_map_entry>& entries) {
    dek_ioc_map page{};
    page.generation = generation;
    page.flags = flags;
    page.count = static_cast<std::uint32_t>(entries.size());
    std::copy(entries.begin(), entries.end(), page.entry);
    return settle(dek_endpoint_map(ep, &page, &change));
}

int Endpoint::map(std::uint64_t generation, const Ranges& encrypt, const Ranges& reserved) {
    std::vector<dek_map_entry> all;
    for (const auto& r : encrypt)
        all.push_back({r.first, r.count, DEK_MAP_ENCRYPT, 0});
    for (const auto& r : reserved)
        all.push_back({r.first, r.count, DEK_MAP_RESERVED, 0});
    std::sort(all.begin(), all.end(), [](auto& a, auto& b) { return a.first < b.first; });
    int err = map_page(generation, DEK_MAP_BEGIN, {});
    for (std::size_t at = 0; !err && at < all.size(); at += DEK_MAP_PAGE)
        err = map_page(generation, DEK_MAP_ADD,
                       {all.begin() + static_cast<std::ptrdiff_t>(at),
                        all.begin() + static_cast<std::ptrdiff_t>(
                                          std::min<std::size_t>(all.size(), at + DEK_MAP_PAGE))});
    return err ? err : map_page(generation, DEK_MAP_COMMIT, {});
}

int Endpoint::quiesce(std::uint64_t first, std::uint64_t count, std::uint64_t& token) {
    __u64 given = 0;
    const int err = settle(dek_endpoint_quiesce(ep, first, count, &given, &change));
    token = given;
    return err;
}
int Endpoint::release(std::uint64_t token) {
    return settle(dek_endpoint_release(ep, token, &change));
}
int Endpoint::yield(std::uint64_t token, std::uint64_t first, std::uint64_t count) {
    return settle(dek_endpoint_yield(ep, token, first, count, &change));
}

Verdict Endpoint::look(std::uint64_t lba, bool write, std::uint64_t count) const {
    dek_piece piece;
    dek_snapshot_lookup(dek_endpoint_current(ep), lba, count, write, &piece);
    return {piece.verdict, piece.association ? piece.association->handle : 0, piece.count};
}

std::vector<dek_range_entry> Endpoint::ranges() const {
    std::vector<dek_range_entry> all;
    dek_range_entry entry;
    for (std::uint64_t lba = 0; dek_snapshot_next(dek_endpoint_current(ep), lba, &entry);
         lba = entry.first + entry.count)
        all.push_back(entry);
    return all;
}

std::vector<dek_association_entry> Endpoint::associations() const {
    std::vector<dek_association_entry> all;
    dek_association_entry entry;
    for (std::uint64_t above = 0; dek_endpoint_next_association(ep, above, &entry);
         above = entry.handle)
        all.push_back(entry);
    return all;
}

std::vector<dek_token_entry> Endpoint::tokens() const {
    std::vector<dek_token_entry> all;
    dek_token_entry entry;
    for (std::uint64_t above = 0; dek_endpoint_next_token(ep, above, &entry); above = entry.token)
        all.push_back(entry);
    return all;
}

dek_list_entry Endpoint::describe() const {
    dek_list_entry entry{};
    dek_endpoint_describe(ep, &entry);
    return entry;
}

} // namespace rig
