// SPDX-License-Identifier: Apache-2.0
// Who encrypts which LBAs, and through which layers a request goes.
#include <algorithm>
#include <map>

#include "kcm/device_lbas.h"
#include "kcm/status.h"

namespace dek::kcm {
namespace {

struct Encryptor {
    std::string shim; // "fuse"
    std::string engine;
    std::map<std::uint64_t, std::string> keys; // by association
};

const char* who(const dek_range_entry& r, const Encryptor& e) {
    if (r.state == DEK_RANGE_KEYED)
        return e.shim == "fuse" ? "dek-shimd" : "dm-dek";
    return r.state == DEK_RANGE_YIELDED ? "above" : "nobody";
}

json range_json(const volume::Header& h, std::uint64_t first, std::uint64_t count,
                const dek_range_entry& r, const Encryptor& e) {
    const bool keyed = r.state == DEK_RANGE_KEYED;
    json j = {
        {"first", first},         {"last", first + count - 1}, {"state", range_state_text(r.state)},
        {"by", who(r, e)},        {"engine", nullptr},         {"key", nullptr},
        {"association", nullptr}, {"tweak_first", nullptr}};
    if (keyed) {
        const auto key = e.keys.find(r.association);
        j["engine"] = e.engine;
        j["key"] = key == e.keys.end() ? "" : key->second;
        j["association"] = handle_json(r.association);
        j["tweak_first"] = tweak_of(h, first);
    }
    return j;
}

// The shim lists what is not plain; the gaps are filled here.
json ranges_json(const volume::Header& h, const std::vector<dek_range_entry>& ranges,
                 const Encryptor& e) {
    const LinearLayer layer(h);
    json list = json::array();
    std::uint64_t next = 0;
    for (const auto& r : ranges) {
        if (r.first < h.offset || r.state == DEK_RANGE_PLAIN)
            continue;
        const auto lbas = layer.to_volume({r.first, r.count});
        if (lbas.first < next || lbas.first >= h.size)
            continue;
        if (lbas.first > next)
            list.push_back(range_json(h, next, lbas.first - next, dek_range_entry{}, e));
        const auto count = std::min(lbas.count, h.size - lbas.first);
        list.push_back(range_json(h, lbas.first, count, r, e));
        next = lbas.first + count;
    }
    if (next < h.size)
        list.push_back(range_json(h, next, h.size - next, dek_range_entry{}, e));
    return list;
}

json layers_json(const Volume& v, const Encryptor& e, const std::string& dev_dir) {
    json layers = json::array();
    const auto add = [&](const char* kind, const std::string& node, bool encrypts,
                         const std::string& why) {
        layers.push_back({{"kind", kind}, {"node", node}, {"encrypts", encrypts}, {"why", why}});
    };
    add("volume", dev_dir + "/" + v.name, false, "a link to the block device");
    if (v.shim == "fuse")
        add("loop", v.block_device, false,
            "makes a block device of the shim's file and changes nothing");
    add("dek", "endpoint " + volume::uuid_text(v.header.uuid), !e.keys.empty(),
        e.keys.empty()
            ? "has no key now: encrypted ranges are fenced"
            : "the endpoint nearest to the device that can encrypt (engine " + e.engine + ")");
    add("device", v.device, false,
        v.header.offset ? "holds the header in its first 1 MiB and ciphertext after it"
                        : "holds the volume one to one");
    return layers;
}

} // namespace

Result<json> topology_json(const Volume& v, Shim& shim, const std::string& dev_dir) {
    auto endpoint = shim.find(v.header.uuid);
    if (!endpoint)
        return tl::unexpected(endpoint.error());
    if (!*endpoint)
        return fail(Errc::unavailable, "the shim has lost volume " + v.name);
    auto associations = shim.associations(v.header.uuid);
    auto ranges = shim.ranges(v.header.uuid);
    if (!associations || !ranges)
        return tl::unexpected(associations ? ranges.error() : associations.error());
    Encryptor e{v.shim, engine_text((*endpoint)->engine), {}};
    for (const auto& a : *associations)
        e.keys[a.handle] = std::string(reinterpret_cast<const char*>(a.key_id),
                                       std::min<std::size_t>(a.key_id_length, sizeof a.key_id));
    return json{{"volume", v.name},
                {"uuid", volume::uuid_text(v.header.uuid)},
                {"layers", layers_json(v, e, dev_dir)},
                {"ranges", ranges_json(v.header, *ranges, e)}};
}

} // namespace dek::kcm
