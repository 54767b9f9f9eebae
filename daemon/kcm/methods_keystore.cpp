// SPDX-License-Identifier: Apache-2.0
// KeystoreInit, Unlock, Lock, Enrol, Remove, Show, Backup, Restore.
#include <algorithm>
#include <cerrno>

#include <unistd.h>

#include "base/log.h"
#include "kcm/methods.h"

namespace dek::kcm {
namespace {

constexpr std::size_t max_passphrase = 4096;

std::string absolute(const std::string& path) {
    return path.empty() || path[0] != '/' ? "" : path;
}

// `path_argument` holds the file of kind `file`; `drawn`: a recovery key is to be made, not given.
Result<keys::Unsealer> unsealer_of(const Request& r, const char* path_argument, bool drawn) {
    const std::string kind = r.text("kind");
    if (kind == "file") {
        const std::string path = absolute(r.text(path_argument));
        if (path.empty())
            return fail(Errc::invalid_argument, "kind file needs the absolute path of the file");
        return keys::FileUnsealer{path};
    }
    if (kind == "credential") {
        if (!r.has("name"))
            return fail(Errc::invalid_argument, "kind credential needs the credential's name");
        return keys::CredentialUnsealer{r.text("name")};
    }
    if (kind == "passphrase" || (kind == "recovery" && !drawn)) {
        if (!r.has(kind.c_str()))
            return fail(Errc::invalid_argument, "kind " + kind + " needs fd:" + kind);
        auto secret = r.secret(kind.c_str(), max_passphrase);
        if (!secret)
            return tl::unexpected(secret.error());
        if (kind == "passphrase")
            return keys::PassphraseUnsealer{std::move(*secret)};
        return keys::RecoveryUnsealer{std::move(*secret)};
    }
    if (kind == "recovery" && drawn)
        return keys::RecoveryUnsealer{};
    return fail(Errc::invalid_argument, "\"" + kind + "\" is no way to unseal a keystore here");
}

json slots_json(const std::vector<keys::Enrolment>& enrolments) {
    json list = json::array();
    for (const auto& e : enrolments)
        list.push_back(
            {{"slot", e.slot}, {"kind", e.kind}, {"hint", e.hint}, {"created", e.created}});
    return list;
}

Result<json> slots(KeystoreSeat& seat) {
    auto enrolments = seat.with([](keys::Keystore& store) { return store.enrolments(); });
    return enrolments.map([](const auto& list) { return slots_json(list); });
}

void tell(MethodContext& c, const char* event) {
    log(Level::notice, event);
    c.event({{"event", event}});
    if (std::string(event) == "keystore-unsealed")
        c.keys_may_be_had();
}

Result<json> init(MethodContext& c, const Request& r) {
    if (r.text("kind") == "recovery")
        return fail(Errc::invalid_argument,
                    "a recovery key is enrolled later, beside another way to unseal");
    auto with = unsealer_of(r, "path", false);
    if (!with)
        return tl::unexpected(with.error());
    if (auto made = c.seat->init(*with); !made)
        return tl::unexpected(made.error());
    tell(c, "keystore-unsealed");
    auto list = slots(*c.seat);
    if (!list)
        return tl::unexpected(list.error());
    return json{{"path", c.seat->path()}, {"slots", *list}};
}

Result<json> unlock(MethodContext& c, const Request& r) {
    Result<void> done;
    if (r.has("kind")) {
        auto with = unsealer_of(r, "path", false);
        if (!with)
            return tl::unexpected(with.error());
        done = c.seat->with([&](keys::Keystore& store) { return store.unseal(*with); });
    } else {
        done = c.seat->with([](keys::Keystore& store) { return store.unseal_automatically(); });
    }
    if (!done)
        return tl::unexpected(done.error());
    tell(c, "keystore-unsealed");
    return json::object();
}

Result<json> lock(MethodContext& c, const Request&) {
    auto done = c.seat->with([](keys::Keystore& store) -> Result<void> {
        store.seal();
        return {};
    });
    if (!done)
        return tl::unexpected(done.error());
    c.keys->flush();
    tell(c, "keystore-sealed");
    return json::object();
}

Result<void> write_secret(int fd, const Secret& text) {
    auto bytes = text.bytes();
    while (!bytes.empty()) {
        const ssize_t n = ::write(fd, bytes.data(), bytes.size());
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return fail_errno(errno, "the recovery key cannot be written to fd:output");
        bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
    return {};
}

std::uint32_t newest_slot(const std::vector<keys::Enrolment>& before,
                          const std::vector<keys::Enrolment>& after) {
    for (const auto& e : after)
        if (std::none_of(before.begin(), before.end(),
                         [&](const auto& b) { return b.slot == e.slot; }))
            return e.slot;
    return 0;
}

// A recovery key that reached nobody must not stay enrolled.
Result<json> enrol_with(keys::Keystore& store, const keys::Unsealer& with, const Request& r) {
    auto before = store.enrolments();
    if (!before)
        return tl::unexpected(before.error());
    auto drawn = store.enrol(with);
    if (!drawn)
        return tl::unexpected(drawn.error());
    auto after = store.enrolments();
    if (!after)
        return tl::unexpected(after.error());
    const auto slot = newest_slot(*before, *after);
    json answer = {{"slot", slot}};
    if (drawn->empty())
        return answer;
    if (auto written = write_secret(r.fd("output"), *drawn); !written) {
        (void)store.remove(slot);
        return tl::unexpected(written.error());
    }
    return answer;
}

Result<json> enrol(MethodContext& c, const Request& r) {
    const bool recovery = r.text("kind") == "recovery";
    if (recovery != r.has("output"))
        return fail(Errc::invalid_argument,
                    recovery ? "kind recovery needs fd:output, where its key is written"
                             : "fd:output is for kind recovery only");
    auto with = unsealer_of(r, "path", true);
    if (!with)
        return tl::unexpected(with.error());
    return c.seat->with([&](keys::Keystore& store) { return enrol_with(store, *with, r); });
}

bool unseals_itself(const json& slots) {
    return std::any_of(slots.begin(), slots.end(), [](const json& slot) {
        return slot.at("kind") == "file" || slot.at("kind") == "credential";
    });
}

Result<json> remove(MethodContext& c, const Request& r) {
    const auto number = r.number("slot");
    if (number > UINT32_MAX)
        return fail(Errc::not_found, "there is no slot " + std::to_string(number));
    auto before = slots(*c.seat);
    if (!before)
        return before;
    auto done = c.seat->with(
        [&](keys::Keystore& store) { return store.remove(static_cast<std::uint32_t>(number)); });
    if (!done)
        return tl::unexpected(done.error());
    auto left = slots(*c.seat);
    if (!left)
        return left;
    json j = {{"slots", *left}};
    if (unseals_itself(*before) && !unseals_itself(*left))
        j["warnings"] = {
            "no slot is left that unseals the keystore by itself: after the next start "
            "of kcmd, volumes wait until somebody gives dekctl keystore unlock what "
            "opens it"};
    return j;
}

Result<json> show(MethodContext& c, const Request&) {
    auto list = slots(*c.seat);
    if (!list)
        return tl::unexpected(list.error());
    return json{{"path", c.seat->path()},
                {"sealed", c.seat->sealed()},
                {"slots", *list},
                {"cache", {{"keys", c.keys->cached()}, {"lifetime", c.keys->lifetime().count()}}}};
}

Result<json> backup(MethodContext& c, const Request& r) {
    const std::string path = absolute(r.text("path"));
    if (path.empty())
        return fail(Errc::invalid_argument, "\"" + r.text("path") + "\" is not an absolute path");
    auto done =
        c.seat->with([&](keys::Keystore& store) { return store.backup(path, r.flag("force")); });
    return done.map([&] { return json{{"path", path}}; });
}

Result<json> restore(MethodContext& c, const Request& r) {
    if (!c.registry->all().empty())
        return fail(Errc::refused, "volume " + c.registry->all().front()->name +
                                       " is attached; the keystore is replaced when none is");
    const std::string path = absolute(r.text("path"));
    if (path.empty())
        return fail(Errc::invalid_argument, "\"" + r.text("path") + "\" is not an absolute path");
    auto with = unsealer_of(r, "unseal_path", false);
    if (!with)
        return tl::unexpected(with.error());
    if (auto done = c.seat->restore(path, *with, r.flag("force")); !done)
        return tl::unexpected(done.error());
    c.keys->flush();
    tell(c, "keystore-unsealed");
    auto infos = c.keys->list();
    if (!infos)
        return tl::unexpected(infos.error());
    const auto there = std::count_if(infos->begin(), infos->end(), [](const auto& info) {
        return info.state != keys::KeyState::destroyed;
    });
    return json{{"keys", there}};
}

} // namespace

std::vector<Method> keystore_methods() {
    using enum ArgType;
    return {
        {"KeystoreInit",
         Queue::operations,
         {{"kind", text, true}, {"path", text}, {"name", text}, {"passphrase", fd}},
         init},
        {"KeystoreUnlock",
         Queue::operations,
         {{"kind", text}, {"path", text}, {"name", text}, {"passphrase", fd}, {"recovery", fd}},
         unlock},
        {"KeystoreLock", Queue::operations, {}, lock},
        {"KeystoreEnrol",
         Queue::operations,
         {{"kind", text, true}, {"path", text}, {"name", text}, {"passphrase", fd}, {"output", fd}},
         enrol},
        {"KeystoreRemove", Queue::operations, {{"slot", number, true}}, remove},
        {"KeystoreShow", Queue::operations, {}, show},
        {"KeystoreBackup", Queue::operations, {{"path", text, true}, {"force", flag}}, backup},
        {"KeystoreRestore",
         Queue::operations,
         {{"path", text, true},
          {"kind", text, true},
          {"unseal_path", text},
          {"name", text},
          {"passphrase", fd},
          {"recovery", fd},
          {"force", flag}},
         restore},
    };
}

} // namespace dek::kcm
