// SPDX-License-Identifier: Apache-2.0
// EndpointList, EndpointCreate, EndpointRemove; EndpointCommand: the protocol by hand.
#include <algorithm>
#include <cstring>

#include <dek/describe.hpp>

#include "kcm/methods.h"

namespace dek::kcm {
namespace {

// Where key data may be: known of a block that decodes, anywhere in the body of one that does not.
void hide_key(CommandBlock& block) {
    auto decoded = block.decode();
    if (decoded && decoded->blob.present) {
        const auto at = decoded->blob.key_data - block.data();
        std::memset(block.data() + at, 0, DEK_KEY_DATA_SIZE);
    } else if (!decoded) {
        std::memset(block.data() + DEK_BODY_FIRST, 0, DEK_BLOCK_SIZE - DEK_BODY_FIRST);
    }
}

json block_json(const CommandBlock& block) {
    static const char digits[] = "0123456789abcdef";
    json j = describe_json(block.bytes());
    CommandBlock shown(block.bytes());
    hide_key(shown);
    std::string hex;
    for (const auto byte : std::as_const(shown).bytes()) {
        hex += digits[byte >> 4];
        hex += digits[byte & 15];
    }
    j["hex"] = hex;
    return j;
}

struct Body {
    Secret padded; // the key
    dek_blob blob{};
    std::string key_id;
    LunMap map;
    AssociationBody body;
};

template <class T>
Result<T> limited(const Request& r, const char* name, T otherwise = 0) {
    const auto value = r.number(name, otherwise);
    if (value > std::numeric_limits<T>::max())
        return fail(Errc::invalid_argument, "argument \"" + std::string(name) + "\" is too large");
    return static_cast<T>(value);
}

Result<dek_geometry> geometry_of(const Request& r) {
    dek_geometry g{};
    auto unit = limited<__u32>(r, "data_unit", 4096);
    auto chunk = limited<__u32>(r, "chunk");
    auto stripes = limited<__u16>(r, "stripes");
    auto leg = limited<__u16>(r, "leg");
    const std::string tweak = r.text("tweak", "unit");
    if (tweak != "unit" && tweak != "lba512")
        return fail(Errc::invalid_argument, "a tweak rule is unit or lba512");
    for (const Error* error : {unit ? nullptr : &unit.error(), chunk ? nullptr : &chunk.error(),
                               stripes ? nullptr : &stripes.error(), leg ? nullptr : &leg.error()})
        if (error)
            return tl::unexpected(*error);
    g.data_unit = *unit;
    g.tweak_rule = tweak == "unit" ? DEK_TWEAK_UNIT : DEK_TWEAK_LBA512;
    g.device_origin = r.number("device_origin");
    g.logical_origin = r.number("logical_origin");
    g.chunk = *chunk;
    g.stripes = *stripes;
    g.leg = *leg;
    return g;
}

Result<LunMap> map_of(const Request& r) {
    if (!r.has("ranges"))
        return fail(Errc::invalid_argument, "argument \"ranges\" is missing");
    auto map = LunMap::parse(r.text("ranges"), 0);
    if (!map)
        return fail(Errc::invalid_argument, map.error());
    return std::move(*map);
}

Result<std::unique_ptr<Body>> body_of(MethodContext& c, const Request& r) {
    auto body = std::make_unique<Body>();
    auto map = map_of(r);
    auto geometry = geometry_of(r);
    if (!map || !geometry)
        return tl::unexpected(map ? geometry.error() : map.error());
    if (!r.has("key"))
        return fail(Errc::invalid_argument, "argument \"key\" is missing");
    auto info = c.keys->info(r.text("key"));
    if (!info)
        return tl::unexpected(info.error());
    auto key = c.keys->material(info->id);
    if (!key)
        return tl::unexpected(key.error());
    body->padded = Secret(DEK_KEY_DATA_SIZE);
    std::copy(key->bytes().begin(), key->bytes().end(), body->padded.bytes().begin());
    body->blob.present = true;
    body->blob.type = DEK_BLOB_UNWRAPPED;
    body->blob.key_length = static_cast<__u8>(key->size());
    body->blob.algorithm = DEK_ALG_AES;
    body->blob.mode = DEK_MODE_XTS;
    body->blob.key_data = body->padded.bytes().data();
    body->key_id = info->id;
    body->map = std::move(*map);
    body->body = {r.handle("association"), &body->blob, body->key_id, *geometry,
                  body->map.ranges()};
    return body;
}

Result<CommandBlock> as_result(CommandBlock::Built built) {
    if (built)
        return std::move(*built);
    return fail(Errc::invalid_argument,
                std::string("this command cannot be built: ") + dek_status_text(built.error()));
}

Result<CommandBlock> command_of(MethodContext& c, const Request& r, Address to) {
    const std::string opcode = r.text("opcode");
    if (opcode == "handshake")
        return as_result(CommandBlock::handshake(r.text("class", DEK_CLASS_EHBA),
                                                 Secret::random(768).bytes().first<768>(),
                                                 to.controller_handle));
    if (opcode == "query") {
        auto map = map_of(r);
        return map ? as_result(CommandBlock::query(to, map->ranges()))
                   : tl::unexpected(map.error());
    }
    if (opcode == "disassociate") {
        if (!r.has("association"))
            return fail(Errc::invalid_argument, "argument \"association\" is missing");
        return as_result(CommandBlock::disassociate(to, r.handle("association")));
    }
    auto body = body_of(c, r);
    if (!body)
        return tl::unexpected(body.error());
    return as_result(opcode == "associate" ? CommandBlock::associate(to, (*body)->body)
                                           : CommandBlock::update(to, (*body)->body));
}

Result<json> send(MethodContext& c, const Request& r) {
    const std::string opcode = r.text("opcode");
    bool known = false;
    for (const char* word : {"handshake", "query", "associate", "update", "disassociate"})
        known = known || opcode == word;
    if (!known)
        return fail(Errc::invalid_argument, "\"" + opcode + "\" is no opcode");
    auto uuid = volume::uuid_of(r.text("uuid"));
    if (!uuid)
        return tl::unexpected(uuid.error());
    auto at = c.shims->with_endpoint(*uuid);
    if (!at)
        return tl::unexpected(at.error());
    auto talk = Negotiation::begin(*(*at)->shim, *uuid);
    if (!talk)
        return tl::unexpected(talk.error());
    auto command = command_of(c, r, {talk->endpoint_id(), 1});
    if (!command)
        return tl::unexpected(command.error());
    auto response = talk->send(*command);
    if (!response)
        return tl::unexpected(response.error());
    const auto status = dek_get_le32(response->data() + offsetof(dek_wire_header, status));
    return json{{"command", block_json(*command)},
                {"response", block_json(*response)},
                {"status", status},
                {"status_text", dek_status_text(status)}};
}

json leg_json(const Leg& leg) {
    json j = {{"name", leg.name},
              {"uuid", volume::uuid_text(leg.uuid)},
              {"device", leg.device},
              {"node", "/dev/mapper/" + dm_name(leg)},
              {"lbas", leg.lbas},
              {"data_unit", leg.data_unit},
              {"fence", fence_word(leg.fence)},
              {"engine", leg.engine ? "auto" : "none"}};
    if (!leg.multipath.empty()) {
        j["multipath"] = leg.multipath;
        j["group"] = leg.group;
    }
    return j;
}

json map_json(const MultipathMap& map) {
    return {{"name", map.name},
            {"uuid", volume::uuid_text(map.uuid)},
            {"node", "/dev/mapper/" + map.name},
            {"lbas", map.lbas},
            {"queue_if_no_path", map.queue_if_no_path}};
}

// What the host's configuration says of them, and which of it is not there.
void add_configured(json& answer, const LegFiles& files) {
    answer["missing"] = json::array();
    answer["multipath"] = json::array();
    for (const auto& leg : files.legs()) {
        const auto j = leg_json(leg);
        auto& endpoints = answer["endpoints"];
        const auto live = std::find_if(endpoints.begin(), endpoints.end(),
                                       [&](const json& e) { return e["uuid"] == j["uuid"]; });
        if (live == endpoints.end()) {
            answer["missing"].push_back(j);
            continue;
        }
        (*live)["leg"] = leg.name;
        (*live)["device"] = leg.device;
        if (!leg.multipath.empty())
            (*live)["multipath"] = leg.multipath;
    }
    for (const auto& map : files.maps())
        answer["multipath"].push_back(map_json(map));
}

Result<std::vector<std::string>> texts(const Request& r, const char* name) {
    std::vector<std::string> all;
    for (const auto& element : r.list(name)) {
        if (!element.is_string() || element.get_ref<const std::string&>().empty() ||
            element.get_ref<const std::string&>().find('\0') != std::string::npos)
            return fail(Errc::invalid_argument,
                        "argument \"" + std::string(name) + "\" is an array of texts");
        all.push_back(element);
    }
    if (all.empty())
        return fail(Errc::invalid_argument, "argument \"" + std::string(name) + "\" names nothing");
    return all;
}

Result<LegRequest> leg_request(const Request& r) {
    LegRequest request;
    auto devices = texts(r, "devices");
    auto unit = limited<std::uint32_t>(r, "data_unit");
    auto group = limited<std::uint32_t>(r, "group", 1);
    const auto fence = fence_of(r.text("fence", "eio"));
    for (const Error* error : {devices ? nullptr : &devices.error(), unit ? nullptr : &unit.error(),
                               group ? nullptr : &group.error()})
        if (error)
            return tl::unexpected(*error);
    if (!fence)
        return fail(Errc::invalid_argument, "a fence answers eio or transport, or holds: hold");
    request.devices = std::move(*devices);
    request.name = r.text("name");
    if (r.has("data_unit"))
        request.data_unit = *unit;
    if (r.has("fence"))
        request.fence = *fence;
    request.engine = !r.flag("no_engine");
    request.force = r.flag("force");
    request.multipath = r.text("multipath");
    request.queue_if_no_path = r.flag("queue_if_no_path");
    request.group = *group;
    return request;
}

Result<json> create_endpoint(MethodContext& c, const Request& r) {
    auto request = leg_request(r);
    if (!request)
        return tl::unexpected(request.error());
    auto made = c.controller->legs().create(*request);
    if (!made)
        return tl::unexpected(made.error());
    json answer = {{"legs", json::array()}, {"advice", made->advice}};
    for (const auto& leg : made->legs)
        answer["legs"].push_back(leg_json(leg));
    if (made->map)
        answer["multipath"] = map_json(*made->map);
    return answer;
}

// One by one: those before the first that cannot be removed are gone.
Result<json> remove_endpoint(MethodContext& c, const Request& r) {
    auto names = texts(r, "endpoints");
    if (!names)
        return tl::unexpected(names.error());
    json removed = json::array();
    for (const auto& name : *names) {
        if (auto done = c.controller->legs().remove(name); !done)
            return fail(done.error().code,
                        done.error().reason +
                            (removed.empty() ? "" : "; those named before it are removed"));
        removed.push_back(name);
    }
    return json{{"removed", removed}};
}

Result<json> list_endpoints(MethodContext& c, const Request&) {
    std::vector<dek_list_entry> all;
    Result<void> any = fail(Errc::unavailable, "no shim answers");
    for (const auto& at : c.shims->all()) {
        auto list = at.shim->list();
        if (list) {
            all.insert(all.end(), list->begin(), list->end());
            any = {};
        } else if (!any) {
            any = tl::unexpected(list.error());
        }
    }
    if (!any)
        return tl::unexpected(any.error());
    json answer = {{"endpoints", endpoints_json(all)}};
    add_configured(answer, LegFiles(c.options->state_dir));
    return answer;
}

} // namespace

std::vector<Method> endpoint_methods() {
    using enum ArgType;
    return {
        {"EndpointList", Queue::inquiries, {}, list_endpoints},
        {"EndpointCreate",
         Queue::operations,
         {{"devices", ArgType::list, true},
          {"name", text},
          {"data_unit", number},
          {"fence", text},
          {"no_engine", flag},
          {"multipath", text},
          {"queue_if_no_path", flag},
          {"group", number},
          {"force", flag}},
         create_endpoint},
        {"EndpointRemove",
         Queue::operations,
         {{"endpoints", ArgType::list, true}},
         remove_endpoint},
        {"EndpointCommand",
         Queue::operations,
         {{"uuid", text, true},
          {"opcode", text, true},
          {"class", text},
          {"ranges", text},
          {"key", text},
          {"association", handle},
          {"data_unit", number},
          {"tweak", text},
          {"device_origin", number},
          {"logical_origin", number},
          {"chunk", number},
          {"stripes", number},
          {"leg", number}},
         send},
    };
}

} // namespace dek::kcm
