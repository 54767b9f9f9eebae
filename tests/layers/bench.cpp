// SPDX-License-Identifier: Apache-2.0
#include "bench.h"

#include <algorithm>
#include <stdexcept>

namespace bench {

LunMap map_of(std::vector<dek_range> ranges) {
    return LunMap::from(std::move(ranges)).value();
}

std::array<std::uint8_t, DEK_KEY_DATA_SIZE> key_bytes(unsigned number) {
    std::array<std::uint8_t, DEK_KEY_DATA_SIZE> key{};
    for (unsigned i = 0; i < key.size(); i++)
        key[i] = static_cast<std::uint8_t>(number + i * (i < 32 ? 3 : 5));
    return key;
}

Key::Key(unsigned number)
    : number_(number), id_("key-" + std::to_string(number)), bytes_(key_bytes(number)) {
    blob_.present = true;
    blob_.type = DEK_BLOB_UNWRAPPED;
    blob_.key_length = DEK_KEY_DATA_SIZE;
    blob_.algorithm = DEK_ALG_AES;
    blob_.mode = DEK_MODE_XTS;
    blob_.key_data = bytes_.data();
}

Endpoint::Endpoint(std::uint64_t size, std::uint32_t unit, const char* class_name) {
    static std::uint64_t endpoints = 0;
    seed_ = ++endpoints * 7919;
    config_.count = size;
    config_.data_unit = unit;
    config_.class_name = class_name;
    config_.engine = DEK_ENGINE_CPU;
    config_.max_ranges = 4000;
    config_.ops = &ops_;
    config_.shim = this;
    ops_ = {key_set, [](void*, dek_association*) {},
            [](void*, const dek_command*, std::uint8_t*, std::uint8_t*) { return DEK_INVALID_KEY; },
            key_ready, random};
    make();
}

Endpoint::~Endpoint() {
    dek_endpoint_destroy(ep_);
}

void Endpoint::make() {
    config_.max_associations = max_associations;
    ep_ = dek_endpoint_create(&config_);
    if (!ep_)
        throw std::logic_error("no endpoint");
}

void Endpoint::new_life() {
    dek_endpoint_destroy(ep_);
    generation_ = 0;
    make();
}

dek_status Endpoint::key_set(void* self, dek_association*) {
    auto& e = *static_cast<Endpoint*>(self);
    return e.sets_left > 0 ? (e.sets_left--, DEK_OK) : e.on_set;
}

dek_status Endpoint::key_ready(void* self, const dek_geometry*) {
    return static_cast<Endpoint*>(self)->ready;
}

void Endpoint::random(void* self, void* out, std::size_t n) {
    auto& seed = static_cast<Endpoint*>(self)->seed_;
    for (std::size_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        static_cast<std::uint8_t*>(out)[i] = static_cast<std::uint8_t>(seed >> 56);
    }
}

void Endpoint::publish(dek_change& change) {
    if (change.next)
        dek_endpoint_published(ep_, &change);
    dek_change_reclaim(&change);
}

void Endpoint::settle(dek_change& change, std::uint8_t* block) {
    publish(change);
    if (!change.hold)
        return;
    dek_change after;
    (drains ? dek_endpoint_drained : dek_endpoint_gave_up)(ep_, change.hold, block, &after);
    publish(after);
}

dek::Result<void> Endpoint::send(Block block) {
    sent++;
    if (commands_left == 0 && !lose_answers)
        return dek::fail(dek::Errc::unavailable, "the link is down");
    const bool lost = commands_left == 0;
    commands_left -= commands_left > 0;
    dek_command command;
    const auto sound = dek_block_decode(block.data(), &command);
    Seen one{command.opcode, 0, {}, command.geometry, command.association};
    for (std::uint32_t i = 0; keep_seen && sound == DEK_OK && i < command.map_count; i++)
        one.map.push_back(dek_command_range(&command, i));
    dek_change change;
    dek_endpoint_command(ep_, block.data(), &change);
    settle(change, block.data());
    auto* head = reinterpret_cast<dek_wire_header*>(block.data());
    one.status = dek_get_le32(&head->status);
    if (keep_seen)
        seen.push_back(std::move(one));
    if (command.opcode == DEK_OP_HANDSHAKE && one.status == DEK_OK && version != 1) {
        dek_put_le32(&head->version, std::min(command.version, version));
        dek_block_seal(block.data());
    }
    return lost ? dek::Result<void>(dek::fail(dek::Errc::unavailable, "the link went down"))
                : dek::Result<void>();
}

int Endpoint::must_encrypt(const LunMap& map) {
    const auto page = [&](unsigned flags, std::span<const dek_range> ranges) {
        dek_ioc_map m{};
        m.generation = generation_ + 1;
        m.flags = flags;
        for (const auto& r : ranges)
            m.entry[m.count++] = {r.first, r.count, DEK_MAP_ENCRYPT, 0};
        dek_change change;
        const int error = dek_endpoint_map(ep_, &m, &change);
        if (flags == DEK_MAP_COMMIT && error == 0)
            settle(change, nullptr);
        return error;
    };
    if (const int error = page(DEK_MAP_BEGIN, {}))
        return error;
    for (const auto& ranges : map.blocks(DEK_MAP_PAGE))
        if (const int error = page(DEK_MAP_ADD, ranges))
            return error;
    const int error = page(DEK_MAP_COMMIT, {});
    generation_ += error == 0;
    return error;
}

std::vector<dek_association_entry> Endpoint::associations() const {
    std::vector<dek_association_entry> all;
    dek_association_entry entry;
    for (std::uint64_t above = 0; dek_endpoint_next_association(ep_, above, &entry);
         above = entry.handle)
        all.push_back(entry);
    return all;
}

std::vector<Verdict> Endpoint::verdicts(bool write) const {
    std::vector<Verdict> all;
    const std::uint64_t unit = config_.data_unit / 512;
    while (all.size() < config_.count) {
        dek_piece piece;
        dek_snapshot_lookup(dek_endpoint_current(ep_), all.size(), config_.count - all.size(),
                            write, &piece);
        if (piece.verdict != DEK_CRYPT) {
            all.insert(all.end(), piece.count, {piece.verdict, 0, 0});
            continue;
        }
        for (std::uint64_t left = piece.count; left > 0;) {
            struct dek_tweak_run run;
            dek_tweak_run(&piece.association->geometry, all.size(), left, &run);
            for (std::uint64_t i = 0; i < run.count; i++)
                all.push_back(
                    {DEK_CRYPT, run.tweak + i / unit * run.step, piece.association->key[0]});
            left -= run.count;
        }
    }
    return all;
}

PortOf Endpoints::ports(const char* class_name) {
    return [this, class_name](const Device& d) -> std::shared_ptr<Port> {
        auto& endpoint = all_[d.name];
        if (!endpoint) {
            endpoint = std::make_shared<Endpoint>(d.size, d.endpoint.data_unit, class_name);
            endpoint->ready = d.kind == Kind::fence ? DEK_NOT_CAPABLE : d.endpoint.ready;
        }
        return endpoint;
    };
}

std::size_t Endpoints::associations() const {
    std::size_t n = 0;
    for (const auto& [name, endpoint] : all_)
        n += endpoint->associations().size();
    return n;
}

Device leaf(const std::string& name, Kind kind, std::uint64_t size, std::uint32_t unit) {
    Device d;
    d.name = name;
    d.kind = kind;
    d.size = size;
    d.endpoint.data_unit = unit;
    d.endpoint.engines = kind == Kind::endpoint ? DEK_ENGINE_INLINE | DEK_ENGINE_CPU : 0;
    return d;
}

Device linear(const std::string& name, const std::vector<Segment>& segments) {
    Device d;
    d.name = name;
    d.kind = Kind::linear;
    for (const auto& s : segments) {
        d.legs.push_back({s.device, s.offset, d.size, s.count, PathState::active});
        d.size += s.count;
    }
    return d;
}

namespace {

Device layer(const std::string& name, Kind kind, std::uint64_t size, const std::vector<Leg>& legs) {
    Device d;
    d.name = name;
    d.kind = kind;
    d.size = size;
    d.legs = legs;
    return d;
}

} // namespace

Device striped(const std::string& name, std::uint32_t chunk, std::uint64_t size,
               const std::vector<Leg>& legs) {
    Device d = layer(name, Kind::striped, size, legs);
    d.chunk = chunk;
    return d;
}

Device mirror(const std::string& name, std::uint64_t size, const std::vector<Leg>& legs) {
    return layer(name, Kind::mirror, size, legs);
}

Device multipath(const std::string& name, std::uint64_t size, const std::vector<Leg>& legs) {
    return layer(name, Kind::multipath, size, legs);
}

Stack stack_of(std::vector<Device> devices) {
    Stack stack{std::move(devices), 0};
    stack.top = stack.devices.size() - 1;
    return stack;
}

} // namespace bench
