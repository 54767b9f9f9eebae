// SPDX-License-Identifier: Apache-2.0
// The embedded keystore: as a provider, its unsealers, backup and restore.
#include <cstdlib>

#include <sys/stat.h>
#include <unistd.h>

#include "folder.h"
#include "keys/recovery.h"
#include "provider_conformance.h"

using namespace dek;
using namespace dek::keys;
using namespace dek::test;

namespace {

PassphraseUnsealer passphrase(const std::string& text) {
    return {secret_of(text)};
}

mode_t mode_of(const std::string& path) {
    struct stat about {};
    REQUIRE(::stat(path.c_str(), &about) == 0);
    return about.st_mode & 07777;
}

KeyInfo put(Keystore& keystore, const std::string& name, std::uint32_t seed) {
    return must(keystore.put(name, material_of(seed), {}, soon()));
}

class Credentials { // what systemd sets for a service
  public:
    explicit Credentials(const std::string& directory) {
        ::setenv("CREDENTIALS_DIRECTORY", directory.c_str(), 1);
    }
    ~Credentials() { ::unsetenv("CREDENTIALS_DIRECTORY"); }
};

} // namespace

TEST_CASE("the keystore is a key provider") {
    Folder folder;
    int made = 0;
    check_provider([&] { return new_keystore(folder, "ks" + std::to_string(made++)); });
}

TEST_CASE("a keystore keeps its keys, states and header sequences when closed and opened") {
    const Folder folder;
    auto keystore = new_keystore(folder);
    CHECK(mode_of(folder / "ks") == 0600);
    CHECK(mode_of(folder / "ks.key") == 0600);
    const auto a = must(keystore->put("a", material_of(1), {{"volume", "data"}}, soon()));
    const auto b = put(*keystore, "b", 2);
    must(keystore->set_state(b.id, KeyState::compromised, soon()));
    const std::string uuid = "4a8f6c1e-0000-4000-8000-000000000001";
    CHECK_FALSE(must(keystore->header_sequence(uuid)));
    must(keystore->remember_header_sequence(uuid, UINT64_MAX));
    keystore.reset();

    keystore = must(Keystore::open(folder / "ks"));
    CHECK(keystore->sealed());
    CHECK(code_of(keystore->get(a.id, soon())) == Errc::locked);
    CHECK(code_of(keystore->info(a.id, soon())) == Errc::locked);
    CHECK(code_of(keystore->list(soon())) == Errc::locked);
    CHECK(code_of(keystore->put("c", material_of(3), {}, soon())) == Errc::locked);
    CHECK(code_of(keystore->set_state(a.id, KeyState::deactivated, soon())) == Errc::locked);
    CHECK(code_of(keystore->export_for_passphrase(a.id, secret_of("p"), cheap)) == Errc::locked);
    CHECK(code_of(keystore->enrol(passphrase("p"), cheap)) == Errc::locked);
    CHECK(code_of(keystore->remove(1)) == Errc::locked);
    CHECK(code_of(keystore->header_sequence(uuid)) == Errc::locked);
    CHECK(code_of(keystore->remember_header_sequence(uuid, 1)) == Errc::locked);
    CHECK(must(keystore->enrolments()).size() == 1);
    must(keystore->unseal_automatically());
    CHECK_FALSE(keystore->sealed());
    const auto got = must(keystore->get(a.id, soon()));
    CHECK(got.material.equals(material_of(1).bytes()));
    CHECK(got.info.attributes.at("volume") == "data");
    CHECK(got.info.created == a.created);
    CHECK(must(keystore->info("b", soon())).state == KeyState::compromised);
    CHECK(*must(keystore->header_sequence(uuid)) == UINT64_MAX);
    must(keystore->remember_header_sequence(uuid, 7));
    CHECK(*must(keystore->header_sequence(uuid)) == 7);
    CHECK(code_of(keystore->header_sequence("no\nuuid")) == Errc::invalid_argument);
    keystore->seal();
    CHECK(keystore->sealed());
    CHECK(code_of(keystore->get(a.id, soon())) == Errc::locked);
}

