// SPDX-License-Identifier: Apache-2.0
#include "kcm/negotiate.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "kcm/device_lbas.h"
#include "kcm/protocol_error.h"

namespace dek::kcm {
namespace {

tl::unexpected<Error> fail_status(dek_status status, const std::string& what) {
    return fail(errc_of(status), what + ": the endpoint answers " + dek_status_text(status));
}

bool same_geometry(const __u8 wire[DEK_APP_INFO_SIZE], const dek_geometry& g) {
    const auto* w = reinterpret_cast<const dek_wire_app_info*>(wire);
    return dek_get_le32(&w->data_unit) == g.data_unit && w->tweak_rule == g.tweak_rule &&
           dek_get_le64(&w->device_origin) == g.device_origin &&
           dek_get_le64(&w->logical_origin) == g.logical_origin &&
           dek_get_le32(&w->chunk) == g.chunk && dek_get_le16(&w->stripes) == g.stripes &&
           dek_get_le16(&w->leg) == g.leg;
}

LunMap map_from(const std::vector<dek_range>& ranges) {
    auto map = LunMap::from(ranges);
    return map ? *map : LunMap();
}

// What an endpoint holds now.
struct EndpointState {
    std::uint64_t generation = 0;
    std::map<std::uint64_t, dek_association_entry>
        associations;                      // by handle; those being drained left out
    std::map<std::uint64_t, LunMap> keyed; // by handle
    std::vector<dek_map_entry> map;        // neighbours of one kind joined

    static Result<EndpointState> read(Shim& shim, const Uuid& uuid);
};

void append(std::vector<dek_map_entry>& map, const dek_range_entry& range) {
    const __u32 kind = range.state == DEK_RANGE_RESERVED ? DEK_MAP_RESERVED : DEK_MAP_ENCRYPT;
    if (!map.empty() && map.back().kind == kind &&
        map.back().first + map.back().count == range.first)
        map.back().count += range.count;
    else
        map.push_back({range.first, range.count, kind, 0});
}

Result<EndpointState> EndpointState::read(Shim& shim, const Uuid& uuid) {
    EndpointState state;
    auto entry = shim.find(uuid);
    if (!entry)
        return tl::unexpected(entry.error());
    if (!*entry)
        return fail(Errc::not_found, "the shim has no endpoint for this volume");
    state.generation = (*entry)->map_generation;
    auto associations = shim.associations(uuid);
    auto ranges = shim.ranges(uuid);
    if (!associations || !ranges)
        return tl::unexpected(associations ? ranges.error() : associations.error());
    for (const auto& a : *associations)
        if (!a.draining)
            state.associations[a.handle] = a;
    std::map<std::uint64_t, std::vector<dek_range>> keyed;
    for (const auto& range : *ranges) {
        if (range.state == DEK_RANGE_PLAIN)
            continue;
        append(state.map, range);
        if (range.state == DEK_RANGE_KEYED)
            keyed[range.association].push_back({range.first, range.count});
    }
    for (const auto& [handle, list] : keyed)
        state.keyed[handle] = map_from(list).merged();
    return state;
}

bool is_right(const EndpointState& state, const dek_association_entry& a,
              const volume::Header& header) {
    const auto id = key_id_of(a);
    const auto keyed = state.keyed.find(a.handle);
    for (std::size_t i = 0; i < header.keys.size(); i++)
        if (header.keys[i].id == id && same_geometry(a.app_info, tweak_geometry(header)))
            return keyed != state.keyed.end() &&
                   keyed->second.subtract(device_map_of_key(header, i)).empty();
    return false;
}

bool same_map(const std::vector<dek_map_entry>& a, const std::vector<dek_map_entry>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
        return x.first == y.first && x.count == y.count && x.kind == y.kind;
    });
}

// The ranges of key `index` that no association holds yet.
LunMap missing_of(const EndpointState& state, const volume::Header& header, std::size_t index) {
    LunMap missing = device_map_of_key(header, index);
    for (const auto& [handle, keyed] : state.keyed)
        missing = missing.subtract(keyed);
    return missing;
}

Result<void> establish_once(Shim& shim, const volume::Header& header, const KeyFinder& find_key) {
    auto state = EndpointState::read(shim, header.uuid);
    if (!state)
        return tl::unexpected(state.error());
    auto talk = Negotiation::begin(shim, header.uuid);
    if (!talk)
        return tl::unexpected(talk.error());
    for (const auto& [handle, association] : state->associations) {
        if (is_right(*state, association, header))
            continue;
        if (auto gone = talk->disassociate(handle); !gone)
            return gone;
        state->keyed.erase(handle);
    }
    const auto map = must_encrypt_map(header);
    if (state->generation == 0 || !same_map(state->map, map))
        if (auto given = shim.map(header.uuid, state->generation + 1, map); !given)
            return given;
    for (std::size_t i = 0; i < header.keys.size(); i++) {
        const LunMap missing = missing_of(*state, header, i);
        if (missing.empty())
            continue;
        if (auto can = talk->query(missing); !can)
            return can;
        auto key = find_key(header.keys[i]);
        if (!key)
            return tl::unexpected(key.error());
        if (auto made = talk->associate(missing, header.keys[i].id, *key, tweak_geometry(header));
            !made)
            return tl::unexpected(made.error());
    }
    return {};
}

} // namespace

