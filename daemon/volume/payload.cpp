// SPDX-License-Identifier: Apache-2.0
// The members of the JSON text, and how they are read without trusting one of them.
#include "volume/payload.h"

#include <array>
#include <limits>
#include <optional>
#include <set>

#include "volume/hex.h"
#include "volume/layout.h"
#include "volume/rule.h"

namespace dek::volume {

using nlohmann::json;

namespace {

constexpr const char* cipher_text = "aes-xts";
constexpr std::array places{Place::leading, Place::in_place, Place::detached};
constexpr std::array tweaks{TweakRule::unit, TweakRule::lba512};

// Watches a parse for what the JSON library lets pass.
class Watch {
  public:
    explicit Watch(std::size_t max_depth) : max_depth_(max_depth) {}

    bool operator()(json::parse_event_t event, const json& parsed) {
        switch (event) {
        case json::parse_event_t::object_start:
        case json::parse_event_t::array_start:
            names_.emplace_back();
            too_deep |= names_.size() > max_depth_;
            break;
        case json::parse_event_t::object_end:
        case json::parse_event_t::array_end:
            names_.pop_back();
            break;
        case json::parse_event_t::key:
            duplicate |= !names_.back().insert(parsed.get_ref<const std::string&>()).second;
            break;
        case json::parse_event_t::value:
            break;
        }
        return true;
    }

    bool too_deep = false;
    bool duplicate = false;

  private:
    std::size_t max_depth_;
    std::vector<std::set<std::string>> names_; // of each object that is open
};

// Takes members out of an object one by one; the first thing that is wrong sticks.
class Members {
  public:
    explicit Members(const json& object) : object_(object) {
        if (!object.is_object())
            reject(Rule::json_type, "object");
    }

    std::string text(const char* name) {
        const json* member = take(name, json::value_t::string);
        return member ? member->get<std::string>() : std::string();
    }

    std::uint64_t number(const char* name, std::uint64_t max) {
        const json* member = take(name, json::value_t::number_unsigned);
        const std::uint64_t value = member ? member->get<std::uint64_t>() : 0;
        if (value > max)
            reject(Rule::json_value, name);
        return value <= max ? value : 0;
    }

    template <std::size_t N>
    std::array<std::uint8_t, N> bytes(const char* name) {
        std::array<std::uint8_t, N> value{};
        if (!hex_bytes(text(name), value))
            reject(Rule::json_value, name);
        return value;
    }

    // The element of `values` whose name stands there.
    template <class Values, class Name>
    auto choice(const char* name, const Values& values, Name name_of) {
        const std::string chosen = text(name);
        for (const auto value : values)
            if (chosen == name_of(value))
                return value;
        reject(Rule::json_value, name);
        return values.front();
    }

    const json* take(const char* name, json::value_t type) {
        const auto found = object_.find(name);
        if (!error_ && found == object_.end())
            reject(Rule::json_missing, name);
        if (error_)
            return nullptr;
        ++taken_;
        if (found->type() != type) {
            reject(Rule::json_type, name);
            return nullptr;
        }
        return &*found;
    }

    bool has(const char* name) const { return object_.contains(name); }

    void reject(Rule rule, const std::string& detail) {
        if (!error_)
            error_ = broken(rule, detail).value();
    }

    Result<void> finish(bool lenient) {
        if (!error_ && !lenient && taken_ != object_.size())
            reject(Rule::json_unknown, "");
        return error_ ? Result<void>(tl::unexpected<Error>(*error_)) : Result<void>();
    }