TEST_CASE("init refuses what is there, and a recovery key to begin with") {
    const Folder folder;
    new_keystore(folder).reset();
    const std::string before = text_of(folder / "ks");
    CHECK(code_of(Keystore::init(folder / "ks", FileUnsealer{folder / "other"})) == Errc::exists);
    CHECK(text_of(folder / "ks") == before);
    CHECK_FALSE(std::filesystem::exists(folder / "other"));
    CHECK(code_of(Keystore::init(folder / "new", RecoveryUnsealer{})) == Errc::invalid_argument);
    CHECK(code_of(Keystore::init(folder / "new", passphrase(""))) == Errc::invalid_argument);
    CHECK(code_of(Keystore::init(folder / "no/new", passphrase("p"), cheap)) == Errc::not_found);
    CHECK_FALSE(std::filesystem::exists(folder / "new"));
    CHECK(code_of(Keystore::open(folder / "none")) == Errc::not_found);
    CHECK_FALSE(std::filesystem::exists(folder / "none.lock"));
}

TEST_CASE("file, credential, passphrase and recovery key open the same keystore side by side") {
    const Folder folder;
    const Credentials credentials(folder.path());
    write_text(folder / "cred", std::string(32, 'c'));
    auto keystore = new_keystore(folder);
    const auto key = put(*keystore, "a", 1);
    CHECK(must(keystore->enrol(CredentialUnsealer{"cred"})).empty());
    CHECK(must(keystore->enrol(passphrase("correct horse"), cheap)).empty());
    CHECK(must(keystore->enrol(passphrase("second"), cheap)).empty());
    const Secret text = must(keystore->enrol(RecoveryUnsealer{}));
    CHECK(text.size() == 71);
    const auto slots = must(keystore->enrolments());
    REQUIRE(slots.size() == 5);
    CHECK(slots[0].kind == "file");
    CHECK(slots[0].hint == folder / "ks.key");
    CHECK(slots[1].kind == "credential");
    CHECK(slots[1].hint == "cred");
    CHECK(slots[2].kind == "passphrase");
    CHECK(slots[3].slot == 4);
    CHECK(slots[4].kind == "recovery");
    CHECK(slots[4].created > 0);

    std::vector<Unsealer> unsealers;
    unsealers.emplace_back(FileUnsealer{folder / "ks.key"});
    unsealers.emplace_back(CredentialUnsealer{"cred"});
    unsealers.emplace_back(passphrase("correct horse"));
    unsealers.emplace_back(passphrase("second"));
    unsealers.emplace_back(RecoveryUnsealer{text.clone()});
    for (const Unsealer& unsealer : unsealers) {
        keystore->seal();
        must(keystore->unseal(unsealer));
        CHECK(must(keystore->get(key.id, soon())).material.equals(material_of(1).bytes()));
    }
    // The file gone, the credential still opens it by itself; both gone, nothing does.
    keystore->seal();
    std::filesystem::remove(folder / "ks.key");
    must(keystore->unseal_automatically());
    keystore->seal();
    std::filesystem::remove(folder / "cred");
    CHECK(code_of(keystore->unseal_automatically()) == Errc::locked);
    CHECK(keystore->sealed());
}

