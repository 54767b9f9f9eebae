// SPDX-License-Identifier: Apache-2.0
// Who encrypts which LBAs, and through which layers a request goes.
#include <algorithm>
#include <cstring>
#include <set>

#include "kcm/device_lbas.h"
#include "kcm/range_table.h"
#include "kcm/status.h"

namespace dek::kcm {
namespace {

json text_or_null(const std::string& text) {
    return text.empty() ? json() : json(text);
}

json range_json(const volume::Header& h, const RangeRow& row) {
    const bool keyed = row.state == DEK_RANGE_KEYED;
    json j = {{"first", row.lbas.first},
              {"last", row.lbas.first + row.lbas.count - 1},
              {"state", range_state_text(row.state)},
              {"by", row.by},
              {"engine", text_or_null(row.engine)},
              {"key", nullptr},
              {"association", nullptr},
              {"tweak_first", nullptr}};
    if (keyed) {
        j["key"] = row.key;
        j["tweak_first"] = tweak_of(h, row.lbas.first);
        if (row.association)
            j["association"] = handle_json(row.association);
    }
    return j;
}

struct LayerRow {
    std::string kind, node, role, why;
    std::string engine = {}, path = {}; // empty: null
};

class Layers {
  public:
    Layers(const Volume& v, const std::vector<dek_list_entry>& endpoints,
           const std::map<Uuid, LegGuard>& guards)
        : v_(v), endpoints_(endpoints), guards_(guards) {}

    json list(const std::vector<RangeRow>& rows, const std::string& dev_dir) {
        add(0, {"volume", dev_dir + "/" + v_.name, "", "a link to the block device"});
        std::size_t depth = 1;
        if (v_.shim == "fuse")
            add(depth++, {"loop", v_.block_device, "passes-on",
                          "makes a block device of the shim's file and changes nothing"});
        add_own(depth++, rows);
        if (v_.survey)
            add_beneath(v_.survey->stack.top, depth, "");
        else
            add(depth,
                {"device", v_.device, "",
                 v_.header.offset ? "holds the header in its first 1 MiB and ciphertext after it"
                                  : "holds the volume one to one"});
        return std::move(layers_);
    }

  private:
    void add(std::size_t depth, const LayerRow& row) {
        layers_.push_back({{"kind", row.kind},
                           {"node", row.node},
                           {"depth", depth},
                           {"role", text_or_null(row.role)},
                           {"path", text_or_null(row.path)},
                           {"engine", text_or_null(row.engine)},
                           {"encrypts", row.role == "encrypts"},
                           {"why", row.why}});
    }

    // What kcmd made for the volume.
    void add_own(std::size_t depth, const std::vector<RangeRow>& rows) {
        const auto keyed = std::find_if(
            rows.begin(), rows.end(), [](const auto& row) { return row.state == DEK_RANGE_KEYED; });
        const char* without = "has no key now: encrypted ranges are fenced";
        const char* role = keyed != rows.end() ? "encrypts" : "fenced";
        if (v_.encryptor == layers::Encryptor::endpoints)
            add(depth, {"linear", v_.block_device, "passes-on",
                        "leaves the work to the endpoints beneath it"});
        else if (v_.encryptor == layers::Encryptor::software)
            add(depth,
                {"crypt", v_.block_device, role,
                 keyed != rows.end() ? "dm-crypt, with the key in the kernel's keyring" : without});
        else if (keyed != rows.end())
            add(depth, {"dek", "endpoint " + volume::uuid_text(v_.header.uuid), role,
                        "the endpoint nearest to the device that can encrypt (engine " +
                            keyed->engine + ")",
                        keyed->engine});
        else
            add(depth, {"dek", "endpoint " + volume::uuid_text(v_.header.uuid), role, without});
    }

    void add_beneath(std::size_t index, std::size_t depth, const std::string& path) {
        const auto& device = v_.survey->stack[index];
        const bool again = !seen_.insert(index).second;
        LayerRow row{layers::kind_text(device.kind), device.name, "",
                     path == "failed" ? "a failed path: carries no I/O until it is reinstated"
                                      : "holds nothing that is encrypted"};
        row.engine = engine_of(device);
        row.path = path;
        for (const auto& finding : v_.survey->decision.account)
            if (finding.device == index) {
                row.role = layers::role_text(finding.role);
                row.why = finding.why;
            }
        row.why += guard_of(device);
        if (again)
            row.why = "the same as above";
        add(depth, row);
        std::set<std::size_t> legs;
        for (const auto& leg : device.legs)
            if (!again && legs.insert(leg.device).second)
                add_beneath(leg.device, depth + 1, path_of(device, leg));
    }

    std::string guard_of(const layers::Device& device) const {
        const auto uuid = volume::uuid_of(device.uuid);
        const auto guard = uuid ? guards_.find(*uuid) : guards_.end();
        if (guard == guards_.end())
            return "";
        const auto& [lbas, why] = guard->second;
        return (lbas ? "; guards " + std::to_string(lbas) + " LBAs that nobody uses" : "") +
               (why.empty() ? "" : "; it " + why);
    }

    static std::string path_of(const layers::Device& device, const layers::Leg& leg) {
        static const char* const text[] = {"active", "standby", "failed"};
        return device.kind == layers::Kind::multipath ? text[static_cast<int>(leg.state)] : "";
    }

    // The one in use, as far as the shim says.
    std::string engine_of(const layers::Device& device) const {
        if (device.kind != layers::Kind::endpoint && device.kind != layers::Kind::fence)
            return "";
        const auto uuid = volume::uuid_of(device.uuid);
        for (const auto& entry : endpoints_)
            if (uuid && std::memcmp(entry.uuid, uuid->data(), uuid->size()) == 0)
                return engine_text(entry.engine);
        return "none";
    }

    const Volume& v_;
    const std::vector<dek_list_entry>& endpoints_;
    const std::map<Uuid, LegGuard>& guards_;
    json layers_ = json::array();
    std::set<std::size_t> seen_;
};

// What keeps endpoints beneath from encrypting, layer by layer.
json obstacles_json(const Volume& v) {
    json list = json::array();
    if (v.survey)
        for (const auto& finding : v.survey->decision.account)
            if (finding.role == layers::Role::in_the_way)
                list.push_back(finding.why);
    return list;
}

} // namespace

Result<json> topology_json(const Volume& v, Shim& shim, const std::string& dev_dir,
                           const std::map<Uuid, LegGuard>& guards) {
    const auto rows = range_table(v, shim);
    if (!rows)
        return tl::unexpected(rows.error());
    // What encrypts has been asked already; with dm-crypt no shim need be there.
    const auto endpoints = shim.list().value_or(std::vector<dek_list_entry>());
    json ranges = json::array();
    for (const auto& row : *rows)
        ranges.push_back(range_json(v.header, row));
    return json{{"volume", v.name},
                {"uuid", volume::uuid_text(v.header.uuid)},
                {"encryptor", encryptor_word(v.encryptor)},
                {"encryptor_why", encryptor_why(v)},
                {"in_the_way", obstacles_json(v)},
                {"layers", Layers(v, endpoints, guards).list(*rows, dev_dir)},
                {"ranges", std::move(ranges)}};
}

} // namespace dek::kcm
