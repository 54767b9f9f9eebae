// SPDX-License-Identifier: Apache-2.0
// Protect, Attach, Detach, Erase, Status, Topology, Switch, Resize, Version.
#include <algorithm>

#include <unistd.h>

#include "kcm/methods.h"

namespace dek::kcm {
namespace {

Result<json> answer(MethodContext& c, const Result<VolumePtr>& volume) {
    if (!volume)
        return tl::unexpected(volume.error());
    return volume_json(**volume, *c.shims->of((*volume)->shim).shim, c.options->dev_dir);
}

// What has to be remembered from now on: nobody looks for a header at any place.
void warn_of_place(json& j, const volume::Header& h) {
    const auto looked = volume::probe_lbas(h.device_lbas);
    if (h.place == volume::Place::detached ||
        std::find(looked.begin(), looked.end(), h.header_lba) != looked.end())
        return;
    const std::string lba = std::to_string(h.header_lba);
    j["warnings"].push_back("the header lies at LBA " + lba +
                            ", where nobody looks for one: attach, erase, header and dek-probe "
                            "need --header-at " +
                            lba + ", and udev does not know the device for a dekstack volume");
}

// Under one key, equal data at equal LBAs is equal on both disks.
void warn_of_shared_keys(json& j, const Volume& v, const Registry& registry) {
    for (const auto& key : v.keys) {
        const auto made_for = key.attributes.find("volume");
        std::string others;
        for (const auto& name : registry.using_key(key.id))
            if (name != v.name)
                others += " " + name;
        if (others.empty() && made_for != key.attributes.end() &&
            made_for->second != volume::uuid_text(v.header.uuid))
            others = " " + made_for->second;
        if (!others.empty())
            j["warnings"].push_back("key " + key.id + " is also that of volume" + others +
                                    ": who sees both disks sees where they hold the same data, "
                                    "and the key can only be destroyed for all of them");
    }
}

Result<json> answer_warned(MethodContext& c, const Result<VolumePtr>& volume, bool fresh) {
    auto j = answer(c, volume);
    if (!j)
        return j;
    warn_of_place(*j, (*volume)->header);
    if (fresh)
        warn_of_shared_keys(*j, **volume, *c.registry);
    return j;
}

Result<ShimChoice> shim_of(const Request& r) {
    const auto choice = shim_choice_of(r.text("shim", "auto"));
    if (!choice)
        return fail(Errc::invalid_argument, "a shim is auto, kernel or fuse");
    return *choice;
}

Result<std::vector<EncryptRequest>> encrypt_of(const Request& r) {
    std::vector<EncryptRequest> list;
    if (!r.has("encrypt"))
        return list;
    const auto is_text = [](const json& j) {
        return j.is_string() && !j.get_ref<const std::string&>().empty();
    };
    for (const auto& entry : r.list("encrypt")) {
        if (!entry.is_object() || !entry.contains("ranges"))
            return fail(Errc::invalid_argument,
                        "each element of \"encrypt\" is an object with \"ranges\"");
        for (const auto& [name, value] : entry.items())
            if ((name != "ranges" && name != "key") || !is_text(value))
                return fail(
                    Errc::invalid_argument,
                    "an element of \"encrypt\" has texts \"ranges\" and \"key\", nothing else");
        list.push_back({entry.at("ranges").get<std::string>(), entry.value("key", "")});
    }
    if (list.empty())
        return fail(Errc::invalid_argument,
                    "\"encrypt\" is empty; without it everything is encrypted");
    return list;
}

Result<ProtectRequest> protect_request(const Request& r) {
    ProtectRequest p;
    p.device = r.text("device");
    p.name = r.text("name");
    auto encrypt = encrypt_of(r);
    auto shim = shim_of(r);
    if (!encrypt || !shim)
        return tl::unexpected(encrypt ? shim.error() : encrypt.error());
    p.encrypt = std::move(*encrypt);
    p.shim = *shim;
    p.key = r.text("key");
    if (r.has("data_unit")) {
        if (r.number("data_unit") > 4096)
            return fail(Errc::invalid_argument, "a data unit has 512, 1024, 2048 or 4096 bytes");
        p.data_unit = static_cast<std::uint32_t>(r.number("data_unit"));
    }
    const std::string tweak = r.text("tweak", "unit");
    if (tweak != "unit" && tweak != "lba512")
        return fail(Errc::invalid_argument, "a tweak rule is unit or lba512");
    p.tweak = tweak == "unit" ? volume::TweakRule::unit : volume::TweakRule::lba512;
    p.endpoint = r.text("endpoint", "prefer");
    if (p.endpoint != "prefer" && p.endpoint != "hardware-only" && p.endpoint != "never")
        return fail(Errc::invalid_argument, "an endpoint policy is prefer, hardware-only or never");
    p.in_place = r.flag("in_place");
    p.header = header_query(r);
    p.force = r.flag("force");
    return p;
}

Result<json> protect(MethodContext& c, const Request& r) {
    auto request = protect_request(r);
    if (!request)
        return tl::unexpected(request.error());
    return answer_warned(c, c.controller->protect(*request), true);
}

Result<json> attach(MethodContext& c, const Request& r) {
    auto shim = shim_of(r);
    if (!shim)
        return tl::unexpected(shim.error());
    return answer(c, c.controller->attach({r.text("device"), header_query(r), r.flag("force"),
                                           *shim, r.text("name")}));
}

Result<json> detach(MethodContext& c, const Request& r) {
    const auto patience = std::chrono::milliseconds(r.number("timeout", 5000));
    if (patience > std::chrono::minutes(10))
        return fail(Errc::invalid_argument, "a timeout has at most 600000 milliseconds");
    return c.controller->detach(r.text("name"), patience).map([] { return json::object(); });
}

Result<json> erase(MethodContext& c, const Request& r) {
    auto erased = c.controller->erase(
        {r.text("device"), header_query(r), r.flag("force"), r.flag("destroy_keys")});
    if (!erased)
        return tl::unexpected(erased.error());
    json j = {{"uuid", nullptr},
              {"erased", json::array()},
              {"keys_destroyed", erased->keys_destroyed},
              {"keys_kept", erased->keys_kept}};
    for (const auto& id : erased->keys_kept)
        j["warnings"].push_back("key " + id + " was not made for this volume, and stays");
    if (erased->uuid)
        j["uuid"] = volume::uuid_text(*erased->uuid);
    if (erased->site.file.empty())
        j["erased"].push_back(erased->site.lba);
    else
        j["erased"].push_back(erased->site.file);
    return j;
}

json keystore_json(const KeystoreSeat& seat) {
    json j = {{"present", seat.present()}, {"sealed", seat.sealed()}, {"trouble", nullptr}};
    if (const auto trouble = seat.trouble())
        j["trouble"] = {{"code", errc_name(trouble->code)}, {"reason", trouble->reason}};
    return j;
}

Result<json> status(MethodContext& c, const Request& r) {
    const std::string name = r.text("name");
    std::vector<VolumePtr> volumes = c.registry->all();
    if (!name.empty()) {
        const auto volume = c.registry->find(name);
        if (!volume)
            return fail(Errc::not_found, "no volume named " + name + " is attached");
        volumes = {volume};
    }
    json list = json::array();
    for (const auto& volume : volumes)
        list.push_back(volume_json(*volume, *c.shims->of(volume->shim).shim, c.options->dev_dir));
    return json{{"volumes", std::move(list)},
                {"shim", shim_json(c.shims->preferred())},
                {"keystore", keystore_json(*c.seat)},
                {"daemon", {{"version", DEK_VERSION}, {"pid", ::getpid()}, {"since", c.since}}}};
}

Result<json> topology(MethodContext& c, const Request& r) {
    const auto volume = c.registry->find(r.text("name"));
    if (!volume)
        return fail(Errc::not_found, "no volume named " + r.text("name") + " is attached");
    return topology_json(*volume, *c.shims->of(volume->shim).shim, c.options->dev_dir,
                         c.registry->guards());
}

Result<json> switch_to(MethodContext& c, const Request& r) {
    return answer(c, c.controller->switch_to(r.text("name"), r.text("to")));
}

Result<json> resize(MethodContext& c, const Request& r) {
    std::optional<std::uint64_t> size;
    if (r.has("size"))
        size = r.number("size");
    return answer_warned(c, c.controller->resize(r.text("name"), size, r.flag("force")), false);
}

Result<json> version(MethodContext&, const Request&) {
    return json{
        {"version", DEK_VERSION}, {"abi", DEK_ABI_VERSION}, {"protocol", DEK_PROTO_VERSION}};
}

} // namespace

std::vector<Method> volume_methods() {
    using enum ArgType;
    return {
        {"Protect",
         Queue::operations,
         {{"device", text, true},
          {"name", text, true},
          {"encrypt", list},
          {"key", text},
          {"data_unit", number},
          {"tweak", text},
          {"in_place", flag},
          {"header_at", number},
          {"header", text},
          {"force", flag},
          {"shim", text},
          {"endpoint", text}},
         protect},
        {"Attach",
         Queue::operations,
         {{"device", text, true},
          {"header_at", number},
          {"header", text},
          {"force", flag},
          {"shim", text},
          {"name", text}},
         attach},
        {"Detach", Queue::operations, {{"name", text, true}, {"timeout", number}}, detach},
        {"Erase",
         Queue::operations,
         {{"device", text, true},
          {"header_at", number},
          {"header", text},
          {"force", flag},
          {"destroy_keys", flag}},
         erase},
        {"Status", Queue::inquiries, {{"name", text}}, status},
        {"Topology", Queue::inquiries, {{"name", text, true}}, topology},
        {"Switch", Queue::operations, {{"name", text, true}, {"to", text, true}}, switch_to},
        {"Resize",
         Queue::operations,
         {{"name", text, true}, {"size", number}, {"force", flag}},
         resize},
        {"Version", Queue::inquiries, {}, version},
    };
}

} // namespace dek::kcm