TEST_CASE("what is not enrolled does not unseal") {
    const Folder folder;
    auto keystore = new_keystore(folder);
    must(keystore->enrol(passphrase("right"), cheap));
    const Secret text = must(keystore->enrol(RecoveryUnsealer{}));
    keystore->seal();
    CHECK(code_of(keystore->unseal(passphrase("wrong"))) == Errc::wrong_key);
    CHECK(code_of(keystore->unseal(passphrase("right "))) == Errc::wrong_key);
    CHECK(code_of(keystore->unseal(passphrase(""))) == Errc::invalid_argument);
    CHECK(code_of(keystore->unseal(passphrase(std::string(4097, 'p')))) == Errc::invalid_argument);
    CHECK(code_of(keystore->unseal(RecoveryUnsealer{recovery_text(material_of(1, 32))})) ==
          Errc::wrong_key);
    Secret slip = text.clone();
    slip.bytes()[0] = slip.bytes()[0] == 'A' ? 'B' : 'A';
    CHECK(code_of(keystore->unseal(RecoveryUnsealer{slip.clone()})) == Errc::invalid_argument);
    write_text(folder / "wrong.key", std::string(32, 'w'));
    CHECK(code_of(keystore->unseal(FileUnsealer{folder / "wrong.key"})) == Errc::permission);
    ::chmod((folder / "wrong.key").c_str(), 0600);
    CHECK(code_of(keystore->unseal(FileUnsealer{folder / "wrong.key"})) == Errc::wrong_key);
    CHECK(code_of(keystore->unseal(FileUnsealer{folder / "missing"})) == Errc::not_found);
    CHECK(code_of(keystore->unseal(FileUnsealer{folder.path()})) == Errc::invalid_argument);
    write_text(folder / "ks.key", std::string(33, 'l'));
    CHECK(code_of(keystore->unseal(FileUnsealer{folder / "ks.key"})) == Errc::invalid_argument);
    CHECK(code_of(keystore->unseal_automatically()) == Errc::locked);
    CHECK(code_of(keystore->unseal(CredentialUnsealer{"c"})) == Errc::not_found);
    const Credentials credentials(folder.path());
    CHECK(code_of(keystore->unseal(CredentialUnsealer{"../x"})) == Errc::invalid_argument);
    CHECK(code_of(keystore->unseal(CredentialUnsealer{""})) == Errc::invalid_argument);
    CHECK(keystore->sealed());
}

TEST_CASE("enrolling refuses what cannot serve") {
    const Folder folder;
    auto keystore = new_keystore(folder);
    CHECK(code_of(keystore->enrol(passphrase(""), cheap)) == Errc::invalid_argument);
    CHECK(code_of(keystore->enrol(RecoveryUnsealer{secret_of("mine")})) == Errc::invalid_argument);
    CHECK(code_of(keystore->enrol(CredentialUnsealer{"a/b"})) == Errc::invalid_argument);
    CHECK(code_of(keystore->enrol(FileUnsealer{""})) == Errc::invalid_argument);
    CHECK(code_of(keystore->enrol(FileUnsealer{folder / "a\nb"})) == Errc::invalid_argument);
    write_text(folder / "short", "short");
    ::chmod((folder / "short").c_str(), 0600);
    CHECK(code_of(keystore->enrol(FileUnsealer{folder / "short"})) == Errc::invalid_argument);
    CHECK(code_of(keystore->enrol(FileUnsealer{folder / "no/f"})) == Errc::not_found);
    CHECK(must(keystore->enrolments()).size() == 1);
    for (int i = 1; i < 32; ++i)
        must(keystore->enrol(FileUnsealer{folder / ("more" + std::to_string(i))}));
    CHECK(code_of(keystore->enrol(FileUnsealer{folder / "more"})) == Errc::refused);
}

TEST_CASE("the same unsealer is not enrolled twice") {
    const Folder folder;
    auto keystore = new_keystore(folder);
    must(keystore->enrol(passphrase("correct horse"), cheap));
    must(keystore->enrol(passphrase("battery staple"), cheap));
    const auto again = keystore->enrol(passphrase("correct horse"), cheap);
    CHECK(code_of(again) == Errc::exists);
    CHECK(again.error().reason.find("slot 2") != std::string::npos);
    CHECK(code_of(keystore->enrol(FileUnsealer{folder / "ks.key"})) == Errc::exists);
    CHECK(must(keystore->enrolments()).size() == 3);
    std::filesystem::copy_file(folder / "ks.key", folder / "moved.key");
    must(keystore->enrol(FileUnsealer{folder / "moved.key"})); // on its way to another place
    must(keystore->remove(2));
    must(keystore->enrol(passphrase("correct horse"), cheap));
}

