// SPDX-License-Identifier: Apache-2.0
#include "kcm/status.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "kcm/range_table.h"

namespace dek::kcm {
namespace {

template <std::size_t n>
std::string text_of(const char (&field)[n]) {
    return {field, ::strnlen(field, n)};
}

json counters_json(const dek_ioc_stats& s) {
    return {{"reads", s.reads},
            {"writes", s.writes},
            {"flushes", s.flushes},
            {"read_bytes", s.read_bytes},
            {"write_bytes", s.write_bytes},
            {"encrypted_bytes", s.encrypted_bytes},
            {"decrypted_bytes", s.decrypted_bytes},
            {"plain_bytes", s.plain_bytes},
            {"fence_hits", s.fence_hits},
            {"refused", s.refused},
            {"waited", s.waited},
            {"errors", s.errors},
            {"in_flight", s.in_flight},
            {"restarts", s.restarts},
            {"flushes_unknown", s.flushes_unknown}};
}

json keys_json(const Volume& v) {
    json list = json::array();
    for (std::size_t i = 0; i < v.header.keys.size(); i++) {
        const auto& key = v.header.keys[i];
        json j = {{"id", key.id},
                  {"name", ""},
                  {"provider", key.provider},
                  {"bits", key.bits},
                  {"state", "unknown"}};
        if (i < v.keys.size() && v.keys[i].created != 0) {
            j["name"] = v.keys[i].name;
            j["state"] = keys::state_name(v.keys[i].state);
        }
        list.push_back(std::move(j));
    }
    return list;
}

json associations_json(const std::vector<dek_association_entry>& associations) {
    json list = json::array();
    for (const auto& a : associations)
        list.push_back({{"handle", handle_json(a.handle)},
                        {"key", key_id_of(a)},
                        {"ranges", a.ranges},
                        {"blocks", a.blocks}});
    return list;
}

void put_shares(json& j, const Volume& v, std::uint64_t encrypted) {
    j["encrypted_blocks"] = encrypted;
    j["plain_blocks"] = v.header.size - std::min(encrypted, v.header.size);
}

json header_facts(const Volume& v, const std::string& dev_dir) {
    const auto& h = v.header;
    json j = {{"name", v.name},
              {"uuid", volume::uuid_text(h.uuid)},
              {"device", v.device},
              {"node", dev_dir + "/" + v.name},
              {"block_device", v.block_device},
              {"place", volume::place_name(h.place)},
              {"header_at", nullptr},
              {"header", nullptr},
              {"offset", h.offset},
              {"size", h.size},
              {"data_unit", h.data_unit},
              {"logical_block", h.logical_block},
              {"tweak", volume::tweak_name(h.tweak)},
              {"endpoint_policy", h.endpoint_policy},
              {"encryptor", encryptor_word(v.encryptor)},
              {"encryptor_why", encryptor_why(v)},
              {"asked_for", wish_name(v.wish)},
              {"read_only", v.read_only},
              {"cipher", "aes-xts"},
              {"shim", v.shim},
              {"state", state_name(v.state)},
              {"reason", v.reason},
              {"sequence", h.sequence},
              {"keys", keys_json(v)},
              {"encrypted_blocks", nullptr},
              {"plain_blocks", nullptr}};
    if (v.header_file.empty())
        j["header_at"] = h.header_lba;
    else
        j["header"] = v.header_file;
    if (v.verified)
        put_shares(j, v, volume::encrypted_lbas(h));
    return j;
}

// A header that nobody could verify does not say what is encrypted; the shim does.
std::uint64_t served_as_encrypted(const std::vector<dek_range_entry>& ranges) {
    std::uint64_t sum = 0;
    for (const auto& r : ranges)
        if (r.state != DEK_RANGE_PLAIN && r.state != DEK_RANGE_RESERVED)
            sum += r.count;
    return sum;
}

bool has_fenced(const std::vector<dek_range_entry>& ranges) {
    return std::any_of(ranges.begin(), ranges.end(),
                       [](const auto& r) { return r.state == DEK_RANGE_FENCED; });
}

// What I/O meets now is the shim's to say. kcmd's own view, which is how far it has got with the
// volume, becomes the reason.
void add_live_state(json& j, const Volume& v, const dek_list_entry& endpoint, bool fenced) {
    const bool recovering = endpoint.flags & DEK_ENDPOINT_RECOVERING;
    if (endpoint.map_generation == 0 || fenced) {
        j["state"] = state_name(recovering ? VolumeState::waiting_for_keys : VolumeState::fenced);
        const std::string what =
            recovering ? "the shim has restarted" : "an encrypted range has no key";
        j["reason"] = v.reason.empty() ? what : what + ": " + v.reason;
    } else if (v.state != VolumeState::up) {
        j["state"] = state_name(VolumeState::up);
        j["reason"] =
            "the shim goes on with the keys it has, but kcmd cannot look after it: " + v.reason;
    }
}

// Its own endpoint.
void add_endpoint(json& j, const Volume& v, Shim& shim) {
    auto endpoint = shim.find(v.header.uuid);
    if (!endpoint || !*endpoint) {
        j["state"] = "down";
        if (v.reason.empty())
            j["reason"] = endpoint ? "the shim has lost it" : endpoint.error().reason;
        return;
    }
    j["engine"] = engine_text((*endpoint)->engine);
    if ((*endpoint)->flags & DEK_ENDPOINT_FAILED) {
        j["state"] = "down";
        j["reason"] = "the device beneath is gone, or is another one now";
    }
    if (auto associations = shim.associations(v.header.uuid))
        j["associations"] = associations_json(*associations);
    if (auto stats = shim.stats(v.header.uuid))
        j["counters"] = counters_json(*stats);
    auto ranges = shim.ranges(v.header.uuid);
    if (ranges && !v.verified)
        put_shares(j, v, served_as_encrypted(*ranges));
    if (v.state != VolumeState::down && j["state"] != "down" && ranges)
        add_live_state(j, v, **endpoint, has_fenced(*ranges));
}

// The endpoints beneath, which other volumes may share.
void add_legs(json& j, const Volume& v, Shim& shim) {
    const auto legs = leg_states(v, shim);
    const auto rows = legs ? range_table(v, shim) : tl::unexpected(legs.error());
    if (!rows) {
        j["state"] = "down";
        j["reason"] = rows.error().reason;
        return;
    }
    std::set<std::string> engines;
    for (const auto& [device, leg] : *legs) {
        for (auto& association : associations_json(leg.associations)) {
            association["endpoint"] = leg.name;
            j["associations"].push_back(std::move(association));
        }
        engines.insert(engine_text(leg.engine));
    }
    std::string engine;
    for (const auto& one : engines)
        engine += (engine.empty() ? "" : ", ") + one;
    j["engine"] = engine.empty() ? "none" : engine;
    const bool fenced = std::any_of(rows->begin(), rows->end(),
                                    [](const auto& row) { return row.state == DEK_RANGE_FENCED; });
    if (fenced && v.state == VolumeState::up) {
        j["state"] = state_name(VolumeState::fenced);
        j["reason"] = "an encrypted range has no key";
    }
}

} // namespace

const char* encryptor_word(layers::Encryptor who) {
    if (who == layers::Encryptor::endpoints || who == layers::Encryptor::software)
        return layers::encryptor_text(who);
    return "endpoint";
}

std::string encryptor_why(const Volume& v) {
    if (!v.survey)
        return v.shim == "fuse"
                   ? "the userspace shim encrypts by itself, and looks at nothing beneath it"
                   : "what lies beneath has not been looked at yet";
    const auto& decision = v.survey->decision;
    std::string why = decision.why;
    if (v.wish != Wish::automatic)
        why += std::string("; asked for: ") + wish_name(v.wish);
    const std::string now = encryptor_word(v.encryptor);
    if (now != encryptor_word(decision.who))
        why += "; not so yet, now it is " + now;
    return why;
}

std::string hex64(std::uint64_t value) {
    char text[19];
    std::snprintf(text, sizeof text, "0x%016llx", static_cast<unsigned long long>(value));
    return text;
}

json handle_json(std::uint64_t handle) {
    return handle <= 1ull << 53 ? json(handle) : json(hex64(handle));
}

const char* engine_text(std::uint32_t engine) {
    if (engine & DEK_ENGINE_INLINE)
        return "inline";
    if (engine & DEK_ENGINE_ACCEL)
        return "accel";
    return engine & DEK_ENGINE_CPU ? "cpu" : "none";
}

json engines_json(std::uint32_t engines) {
    json list = json::array();
    for (const std::uint32_t bit : {DEK_ENGINE_INLINE, DEK_ENGINE_ACCEL, DEK_ENGINE_CPU})
        if (engines & bit)
            list.push_back(engine_text(bit));
    return list;
}

const char* range_state_text(std::uint32_t state) {
    switch (state) {
    case DEK_RANGE_KEYED:
        return "keyed";
    case DEK_RANGE_FENCED:
        return "fenced";
    case DEK_RANGE_YIELDED:
        return "yielded";
    case DEK_RANGE_RESERVED:
        return "reserved";
    default:
        return "plain";
    }
}

json volume_json(const Volume& v, Shim& shim, const std::string& dev_dir) {
    json j = header_facts(v, dev_dir);
    j["engine"] = "none";
    j["associations"] = json::array();
    j["counters"] = json::object();
    if (v.encryptor == layers::Encryptor::software)
        j["engine"] = "dm-crypt";
    else if (v.encryptor == layers::Encryptor::endpoints)
        add_legs(j, v, shim);
    else
        add_endpoint(j, v, shim);
    return j;
}

json shim_json(const ShimSite& site) {
    auto v = site.shim->version();
    if (!v)
        return {{"kind", site.kind}, {"build", ""},     {"engine", ""}, {"engines", json::array()},
                {"takeover", false}, {"life", nullptr}, {"up", false}};
    return {{"kind", site.kind},
            {"build", text_of(v->build)},
            {"engine", text_of(v->engine_name)},
            {"engines", engines_json(v->engines)},
            {"takeover", (v->caps & DEK_CAP_TAKEOVER) != 0},
            {"life", hex64(v->life)},
            {"up", true}};
}

json endpoints_json(const std::vector<dek_list_entry>& endpoints) {
    static const char* const fences[] = {"eio", "transport", "hold"};
    json list = json::array();
    for (const auto& e : endpoints) {
        Uuid uuid;
        std::memcpy(uuid.data(), e.uuid, uuid.size());
        list.push_back({{"uuid", volume::uuid_text(uuid)},
                        {"endpoint_id", hex64(e.endpoint_id)},
                        {"name", text_of(e.name)},
                        {"device", text_of(e.device)},
                        {"first", e.first},
                        {"count", e.count},
                        {"map_generation", e.map_generation},
                        {"ranges", e.ranges},
                        {"associations", e.associations},
                        {"tokens", e.tokens},
                        {"data_unit", e.data_unit},
                        {"engine", engine_text(e.engine)},
                        {"fence", e.fence < 3 ? fences[e.fence] : "unknown"},
                        {"recovering", (e.flags & DEK_ENDPOINT_RECOVERING) != 0}});
    }
    return list;
}

json key_json(const keys::KeyInfo& info, const std::string& provider) {
    return {{"id", info.id},
            {"name", info.name},
            {"provider", provider},
            {"state", keys::state_name(info.state)},
            {"algorithm", info.algorithm},
            {"bits", info.bits},
            {"created", info.created},
            {"changed", info.changed},
            {"attributes", info.attributes}};
}

} // namespace dek::kcm