  private:
    const json& object_;
    std::size_t taken_ = 0;
    std::optional<Error> error_;
};

json journal_of(Place place) {
    return {{"offset", journal_byte}, {"size", place_lbas(place) * 512 - journal_byte}};
}

json json_of(const HeaderKey& key) {
    return {{"id", key.id},
            {"provider", key.provider},
            {"bits", key.bits},
            {"salt", hex_text(key.check_salt)},
            {"check", hex_text(key.check_value)}};
}

Result<HeaderKey> key_of(const json& object) {
    Members members(object);
    HeaderKey key;
    key.id = members.text("id");
    key.provider = members.text("provider");
    key.bits = static_cast<std::uint32_t>(
        members.number("bits", std::numeric_limits<std::uint32_t>::max()));
    key.check_salt = members.bytes<16>("salt");
    key.check_value = members.bytes<16>("check");
    if (auto finished = members.finish(false); !finished)
        return tl::unexpected<Error>(finished.error());
    return key;
}

Result<void> read_keys(Members& members, Header& header) {
    const json* keys = members.take("keys", json::value_t::array);
    if (!keys)
        return {};
    if (keys->size() > max_keys)
        return broken(Rule::key_count);
    for (const json& object : *keys) {
        auto key = key_of(object);
        if (!key)
            return tl::unexpected<Error>(key.error());
        header.keys.push_back(std::move(*key));
    }
    return {};
}

void read_geometry(Members& members, Header& header) {
    constexpr std::uint64_t max32 = std::numeric_limits<std::uint32_t>::max();
    header.place = members.choice("place", places, place_name);
    header.header_lba = members.number("header_lba", max_lbas);
    header.device_lbas = members.number("device_lbas", max_lbas);
    header.offset = members.number("offset", max_lbas);
    header.size = members.number("size", max_lbas);
    header.data_unit = static_cast<std::uint32_t>(members.number("data_unit", max32));
    header.logical_block = static_cast<std::uint32_t>(members.number("logical_block", max32));
    header.tweak = members.choice("tweak", tweaks, tweak_name);
    const json* journal = members.take("journal", json::value_t::object);
    if (journal && *journal != journal_of(header.place))
        members.reject(Rule::json_value, "journal");
}

} // namespace

const char* place_name(Place place) {
    switch (place) {
    case Place::leading:
        return "default";
    case Place::in_place:
        return "in-place";
    case Place::detached:
        break;
    }
    return "detached";
}

const char* tweak_name(TweakRule rule) {
    return rule == TweakRule::unit ? "unit" : "lba512";
}

std::uint64_t place_lbas(Place place) {
    return place == Place::in_place ? header_lbas : default_data_lba;
}

Result<json> parse_json(std::string_view text, std::size_t max_depth) {
    Watch watch(max_depth);
    const auto callback = [&watch](int, json::parse_event_t event, json& parsed) {
        return watch(event, parsed);
    };
    json parsed = json::parse(text.begin(), text.end(), callback, false);
    if (parsed.is_discarded())
        return broken(Rule::json_syntax);
    if (watch.too_deep)
        return broken(Rule::json_depth);
    if (watch.duplicate)
        return broken(Rule::json_duplicate);
    return parsed;
}

// The JSON library checks it while it writes: what it replaces or leaves out was none.
bool is_utf8(const std::string& text) {
    const json value = text;
    return value.dump(-1, ' ', false, json::error_handler_t::ignore) ==
           value.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string payload_text(const Header& header) {
    json keys = json::array();
    for (const HeaderKey& key : header.keys)
        keys.push_back(json_of(key));
    json payload{{"uuid", uuid_text(header.uuid)},
                 {"name", header.name},
                 {"cipher", cipher_text},
                 {"place", place_name(header.place)},
                 {"header_lba", header.header_lba},
                 {"device_lbas", header.device_lbas},
                 {"offset", header.offset},
                 {"size", header.size},
                 {"data_unit", header.data_unit},
                 {"logical_block", header.logical_block},
                 {"tweak", tweak_name(header.tweak)},
                 {"endpoint", header.endpoint_policy},
                 {"keys", std::move(keys)},
                 {"journal", journal_of(header.place)}};
    if (!header.rekey_state.empty())
        payload["rekey"] = json::parse(header.rekey_state, nullptr, false);
    return payload.dump();
}

Result<void> read_payload(std::string_view text, bool lenient, Header& header) {
    const auto payload = parse_json(text, json_max_depth);
    if (!payload)
        return tl::unexpected<Error>(payload.error());
    Members members(*payload);
    const auto uuid = uuid_of(members.text("uuid"));
    if (uuid)
        header.uuid = *uuid;
    else
        members.reject(Rule::json_value, "uuid");
    header.name = members.text("name");
    if (members.text("cipher") != cipher_text)
        members.reject(Rule::json_value, "cipher");
    header.endpoint_policy = members.text("endpoint");
    read_geometry(members, header);
    if (auto keys = read_keys(members, header); !keys)
        return keys;
    if (members.has("rekey"))
        if (const json* state = members.take("rekey", json::value_t::object))
            header.rekey_state = state->dump();
    return members.finish(lenient);
}

json to_json(const Header& header) {
    json keys = json::array();
    for (const HeaderKey& key : header.keys)
        keys.push_back({{"id", key.id}, {"provider", key.provider}, {"bits", key.bits}});
    json ranges = json::array();
    for (const EncryptedRange& range : header.ranges)
        ranges.push_back({{"first", range.lbas.first},
                          {"last", range.lbas.first + range.lbas.count - 1},
                          {"key", header.keys.at(range.key).id}});
    json shown = json::parse(payload_text(header), nullptr, false);
    shown.erase("journal");
    shown["keys"] = std::move(keys);
    shown["ranges"] = std::move(ranges);
    shown["sequence"] = header.sequence;
    shown["incompatible"] = header.incompatible;
    shown["readonly_compatible"] = header.readonly_compatible;
    return shown;
}

} // namespace dek::volume
