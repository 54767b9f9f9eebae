// SPDX-License-Identifier: Apache-2.0
// KeyCreate, KeyImport, KeyExport, KeyList, KeyShow, KeyState, KeyDestroy, CacheFlush.
#include "base/log.h"
#include "kcm/methods.h"

namespace dek::kcm {
namespace {

constexpr std::size_t max_passphrase = 4096;
constexpr std::size_t max_wrapped = 64 * 1024;

Result<json> answer(MethodContext& c, const Result<keys::KeyInfo>& info) {
    if (!info)
        return tl::unexpected(info.error());
    return key_json(*info, c.keys->provider());
}

Result<json> create(MethodContext& c, const Request& r) {
    auto info = c.keys->create(r.text("name"), static_cast<std::uint32_t>(r.number("bits", 512)),
                               r.object("attributes"));
    if (info)
        log(Level::notice, "key-made", {{"key", info->id}, {"name", info->name}});
    return answer(c, info);
}

// A wrapped key brings its ID along, so that it opens the volumes it opened where it was exported;
// a raw one has the ID that is given for it, or a new one.
Result<keys::Provider::Key> imported(const Request& r) {
    const bool wrapped = r.has("wrapped") && r.has("passphrase") && !r.has("material");
    if (!wrapped && (!r.has("material") || r.has("wrapped") || r.has("passphrase")))
        return fail(Errc::invalid_argument,
                    "a key is imported from fd:material, or from fd:wrapped with fd:passphrase");
    if (wrapped && r.has("id"))
        return fail(Errc::invalid_argument, "a wrapped key keeps the ID it was exported with");
    if (!wrapped) {
        auto material = r.secret("material", 64);
        if (!material)
            return tl::unexpected(material.error());
        keys::Provider::Key key{{}, std::move(*material)};
        key.info.id = r.text("id");
        key.info.state = keys::KeyState::active;
        return key;
    }
    auto text = r.secret("wrapped", max_wrapped);
    auto passphrase = r.secret("passphrase", max_passphrase);
    if (!text || !passphrase)
        return tl::unexpected(text ? passphrase.error() : text.error());
    const auto bytes = std::as_const(*text).bytes();
    return keys::Keystore::import_wrapped({bytes.begin(), bytes.end()}, *passphrase);
}

Result<json> import(MethodContext& c, const Request& r) {
    auto key = imported(r);
    if (!key)
        return tl::unexpected(key.error());
    if (auto usable = keys::check_key_material(key->material); !usable)
        return tl::unexpected(usable.error());
    key->info.name = r.text("name");
    std::string twin;
    auto info = c.seat->with([&](keys::Keystore& store) -> Result<keys::KeyInfo> {
        const keys::Deadline deadline(std::chrono::seconds(10));
        auto same = store.twin_of(key->material, deadline);
        if (!same)
            return tl::unexpected(same.error());
        twin = *same;
        return store.import(std::move(*key), deadline);
    });
    if (info)
        log(Level::notice, "key-imported", {{"key", info->id}, {"name", info->name}});
    auto j = answer(c, info);
    if (j && !twin.empty())
        (*j)["warnings"] = {"key " + twin +
                            " has the same bytes: destroying one of them leaves the other"};
    return j;
}

Result<json> export_key(MethodContext& c, const Request& r) {
    if (r.has("passphrase") == r.has("public_key"))
        return fail(Errc::invalid_argument,
                    "a key is exported under fd:passphrase or under public_key");
    auto info = c.keys->info(r.text("key"));
    if (!info)
        return tl::unexpected(info.error());
    Result<std::string> wrapped;
    if (r.has("passphrase")) {
        auto passphrase = r.secret("passphrase", max_passphrase);
        if (!passphrase)
            return tl::unexpected(passphrase.error());
        wrapped = c.seat->with([&](keys::Keystore& store) {
            return store.export_for_passphrase(info->id, *passphrase);
        });
    } else {
        wrapped = c.seat->with([&](keys::Keystore& store) {
            return store.export_for_public_key(info->id, r.text("public_key"));
        });
    }
    if (!wrapped)
        return tl::unexpected(wrapped.error());
    log(Level::notice, "key-exported", {{"key", info->id}});
    return json{{"wrapped", *wrapped}};
}

Result<json> list_keys(MethodContext& c, const Request& r) {
    auto infos = c.keys->list();
    if (!infos)
        return tl::unexpected(infos.error());
    json list = json::array();
    for (const auto& info : *infos)
        if (r.flag("all") || info.state != keys::KeyState::destroyed)
            list.push_back(key_json(info, c.keys->provider()));
    return json{{"keys", std::move(list)}};
}

Result<json> show(MethodContext& c, const Request& r) {
    auto info = c.keys->info(r.text("key"));
    auto j = answer(c, info);
    if (j)
        (*j)["volumes"] = c.registry->using_key(info->id);
    return j;
}

// What a volume is encrypted with stays that, whatever its key is called.
void add_warnings(json& j, const keys::KeyInfo& info, const std::vector<std::string>& users) {
    if (users.empty() || info.state == keys::KeyState::active)
        return;
    std::string names;
    for (const auto& name : users)
        names += (names.empty() ? "" : ", ") + name;
    j["warnings"] = {"key " + info.id + " is in use by volume " + names +
                     ", which goes on with it and can be attached with it again; it protects "
                     "nothing new, and there is no way back to active"};
}

Result<json> set_state(MethodContext& c, const Request& r) {
    const auto state = keys::state_of(r.text("state"));
    if (!state)
        return fail(Errc::invalid_argument, "\"" + r.text("state") + "\" is no state of a key");
    if (*state == keys::KeyState::destroyed)
        return fail(Errc::invalid_argument,
                    "a key is destroyed with KeyDestroy (dekctl key destroy)");
    auto info = c.keys->info(r.text("key"));
    if (info)
        info = c.keys->set_state(info->id, *state);
    if (info)
        c.controller->refresh_keys();
    auto j = answer(c, info);
    if (j)
        add_warnings(*j, *info, c.registry->using_key(info->id));
    return j;
}

Result<json> destroy(MethodContext& c, const Request& r) {
    auto info = c.keys->info(r.text("key"));
    if (!info)
        return tl::unexpected(info.error());
    if (auto unused = c.controller->check_key_free(info->id); !unused)
        return tl::unexpected(unused.error());
    if (!r.flag("force"))
        return fail(Errc::refused,
                    "destroying key " + info->id +
                        " makes everything encrypted with it unreadable for ever; --force does it");
    auto gone = c.keys->destroy(info->id);
    if (gone)
        log(Level::notice, "key-destroyed", {{"key", info->id}});
    return answer(c, gone);
}

Result<json> flush(MethodContext& c, const Request&) {
    const auto n = c.keys->flush();
    log(Level::info, "cache-flushed", {{"keys", n}});
    return json{{"flushed", n}};
}

} // namespace

std::vector<Method> key_methods() {
    using enum ArgType;
    return {
        {"KeyCreate",
         Queue::operations,
         {{"name", text}, {"bits", number}, {"attributes", object}},
         create},
        {"KeyImport",
         Queue::operations,
         {{"name", text}, {"id", text}, {"material", fd}, {"wrapped", fd}, {"passphrase", fd}},
         import},
        {"KeyExport",
         Queue::operations,
         {{"key", text, true}, {"passphrase", fd}, {"public_key", text}},
         export_key},
        {"KeyList", Queue::inquiries, {{"all", flag}}, list_keys},
        {"KeyShow", Queue::inquiries, {{"key", text, true}}, show},
        {"KeyState", Queue::operations, {{"key", text, true}, {"state", text, true}}, set_state},
        {"KeyDestroy", Queue::operations, {{"key", text, true}, {"force", flag}}, destroy},
        {"CacheFlush", Queue::inquiries, {}, flush},
    };
}

} // namespace dek::kcm
