// SPDX-License-Identifier: Apache-2.0
#include "kcm/layers/target.h"

#include <algorithm>

#include "kcm/layers/words.h"

namespace dek::kcm::layers {
namespace {

tl::unexpected<Error> nonsense(const TableLine& line, const std::string& why) {
    return fail(Errc::corrupt, "a table line of type " + line.type + " " + why);
}

// "MAJOR:MINOR", as the kernel prints it.
bool is_number(std::string_view text) {
    const auto colon = text.find(':');
    std::uint64_t major = 0, minor = 0;
    return colon != text.npos && parse_number(text.substr(0, colon), major) &&
           parse_number(text.substr(colon + 1), minor) && major < 1u << 12 && minor < 1u << 20;
}

bool has(const std::vector<std::string>& words, std::string_view word) {
    return std::find(words.begin(), words.end(), word) != words.end();
}

TargetLeg leg_of(Words& words) {
    TargetLeg leg;
    leg.number = words.word();
    leg.offset = words.number();
    return leg;
}

void read_linear(Words& words, Target& t) {
    t.kind = Kind::linear;
    t.legs.push_back(leg_of(words));
}

// COUNT CHUNK [DEVICE OFFSET]...
void read_striped(Words& words, Target& t) {
    t.kind = Kind::striped;
    auto n = words.number();
    const auto chunk = words.number();
    t.chunk = chunk <= 0xffffffffu ? static_cast<std::uint32_t>(chunk) : 0;
    for (; n > 0 && words.ok(); n--)
        t.legs.push_back(leg_of(words));
}

// LOG #ARGUMENTS [ARGUMENT]... #MIRRORS [DEVICE OFFSET]... [#FEATURES [FEATURE]...]
void read_mirror(Words& words, Target& t) {
    t.kind = Kind::mirror;
    words.word();
    for (const auto& argument : words.list())
        if (is_number(argument))
            t.others.push_back(argument);
    for (auto n = words.number(); n > 0 && words.ok(); n--)
        t.legs.push_back(leg_of(words));
    if (!words.at_end())
        words.list();
}

// TYPE #PARAMETERS [PARAMETER]... #DEVICES [METADATA DATA]..., "-" for what is missing
void read_raid(Words& words, Target& t) {
    const auto type = words.word();
    const auto parameters = words.list();
    if (type != "raid1")
        t.obstacle = "is " + type + ", beneath which no tweak could be kept";
    else if (has(parameters, "data_offset"))
        t.obstacle = "is being reshaped";
    t.kind = t.obstacle.empty() ? Kind::mirror : Kind::opaque;
    for (auto n = words.number(); n > 0 && words.ok(); n--) {
        const auto metadata = words.word(), data = words.word();
        if (metadata != "-")
            t.others.push_back(metadata);
        if (data != "-")
            (t.kind == Kind::mirror ? t.legs.push_back({data, 0}) : t.others.push_back(data));
    }
}

void read_paths(Words& words, Target& t) {
    words.word();
    words.list();
    auto paths = words.number();
    const auto arguments = words.number();
    for (; paths > 0 && words.ok(); paths--) {
        t.legs.push_back({words.word(), 0});
        for (auto n = arguments; n > 0 && words.ok(); n--)
            words.word();
    }
}

// #FEATURES [FEATURE]... #HANDLER [WORD]... #GROUPS NEXT, then for each group
// SELECTOR #ARGUMENTS [ARGUMENT]... #PATHS #PATH-ARGUMENTS [DEVICE [ARGUMENT]...]...
void read_multipath(Words& words, Target& t) {
    t.kind = Kind::multipath;
    const auto features = words.list();
    const auto handler = words.list();
    const auto mode = std::find(features.begin(), features.end(), "queue_mode");
    if (!handler.empty())
        t.obstacle = "has the hardware handler " + handler.front() +
                     ", which needs a request-based map, and that can have no encrypting paths";
    else if (mode == features.end() || mode + 1 == features.end() || *(mode + 1) != "bio")
        t.obstacle = "is request-based, so it can have no encrypting paths";
    auto groups = words.number();
    words.number();
    for (; groups > 0 && words.ok(); groups--)
        read_paths(words, t);
}

// UUID DEVICE OFFSET UNIT [#OPTIONS [OPTION]...]
void read_dek(Words& words, Target& t) {
    t.kind = Kind::endpoint;
    t.uuid = words.word();
    t.legs.push_back(leg_of(words));
    const auto unit = words.number();
    t.data_unit = unit <= 4096 ? static_cast<std::uint32_t>(unit) : 0;
    if (!words.at_end())
        words.list();
}

Result<Target> check(const TableLine& line, Words& words, Target t) {
    if (!words.ok() || !words.at_end())
        return nonsense(line, "has too few parameters, or too many");
    if (t.legs.empty() && t.kind != Kind::opaque)
        return nonsense(line, "has nothing beneath it");
    std::vector<std::string> seen;
    for (const auto& leg : t.legs) {
        if (!is_number(leg.number))
            return nonsense(line, "names a device other than by its number");
        if (t.kind == Kind::multipath && has(seen, leg.number))
            return nonsense(line, "has one path twice");
        seen.push_back(leg.number);
    }
    for (const auto& other : t.others)
        if (!is_number(other))
            return nonsense(line, "names a device other than by its number");
    return t;
}

PathState state_of(char group, const std::string& path) {
    if (path != "A")
        return PathState::failed;
    return group == 'A' ? PathState::active : PathState::standby;
}

} // namespace

Result<Target> parse_target(const TableLine& line) {
    static const std::map<std::string, void (*)(Words&, Target&)> readers = {
        {"linear", read_linear}, {"striped", read_striped},     {"mirror", read_mirror},
        {"raid", read_raid},     {"multipath", read_multipath}, {"dek", read_dek}};
    Target t;
    const auto reader = readers.find(line.type);
    if (reader == readers.end()) {
        t.obstacle = line.type == "crypt"
                         ? "is encrypted by dm-crypt already"
                         : "is a target of type " + line.type + ", which is not looked into";
        return t;
    }
    Words words(line.parameters);
    reader->second(words, t);
    return check(line, words, std::move(t));
}

// mirror: "2 253:3 253:4 96/96 1 AA 1 core"; raid: "raid1 2 AA 98304/98304 idle 0 0 -".
Result<bool> parse_copying(const TableLine& status) {
    Words words(status.parameters);
    if (status.type == "mirror") {
        words.list();
    } else {
        words.word();
        words.number();
        words.word();
    }
    const std::string ratio = words.word();
    const auto slash = std::min(ratio.find('/'), ratio.size());
    std::uint64_t done = 0, all = 0;
    if (!words.ok() || slash == ratio.size() || !parse_number(ratio.substr(0, slash), done) ||
        !parse_number(ratio.substr(slash + 1), all))
        return fail(Errc::corrupt, "does not say how far its legs are alike");
    const std::string action = status.type == "mirror" ? "idle" : words.word();
    return done != all || (action != "idle" && action != "frozen");
}

Result<std::map<std::string, PathState>> parse_path_states(std::string_view status) {
    Words words(status);
    std::map<std::string, PathState> states;
    words.list();
    words.list();
    auto groups = words.number();
    words.number();
    for (; groups > 0 && words.ok(); groups--) {
        const auto group = words.word();
        words.list();
        auto paths = words.number();
        const auto arguments = words.number();
        for (; paths > 0 && words.ok(); paths--) {
            const auto number = words.word();
            states[number] = state_of(group.empty() ? ' ' : group[0], words.word());
            words.number(); // how often it failed
            for (auto n = arguments; n > 0 && words.ok(); n--)
                words.word();
        }
    }
    if (!words.ok() || !words.at_end())
        return fail(Errc::corrupt, "the status of a multipath cannot be read");
    return states;
}

} // namespace dek::kcm::layers