dek_blob blob_of(const Secret& key, Secret& padded) {
    std::copy(key.bytes().begin(), key.bytes().end(), padded.bytes().begin());
    dek_blob blob{};
    blob.present = true;
    blob.type = DEK_BLOB_UNWRAPPED;
    blob.key_length = static_cast<__u8>(key.size());
    blob.algorithm = DEK_ALG_AES;
    blob.mode = DEK_MODE_XTS;
    blob.key_data = padded.bytes().data();
    return blob;
}

Address Negotiation::address() {
    return {endpoint_id_, next_handle_++};
}

Result<Negotiation> Negotiation::begin(Shim& shim, const Uuid& uuid) {
    Negotiation talk(shim, uuid);
    const Secret random = Secret::random(768);
    auto command =
        CommandBlock::handshake(DEK_CLASS_EHBA, random.bytes().first<768>(), talk.next_handle_++);
    if (!command)
        return fail_status(command.error(), "building a handshake");
    auto response = talk.send(*command);
    if (!response)
        return tl::unexpected(response.error());
    auto answer = response->answer_to(*command);
    if (!answer)
        return fail_status(answer.error(), "handshake");
    if (!dek_handshake_affirmative(command->data(), response->data()))
        return fail(Errc::unsupported, "handshake: nobody of class " DEK_CLASS_EHBA " answers");
    talk.endpoint_id_ = answer->endpoint_id;
    return talk;
}

Result<CommandBlock> Negotiation::send(const CommandBlock& command) {
    CommandBlock response(command.bytes());
    if (auto sent = shim_->command(uuid_, response.bytes()); !sent)
        return tl::unexpected(sent.error());
    return response;
}

// The association's handle in the answer (0 where there is none).
Result<std::uint64_t> Negotiation::exchange(const CommandBlock& command, const std::string& what) {
    auto response = send(command);
    if (!response)
        return tl::unexpected(response.error());
    auto answer = response->answer_to(command);
    if (!answer)
        return fail_status(answer.error(), what);
    return answer->association;
}

Result<void> Negotiation::query(const LunMap& map) {
    for (const auto& ranges : map.blocks()) {
        auto command = CommandBlock::query(address(), ranges);
        if (!command)
            return fail_status(command.error(), "building a query");
        if (auto r =
                exchange(*command, "asking whether device LBAs from " +
                                       std::to_string(ranges.front().first) + " can be encrypted");
            !r)
            return tl::unexpected(r.error());
    }
    return {};
}

Result<std::vector<std::uint64_t>> Negotiation::associate(const LunMap& map,
                                                          const std::string& key_id,
                                                          const Secret& key,
                                                          const dek_geometry& geometry) {
    if (key.size() != 32 && key.size() != 64)
        return fail(Errc::invalid_argument, "key " + key_id + " is not an AES-XTS key");
    Secret padded(DEK_KEY_DATA_SIZE);
    const dek_blob blob = blob_of(key, padded);
    const auto capacity = dek_associate_capacity(&blob, static_cast<__u32>(key_id.size()));
    if (capacity == 0)
        return fail(Errc::invalid_argument, "key ID " + key_id + " is too long");
    std::vector<std::uint64_t> handles;
    for (const auto& ranges : map.blocks(capacity)) {
        AssociationBody body{0, &blob, key_id, geometry, ranges};
        auto command = CommandBlock::associate(address(), body);
        if (!command)
            return fail_status(command.error(), "building an association with key " + key_id);
        auto handle = exchange(*command, "associating key " + key_id);
        if (!handle)
            return tl::unexpected(handle.error());
        handles.push_back(*handle);
    }
    return handles;
}

Result<void> Negotiation::disassociate(std::uint64_t handle) {
    auto command = CommandBlock::disassociate(address(), handle);
    if (!command)
        return fail_status(command.error(), "building a disassociation");
    auto r = exchange(*command, "taking away an association");
    return r ? Result<void>() : tl::unexpected(r.error());
}

Result<void> establish(Shim& shim, const volume::Header& header, const KeyFinder& find_key) {
    Result<void> done;
    for (int lives = 0; lives < 3; lives++) {
        const auto before = shim.life();
        done = establish_once(shim, header, find_key);
        if (done || !before)
            return done;
        const auto after = shim.life();
        if (!after || *after == *before)
            return done;
    }
    return done;
}

Result<bool> is_established(Shim& shim, const volume::Header& header) {
    auto state = EndpointState::read(shim, header.uuid);
    if (!state)
        return tl::unexpected(state.error());
    for (const auto& [handle, association] : state->associations)
        if (!is_right(*state, association, header))
            return false;
    for (std::size_t i = 0; i < header.keys.size(); i++)
        if (!missing_of(*state, header, i).empty())
            return false;
    return state->generation != 0 && same_map(state->map, must_encrypt_map(header));
}

} // namespace dek::kcm
