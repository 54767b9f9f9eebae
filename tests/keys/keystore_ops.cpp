// SPDX-License-Identifier: Apache-2.0
// One change of a keystore at a time, for killpoints.py to interrupt; and what came of it.
//   keystore_ops prepare DIR     DIR/ks with key "old" and two slots, DIR/copy a backup without
//   "later" keystore_ops CHANGE DIR      init | put | destroy | enrol | remove | backup | restore
//   keystore_ops check-CHANGE DIR    prints "old" or "new"; exit 1 with the reason when it is
//   neither keystore_ops export DIR      reads a PEM public key from standard input, prints "old"
//   wrapped for it
#include <cstdio>
#include <iostream>
#include <iterator>
#include <map>

#include "keys/keystore.h"

using namespace dek;
using namespace dek::keys;

namespace {

struct Failed {
    std::string reason;
};

template <class T>
T must(Result<T> result) {
    if (!result)
        throw Failed{std::string(errc_name(result.error().code)) + ": " + result.error().reason};
    if constexpr (!std::is_void_v<T>)
        return std::move(*result);
}

void require(bool holds, const char* claim) {
    if (!holds)
        throw Failed{claim};
}

Secret material_of(std::uint8_t seed) {
    Secret material(64);
    for (auto& byte : material.bytes())
        byte = seed = static_cast<std::uint8_t>(seed * 5 + 113);
    return material;
}

struct Place {
    std::string folder;
    std::string ks = folder + "/ks";
    std::string copy = folder + "/copy";
    FileUnsealer first{folder + "/first.key"};
    FileUnsealer second{folder + "/second.key"};
    FileUnsealer third{folder + "/third.key"};
};

Deadline soon() {
    return Deadline(std::chrono::seconds(60));
}

std::unique_ptr<Keystore> open(const std::string& path, const FileUnsealer& with) {
    auto keystore = must(Keystore::open(path));
    must(keystore->unseal(with));
    return keystore;
}

bool has(Keystore& keystore, const std::string& name, std::uint8_t seed) {
    const auto info = keystore.info(name, soon());
    if (!info && info.error().code == Errc::unknown_key)
        return false;
    const auto key = must(keystore.get(must(Result<KeyInfo>(info)).id, soon()));
    require(key.material.equals(material_of(seed).bytes()), "the material is not what was put");
    return true;
}

void prepare(const Place& at) {
    auto keystore = must(Keystore::init(at.ks, at.first));
    must(keystore->enrol(at.second));
    must(keystore->put("old", material_of(1), {}, soon()));
    const auto dying = must(keystore->put("dying", material_of(2), {}, soon()));
    must(keystore->set_state(dying.id, KeyState::deactivated, soon()));
    must(keystore->backup(at.copy, false));
    must(keystore->put("later", material_of(3), {}, soon()));
}

void put(const Place& at) {
    must(open(at.ks, at.first)->put("new", material_of(4), {}, soon()));
}
void destroy(const Place& at) {
    auto keystore = open(at.ks, at.first);
    must(
        keystore->set_state(must(keystore->info("dying", soon())).id, KeyState::destroyed, soon()));
}

// What must hold whatever was interrupted.
std::unique_ptr<Keystore> sound(const Place& at, const FileUnsealer& with) {
    auto keystore = open(at.ks, with);
    require(has(*keystore, "old", 1), "the old key is gone");
    must(keystore->list(soon()));
    return keystore;
}

bool opens(const Place& at, const FileUnsealer& with) {
    auto keystore = must(Keystore::open(at.ks));
    return keystore->unseal(with).has_value();
}

bool init_done(const Place& at) {
    auto keystore = Keystore::open(at.ks);
    if (!keystore && keystore.error().code == Errc::not_found) {
        must(Keystore::init(at.ks, at.first)); // and what is left over is in nobody's way
        return false;
    }
    must(must(std::move(keystore))->unseal(at.first));
    return true;
}

bool destroy_done(const Place& at) {
    const auto keystore = sound(at, at.first);
    bool there = has(*keystore, "dying", 2); // not found by name once destroyed
    std::size_t destroyed = 0;
    for (const KeyInfo& info : must(keystore->list(soon())))
        destroyed += info.state == KeyState::destroyed ? 1 : 0;
    require(there == (destroyed == 0), "the key is neither there nor destroyed");
    return !there;
}

bool enrol_done(const Place& at) {
    const std::size_t slots = must(sound(at, at.first)->enrolments()).size();
    const bool usable = opens(at, at.third);
    require(slots == (usable ? 3U : 2U), "the slot is there, its unsealer does not open it");
    return usable;
}

bool remove_done(const Place& at) {
    const std::size_t slots = must(sound(at, at.first)->enrolments()).size();
    require(slots == (opens(at, at.second) ? 2U : 1U), "the slot is gone, its unsealer is not");
    return slots == 1;
}

bool backup_done(const Place& at) {
    require(has(*sound(at, at.first), "later", 3), "the keystore lost a key by its backup");
    auto copy = open(at.copy, at.first);
    require(has(*copy, "old", 1), "the backup is not whole");
    return has(*copy, "later", 3);
}

struct Change {
    std::function<void(const Place&)> make;
    std::function<bool(const Place&)> done;
};

const std::map<std::string, Change> changes{
    {"init", {[](const Place& at) { must(Keystore::init(at.ks, at.first)); }, init_done}},
    {"put", {put, [](const Place& at) { return has(*sound(at, at.first), "new", 4); }}},
    {"destroy", {destroy, destroy_done}},
    {"enrol", {[](const Place& at) { must(open(at.ks, at.first)->enrol(at.third)); }, enrol_done}},
    {"remove", {[](const Place& at) { must(open(at.ks, at.first)->remove(2)); }, remove_done}},
    {"backup",
     {[](const Place& at) { must(open(at.ks, at.first)->backup(at.copy, true)); }, backup_done}},
    {"restore",
     {[](const Place& at) { must(Keystore::restore(at.ks, at.copy, at.first, true)); },
      [](const Place& at) { return !has(*sound(at, at.first), "later", 3); }}},
};

void export_old(const Place& at) {
    const std::string pem{std::istreambuf_iterator<char>(std::cin), {}};
    auto keystore = open(at.ks, at.first);
    const auto info = must(keystore->info("old", soon()));
    std::cout << must(keystore->export_for_public_key(info.id, pem));
}

void run(const std::string& what, const Place& at) {
    if (what == "prepare")
        return prepare(at);
    if (what == "export")
        return export_old(at);
    const bool check = what.rfind("check-", 0) == 0;
    const auto change = changes.find(check ? what.substr(6) : what);
    require(change != changes.end(), "no such change");
    if (check)
        std::puts(change->second.done(at) ? "new" : "old");
    else
        change->second.make(at);
}

} // namespace

int main(int count, char** arguments) {
    if (count != 3)
        return 2;
    try {
        run(arguments[1], Place{arguments[2]});
    } catch (const Failed& failed) {
        std::fprintf(stderr, "%s: %s\n", arguments[1], failed.reason.c_str());
        return 1;
    }
    return 0;
}