TEST_CASE("a removed unsealer opens nothing any more, and the last one stays") {
    const Folder folder;
    auto keystore = new_keystore(folder);
    CHECK(code_of(keystore->remove(1)) == Errc::refused);
    must(keystore->enrol(passphrase("p"), cheap));
    CHECK(code_of(keystore->remove(9)) == Errc::not_found);
    must(keystore->remove(1));
    CHECK(code_of(keystore->remove(2)) == Errc::refused);
    keystore->seal();
    CHECK(code_of(keystore->unseal(FileUnsealer{folder / "ks.key"})) == Errc::wrong_key);
    must(keystore->unseal(passphrase("p")));
}

TEST_CASE("nobody's name is another key's ID, nor the reverse") {
    const Folder folder;
    auto keystore = new_keystore(folder);
    const auto taken = [](const std::string& id, const std::string& name, std::uint32_t seed) {
        Provider::Key key{{}, material_of(seed)};
        key.info.id = id;
        key.info.name = name;
        key.info.state = KeyState::active;
        return key;
    };
    must(keystore->import(taken("my-id", "a", 1), soon()));
    const auto refused = keystore->put("my-id", material_of(2), {}, soon());
    CHECK(code_of(refused) == Errc::exists);
    CHECK(refused.error().reason.find("is the ID of a key") != std::string::npos);
    const auto reverse = keystore->import(taken("a", "b", 3), soon());
    CHECK(code_of(reverse) == Errc::exists);
    CHECK(reverse.error().reason.find("is the name of key my-id") != std::string::npos);
    must(keystore->import(taken("same", "same", 4), soon()));
    must(keystore->import(taken("nameless", "", 5), soon()));
    must(keystore->import(taken("nameless-too", "", 6), soon()));
    CHECK(must(keystore->info("a", soon())).id == "my-id");
    must(keystore->set_state("my-id", KeyState::deactivated, soon()));
    must(keystore->set_state("my-id", KeyState::destroyed, soon()));
    CHECK(code_of(keystore->put("my-id", material_of(7), {}, soon())) == Errc::exists);
    const auto again = keystore->import(taken("my-id", "c", 1), soon());
    CHECK(code_of(again) == Errc::exists);
    CHECK(again.error().reason.find("was destroyed") != std::string::npos);
    must(keystore->put("a", material_of(8), {}, soon())); // a name can be had again
}

TEST_CASE("the same bytes under another ID are noticed") {
    const Folder folder;
    auto keystore = new_keystore(folder);
    const auto key = put(*keystore, "a", 1);
    CHECK(must(keystore->twin_of(material_of(1), soon())) == key.id);
    CHECK(must(keystore->twin_of(material_of(2), soon())).empty());
    CHECK(must(keystore->twin_of(material_of(1, 32), soon())).empty());
    must(keystore->set_state(key.id, KeyState::deactivated, soon()));
    must(keystore->set_state(key.id, KeyState::destroyed, soon()));
    CHECK(must(keystore->twin_of(material_of(1), soon())).empty());
    keystore->seal();
    CHECK(code_of(keystore->twin_of(material_of(1), soon())) == Errc::locked);
}

TEST_CASE("a key that is taken in keeps its ID, state and time of creation") {
    const Folder folder;
    auto keystore = new_keystore(folder);
    Provider::Key key{{}, material_of(4, 32)};
    key.info.id = "from-elsewhere";
    key.info.name = "n";
    key.info.state = KeyState::pre_active;
    key.info.created = 12345;
    const auto again = [&] {
        Provider::Key copy{key.info, key.material.clone()};
        return copy;
    };
    const auto info = must(keystore->import(again(), soon()));
    CHECK(info.id == "from-elsewhere");
    CHECK(info.created == 12345);
    CHECK(info.bits == 256);
    CHECK(code_of(keystore->get(info.id, soon())) == Errc::refused);
    CHECK(code_of(keystore->export_for_passphrase(info.id, secret_of("p"), cheap)) ==
          Errc::refused);
    CHECK(code_of(keystore->set_state(info.id, KeyState::deactivated, soon())) == Errc::refused);
    must(keystore->set_state(info.id, KeyState::active, soon()));
    CHECK(must(keystore->get(info.id, soon())).material.equals(key.material.bytes()));
    CHECK(code_of(keystore->import(again(), soon())) == Errc::exists);
    must(keystore->set_state(info.id, KeyState::compromised, soon()));
    must(keystore->set_state(info.id, KeyState::destroyed, soon()));
    CHECK(code_of(keystore->import(again(), soon())) == Errc::exists);
    key.info.id = "other";
    key.info.state = KeyState::destroyed;
    CHECK(code_of(keystore->import(again(), soon())) == Errc::invalid_argument);
    key.info.state = KeyState::active;
    key.info.algorithm = "DES";
    CHECK(code_of(keystore->import(again(), soon())) == Errc::invalid_argument);
    key.info.algorithm = "AES";
    key.info.id = "no good";
    CHECK(code_of(keystore->import(again(), soon())) == Errc::invalid_argument);
    CHECK(must(keystore->list(soon())).size() == 1);
}

