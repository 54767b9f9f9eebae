// SPDX-License-Identifier: Apache-2.0
#include "kcm/leg.h"

#include <algorithm>
#include <map>
#include <sstream>

#include <nlohmann/json.hpp>

#include "kcm/device.h"

namespace dek::kcm {
namespace {

using nlohmann::json;

constexpr int format_version = 1;
constexpr std::size_t text_max = 65536;
constexpr std::size_t word_max = 4096;
constexpr std::uint64_t lbas_max = 1ull << 55; // beyond it a device would have 2^64 bytes

tl::unexpected<Error> wrong(const std::string& why) {
    return fail(Errc::corrupt, why);
}

// Members of one object, strictly: each is asked for once, and none is left over. The first
// complaint stays.
class Members {
  public:
    explicit Members(std::string_view text) {
        if (text.size() > text_max) {
            complain("it is longer than " + std::to_string(text_max) + " bytes");
            return;
        }
        object_ = json::parse(text, nullptr, false);
        if (!object_.is_object())
            complain("it is no JSON object");
        else if (number("version", 0, UINT32_MAX) != format_version)
            complain("it is of another version");
    }

    std::string text(const char* name, bool may_be_empty = false) {
        const json* value = take(name);
        if (!value)
            return {};
        const auto* word = value->get_ptr<const std::string*>();
        const bool sound =
            word && word->size() <= word_max && (may_be_empty || !word->empty()) &&
            std::all_of(word->begin(), word->end(), [](char c) { return c >= ' ' && c <= '~'; });
        if (!sound)
            complain(std::string(name) + " is no plain text");
        return sound ? *word : std::string();
    }

    std::uint64_t number(const char* name, std::uint64_t least, std::uint64_t most) {
        const json* value = take(name);
        if (!value)
            return least;
        const auto* n = value->get_ptr<const json::number_unsigned_t*>();
        if (n && *n >= least && *n <= most)
            return *n;
        complain(std::string(name) + " is no number from " + std::to_string(least) + " to " +
                 std::to_string(most));
        return least;
    }

    bool flag(const char* name) {
        const json* value = take(name);
        if (!value)
            return false;
        if (!value->is_boolean())
            complain(std::string(name) + " is neither true nor false");
        return value->is_boolean() && value->get<bool>();
    }

    // Does `name` stand in the object and its file alike?
    std::string name(const std::string& expected) {
        auto word = text("name");
        if (word != expected || !volume::name_is_valid(word))
            complain("it does not belong to its name");
        return word;
    }

    Uuid uuid() {
        const auto u = volume::uuid_of(text("uuid"));
        if (!u)
            complain("uuid is none");
        return u.value_or(Uuid{});
    }

    Result<void> end() {
        if (why_.empty() && taken_ != object_.size())
            complain("it has members that are not known");
        return why_.empty() ? Result<void>() : Result<void>(wrong(why_));
    }

    void complain(const std::string& why) {
        if (why_.empty())
            why_ = why;
    }

  private:
    const json* take(const char* name) {
        const auto found = object_.is_object() ? object_.find(name) : object_.end();
        if (found == object_.end()) {
            complain(std::string(name) + " is missing");
            return nullptr;
        }
        taken_++;
        return &*found;
    }

