// SPDX-License-Identifier: Apache-2.0
#include "kcm/record.h"

#include <filesystem>
#include <fstream>

#include <nlohmann/json.hpp>

#include "base/durable.h"
#include "base/log.h"

namespace dek::kcm {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

Result<Record> parse(const fs::path& path) {
    std::ifstream in(path);
    const auto j = json::parse(in, nullptr, false);
    if (!j.is_object())
        return fail(Errc::corrupt, path.string() + " is no record of a volume");
    try {
        Record r;
        r.name = j.at("name").get<std::string>();
        auto uuid = volume::uuid_of(j.at("uuid").get<std::string>());
        if (!uuid || r.name + ".json" != path.filename().string() || !volume::name_is_valid(r.name))
            return fail(Errc::corrupt, path.string() + " does not belong to its name");
        r.uuid = *uuid;
        r.device = j.at("device").get<std::string>();
        r.identity = j.at("identity").get<std::string>();
        if (j.contains("header_at"))
            r.header_lba = j.at("header_at").get<std::uint64_t>();
        r.header_file = j.value("header", "");
        r.shim = j.at("shim").get<std::string>();
        r.read_only = j.at("read_only").get<bool>();
        r.complete = j.at("complete").get<bool>();
        r.wish =
            j.value("wish", "") == wish_name(Wish::software) ? Wish::software : Wish::automatic;
        r.strayed = j.value("strayed", false);
        r.keys = j.value("keys", std::vector<std::string>());
        return r;
    } catch (const json::exception&) {
        return fail(Errc::corrupt, path.string() + " is no record of a volume");
    }
}

} // namespace

Result<void> Records::write(const Record& r) const {
    json j = {{"name", r.name},
              {"uuid", volume::uuid_text(r.uuid)},
              {"device", r.device},
              {"identity", r.identity},
              {"shim", r.shim},
              {"read_only", r.read_only},
              {"complete", r.complete},
              {"keys", r.keys},
              {"wish", wish_name(r.wish)},
              {"strayed", r.strayed}};
    if (r.header_lba)
        j["header_at"] = *r.header_lba;
    else
        j["header"] = r.header_file;
    const std::string text = j.dump(1) + "\n";
    return write_file_durably(
        path_of(r.name), {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}, 0600);
}

void Records::remove(const std::string& name) const {
    std::error_code none;
    fs::remove(path_of(name), none);
    if (auto synced = sync_directory_of(path_of(name)); !synced)
        log_error("record-removal-not-durable", synced.error(), {{"volume", name}});
}

std::vector<Record> Records::all() const {
    std::vector<Record> records;
    std::error_code none;
    for (const auto& entry : fs::directory_iterator(directory_, none)) {
        const auto& path = entry.path();
        if (path.string().find(".json.new-") != std::string::npos)
            fs::remove(path, none); // left behind by a crash
        if (path.extension() != ".json")
            continue;
        auto record = parse(path);
        if (record) {
            records.push_back(std::move(*record));
        } else {
            log_error("record-not-understood", record.error());
            fs::rename(path, path.string() + ".bad", none);
        }
    }
    return records;
}

Record record_of(const Volume& volume, bool complete) {
    Record r;
    r.name = volume.name;
    r.uuid = volume.header.uuid;
    r.device = volume.device;
    r.identity = volume.identity;
    r.header_file = volume.header_file;
    if (volume.header_file.empty())
        r.header_lba = volume.header.header_lba;
    r.shim = volume.shim;
    r.read_only = volume.read_only;
    r.wish = volume.wish;
    r.strayed = volume.strayed;
    for (const auto& key : volume.header.keys)
        r.keys.push_back(key.id);
    r.complete = complete;
    return r;
}

} // namespace dek::kcm