TEST_CASE("the allowed changes of state are NIST's") {
    using S = KeyState;
    const std::vector<S> all{S::pre_active, S::active, S::deactivated, S::compromised,
                             S::destroyed};
    const std::vector<std::pair<S, S>> allowed{
        {S::pre_active, S::active},     {S::pre_active, S::compromised},
        {S::pre_active, S::destroyed},  {S::active, S::deactivated},
        {S::active, S::compromised},    {S::deactivated, S::compromised},
        {S::deactivated, S::destroyed}, {S::compromised, S::destroyed}};
    for (const S from : all)
        for (const S to : all) {
            const bool listed =
                std::find(allowed.begin(), allowed.end(), std::pair(from, to)) != allowed.end();
            INFO(state_name(from) << " to " << state_name(to));
            CHECK(check_transition(from, to).has_value() == listed);
        }
    for (const S state : all)
        CHECK(state_of(state_name(state)) == state);
    CHECK_FALSE(state_of("Active"));
    CHECK_FALSE(state_of(""));
}

TEST_CASE("a backup is a whole keystore, and replaces a file only when told to") {
    const Folder folder;
    auto keystore = new_keystore(folder);
    const auto key = put(*keystore, "a", 1);
    must(keystore->backup(folder / "copy", false));
    CHECK(mode_of(folder / "copy") == 0600);
    put(*keystore, "b", 2);
    CHECK(code_of(keystore->backup(folder / "copy", false)) == Errc::exists);
    CHECK(code_of(keystore->backup(folder / "ks", true)) == Errc::invalid_argument);
    CHECK(code_of(keystore->backup(folder / "no/copy", false)) == Errc::not_found);
    {
        auto copy = must(Keystore::open(folder / "copy"));
        must(copy->unseal(FileUnsealer{folder / "ks.key"}));
        CHECK(must(copy->list(soon())).size() == 1);
        CHECK(must(copy->get(key.id, soon())).material.equals(material_of(1).bytes()));
    }
    must(keystore->backup(folder / "copy", true));
    auto copy = must(Keystore::open(folder / "copy"));
    must(copy->unseal_automatically());
    CHECK(must(copy->list(soon())).size() == 2);
    put(*keystore, "c", 3); // the original goes on
}

TEST_CASE("force replaces keystores, and no other file") {
    const Folder folder;
    auto keystore = new_keystore(folder);
    const std::string key = text_of(folder / "ks.key");
    CHECK(code_of(keystore->backup(folder / "ks.key", true)) == Errc::exists);
    CHECK(text_of(folder / "ks.key") == key);
    SECTION("an empty file") {
        write_text(folder / "copy", "");
    }
    SECTION("a keystore that is damaged behind its beginning") {
        write_text(folder / "copy", text_of(folder / "ks").substr(0, 4000));
    }
    must(keystore->backup(folder / "copy", true));
    must(Keystore::open(folder / "copy"));
}