    json object_;
    std::size_t taken_ = 0;
    std::string why_;
};

bool unit_is_valid(std::uint32_t unit) {
    return unit >= 512 && unit <= 4096 && (unit & (unit - 1)) == 0;
}

const std::string leg_prefix = "dekleg-", hidden_prefix = "dekleg.";
const std::string leg_uuid_prefix = "DEKLEG-", map_uuid_prefix = "DEKMP-";

std::vector<std::string> words_of(const std::string& text) {
    std::istringstream in(text);
    std::vector<std::string> words;
    for (std::string word; in >> word;)
        words.push_back(word);
    return words;
}

} // namespace

std::string to_text(const Leg& leg) {
    const json j = {{"version", format_version},
                    {"name", leg.name},
                    {"uuid", volume::uuid_text(leg.uuid)},
                    {"device", leg.device},
                    {"wwid", leg.wwid},
                    {"lbas", leg.lbas},
                    {"data_unit", leg.data_unit},
                    {"fence", fence_word(leg.fence)},
                    {"engine", leg.engine},
                    {"multipath", leg.multipath},
                    {"group", leg.group}};
    return j.dump(1) + "\n";
}

std::string to_text(const MultipathMap& map) {
    const json j = {{"version", format_version}, {"name", map.name},
                    {"wwid", map.wwid},          {"uuid", volume::uuid_text(map.uuid)},
                    {"lbas", map.lbas},          {"queue_if_no_path", map.queue_if_no_path}};
    return j.dump(1) + "\n";
}

Result<Leg> parse_leg(const std::string& name, std::string_view text) {
    Members members(text);
    Leg leg;
    leg.name = members.name(name);
    leg.uuid = members.uuid();
    leg.device = members.text("device");
    if (leg.device.empty() || leg.device[0] != '/')
        members.complain("device is no absolute path");
    leg.wwid = members.text("wwid", true);
    leg.lbas = members.number("lbas", 1, lbas_max);
    leg.data_unit = static_cast<std::uint32_t>(members.number("data_unit", 512, 4096));
    if (!unit_is_valid(leg.data_unit) || leg.lbas % (leg.data_unit / 512) != 0)
        members.complain("data_unit is none, or does not divide the device");
    const auto fence = fence_of(members.text("fence"));
    if (!fence)
        members.complain("fence is none");
    leg.fence = fence.value_or(DEK_FENCE_EIO);
    leg.engine = members.flag("engine");
    leg.multipath = members.text("multipath", true);
    if (!leg.multipath.empty() && !volume::name_is_valid(leg.multipath))
        members.complain("multipath is no name");
    leg.group = static_cast<std::uint32_t>(members.number("group", 1, path_groups_max));
    if (auto r = members.end(); !r)
        return tl::unexpected(r.error());
    return leg;
}

Result<MultipathMap> parse_multipath_map(const std::string& name, std::string_view text) {
    Members members(text);
    MultipathMap map;
    map.name = members.name(name);
    map.uuid = members.uuid();
    map.wwid = members.text("wwid", true);
    map.lbas = members.number("lbas", 1, lbas_max);
    map.queue_if_no_path = members.flag("queue_if_no_path");
    if (auto r = members.end(); !r)
        return tl::unexpected(r.error());
    return map;
}

const char* fence_word(std::uint32_t fence) {
    switch (fence) {
    case DEK_FENCE_TRANSPORT:
        return "transport";
    case DEK_FENCE_HOLD:
        return "hold";
    default:
        return "eio";
    }
}

std::optional<std::uint32_t> fence_of(std::string_view word) {
    for (const std::uint32_t fence : {DEK_FENCE_EIO, DEK_FENCE_TRANSPORT, DEK_FENCE_HOLD})
        if (word == fence_word(fence))
            return fence;
    return std::nullopt;
}

std::string dm_name(const Leg& leg) {
    return leg_prefix + leg.name;
}

std::string dm_uuid(const Leg& leg) {
    return leg_uuid_prefix + volume::uuid_text(leg.uuid);
}

std::string dm_uuid(const MultipathMap& m) {
    return map_uuid_prefix + volume::uuid_text(m.uuid);
}

std::string hidden_name_new(const Leg& leg) {
    return hidden_prefix + "new." + volume::uuid_text(leg.uuid);
}

std::string hidden_name_old(std::string_view dm_uuid) {
    return hidden_prefix + "old." + std::string(dm_uuid.substr(leg_uuid_prefix.size()));
}

bool is_hidden_name(std::string_view name) {
    return name.starts_with(hidden_prefix);
}

bool is_leg_uuid(std::string_view dm_uuid) {
    return dm_uuid.starts_with(leg_uuid_prefix);
}

bool is_map_uuid(std::string_view dm_uuid) {
    return dm_uuid.starts_with(map_uuid_prefix);
}

// UUID DEVICE OFFSET UNIT, as the target's constructor documents it. By number: paths are the
// kernel's to look up, and may mean something else to it.
layers::TableLine leg_line(const Leg& leg, dev_t device) {
    return {0, leg.lbas, "dek",
            volume::uuid_text(leg.uuid) + " " + number_text(device) + " 0 " +
                std::to_string(leg.data_unit) + (leg.engine ? " 1" : " 2") +
                " fence:" + fence_word(leg.fence) + (leg.engine ? "" : " engine:none")};
}

layers::TableLine multipath_line(const MultipathMap& map, std::vector<Path> paths) {
    std::map<std::uint32_t, std::vector<std::string>> groups;
    for (auto& path : paths)
        groups[path.group].push_back(std::move(path.number));
    std::string text = map.queue_if_no_path ? "3 queue_if_no_path " : "2 ";
    text += "queue_mode bio 0 " + std::to_string(groups.size()) + " 1";
    for (const auto& [group, numbers] : groups) {
        text += " service-time 0 " + std::to_string(numbers.size()) + " 1";
        for (const auto& number : numbers)
            text += " " + number + " 1";
    }
    return {0, map.lbas, "multipath", text};
}

// By what is between the selectors' names: numbers of devices.
bool has_paths(const layers::TableLine& live, const MultipathMap& map, std::vector<Path> paths) {
    const auto shape = [](const std::string& parameters) {
        std::vector<std::vector<std::string>> groups;
        for (const auto& word : words_of(parameters)) {
            if (word == "service-time")
                groups.emplace_back();
            else if (word.find(':') != std::string::npos && !groups.empty())
                groups.back().push_back(word);
        }
        for (auto& group : groups)
            std::sort(group.begin(), group.end());
        return groups;
    };
    const auto wanted = multipath_line(map, std::move(paths));
    return live.type == wanted.type && live.first == 0 && live.count == wanted.count &&
           shape(live.parameters) == shape(wanted.parameters);
}

} // namespace dek::kcm