TEST_CASE("restore puts a backup in place, and first tells which keys would be lost") {
    const Folder folder;
    const FileUnsealer with{folder / "ks.key"};
    auto keystore = new_keystore(folder);
    const auto a = put(*keystore, "a", 1);
    must(keystore->backup(folder / "copy", false));
    const auto b = put(*keystore, "b", 2);
    CHECK(code_of(Keystore::restore(folder / "ks", folder / "copy", with, true)) == Errc::busy);
    keystore.reset();
    const std::string before = text_of(folder / "ks");

    const auto refused = Keystore::restore(folder / "ks", folder / "copy", with, false);
    CHECK(code_of(refused) == Errc::refused);
    CHECK(refused.error().reason.find(b.id) != std::string::npos);
    CHECK(refused.error().reason.find(a.id) == std::string::npos);
    CHECK(code_of(Keystore::restore(folder / "ks", folder / "copy", passphrase("p"), true)) ==
          Errc::wrong_key);
    CHECK(code_of(Keystore::restore(folder / "ks", folder / "ks", with, true)) ==
          Errc::invalid_argument);
    CHECK_FALSE(Keystore::restore(folder / "ks", folder / "missing", with, true));
    write_text(folder / "junk", std::string(8192, 'j'));
    CHECK(code_of(Keystore::restore(folder / "ks", folder / "junk", with, true)) == Errc::corrupt);
    CHECK(text_of(folder / "ks") == before);

    must(Keystore::restore(folder / "ks", folder / "copy", with, true));
    keystore = open_keystore(folder);
    CHECK(must(keystore->list(soon())).size() == 1);
    CHECK(code_of(keystore->get(b.id, soon())) == Errc::unknown_key);
    put(*keystore, "c", 3);
    keystore.reset();
    must(Keystore::restore(folder / "elsewhere", folder / "copy", with, false));
    must(Keystore::open(folder / "elsewhere"));
}

TEST_CASE("restore does not bring back destroyed keys or forget newer headers unasked") {
    const Folder folder;
    const FileUnsealer with{folder / "ks.key"};
    const std::string seen = "11111111-2222-4333-8444-555555555555";
    const std::string fresh = "66666666-7777-4888-9999-aaaaaaaaaaaa";
    auto keystore = new_keystore(folder);
    const auto a = put(*keystore, "a", 1);
    must(keystore->remember_header_sequence(seen, 5));
    must(keystore->backup(folder / "copy", false));
    std::string word;
    SECTION("a higher number") {
        must(keystore->remember_header_sequence(seen, 9));
        word = seen;
    }
    SECTION("a volume the backup does not know") {
        must(keystore->remember_header_sequence(fresh, 3));
        word = fresh;
    }
    SECTION("a key that is destroyed") {
        must(keystore->set_state(a.id, KeyState::deactivated, soon()));
        must(keystore->set_state(a.id, KeyState::destroyed, soon()));
        word = a.id;
    }
    const auto known = must(keystore->header_sequence(seen));
    const auto other = must(keystore->header_sequence(fresh));
    keystore.reset();
    const std::string before = text_of(folder / "ks");
    const auto refused = Keystore::restore(folder / "ks", folder / "copy", with, false);
    CHECK(code_of(refused) == Errc::refused);
    CHECK(refused.error().reason.find(word) != std::string::npos);
    CHECK(text_of(folder / "ks") == before);

    must(Keystore::restore(folder / "ks", folder / "copy", with, true));
    keystore = open_keystore(folder);
    CHECK(must(keystore->header_sequence(seen)) == known);
    CHECK(must(keystore->header_sequence(fresh)) == other);
    CHECK(must(keystore->info(a.id, soon())).state == KeyState::active);
}

TEST_CASE("restore over a file that is no keystore needs force") {
    const Folder folder;
    auto keystore = new_keystore(folder);
    must(keystore->backup(folder / "copy", false));
    const FileUnsealer with{folder / "ks.key"};
    write_text(folder / "broken", std::string(10000, 'x'));
    write_text(folder / "broken-journal", std::string(10000, 'y'));
    CHECK(code_of(Keystore::restore(folder / "broken", folder / "copy", with, false)) ==
          Errc::refused);
    must(Keystore::restore(folder / "broken", folder / "copy", with, true));
    CHECK_FALSE(std::filesystem::exists(folder / "broken-journal"));
    must(Keystore::open(folder / "broken"));
}
