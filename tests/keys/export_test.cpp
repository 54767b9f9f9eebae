// SPDX-License-Identifier: Apache-2.0
// Keys as wrapped text: there and back, and every edit refused. export_peer.py unwraps public-key
// ones.
#include "folder.h"

using namespace dek;
using namespace dek::keys;
using namespace dek::test;

namespace {

struct Exported {
    Folder folder;
    std::unique_ptr<Keystore> keystore = new_keystore(folder);
    KeyInfo info =
        must(keystore->put("a key", material_of(1), {{"volume", "data"}, {"x", ""}}, soon()));
    std::string text = must(keystore->export_for_passphrase(info.id, secret_of("right"), cheap));

    Result<Provider::Key> read(const std::string& from) const {
        return Keystore::import_wrapped(from, secret_of("right"));
    }
};

std::string replaced(std::string text, const std::string& what, const std::string& by) {
    const auto at = text.find(what);
    REQUIRE(at != std::string::npos);
    return text.replace(at, what.size(), by);
}

const char* const p192 = "-----BEGIN PUBLIC KEY-----\n"
                         "MEkwEwYHKoZIzj0CAQYIKoZIzj0DAQEDMgAEYrEgERwMFcHWo9JzPv9KYvUuRQYa\n"
                         "cfsVhDM2LiS2XkHjVOw4ztFHcZBVlMdMiUCG\n-----END PUBLIC KEY-----\n";

} // namespace

TEST_CASE("an exported key comes back whole into another keystore") {
    Exported t;
    auto key = must(t.read(t.text));
    CHECK(key.material.equals(material_of(1).bytes()));
    CHECK(key.info.id == t.info.id);
    CHECK(key.info.name == "a key");
    CHECK(key.info.attributes == t.info.attributes);
    CHECK(key.info.created == t.info.created);
    CHECK(key.info.state == KeyState::active);
    auto other = new_keystore(t.folder, "other");
    must(other->import(std::move(key), soon()));
    CHECK(must(other->get(t.info.id, soon())).material.equals(material_of(1).bytes()));
}

TEST_CASE("a wrong passphrase does not unwrap, and is not told from an edit") {
    Exported t;
    CHECK(code_of(Keystore::import_wrapped(t.text, secret_of("wrong"))) == Errc::wrong_key);
    CHECK(code_of(Keystore::import_wrapped(t.text, Secret())) == Errc::wrong_key);
    CHECK(code_of(t.keystore->export_for_passphrase(t.info.id, Secret(), cheap)) ==
          Errc::invalid_argument);
    CHECK(code_of(t.keystore->export_for_passphrase("unknown", secret_of("p"), cheap)) ==
          Errc::unknown_key);
}

TEST_CASE("no edit of an exported key goes unnoticed") {
    Exported t;
    for (std::size_t at = 0; at < t.text.size(); ++at) {
        std::string edited = t.text;
        edited[at] = static_cast<char>(edited[at] ^ (1 << at % 7));
        const auto read = t.read(edited);
        if (read) // hex digits may be upper case after the seal's own text
            REQUIRE(read->material.equals(material_of(1).bytes()));
        else
            REQUIRE((read.error().code == Errc::wrong_key || read.error().code == Errc::corrupt ||
                     read.error().code == Errc::invalid_argument ||
                     read.error().code == Errc::unsupported));
        if (at < t.text.find("nonce: "))
            REQUIRE_FALSE(read);
    }
    for (std::size_t size = 0; size < t.text.size(); ++size)
        REQUIRE(code_of(t.read(t.text.substr(0, size))) == Errc::invalid_argument);
}

TEST_CASE("text that is no exported key is refused by name") {
    Exported t;
    CHECK(code_of(t.read("")) == Errc::invalid_argument);
    CHECK(code_of(t.read(t.text + "\n")) == Errc::invalid_argument);
    CHECK(code_of(t.read(std::string(300 * 1024, 'x'))) == Errc::invalid_argument);
    CHECK(code_of(t.read(replaced(t.text, "key 1\n", "key 2\n"))) == Errc::invalid_argument);
    CHECK(code_of(t.read(replaced(t.text, "state: active", "state: awake"))) ==
          Errc::invalid_argument);
    CHECK(code_of(t.read(replaced(t.text, "bits: 512", "bits: 5i2"))) == Errc::invalid_argument);
    CHECK(code_of(t.read(replaced(t.text, "salt: ", "salt: 0"))) == Errc::invalid_argument);
    CHECK(code_of(t.read(replaced(t.text, "name: a key", "name: a\x1bkey"))) ==
          Errc::invalid_argument);
    CHECK(code_of(t.read(replaced(t.text, "memory-kib: 64", "memory-kib: 4000000000"))) ==
          Errc::corrupt);
    CHECK(code_of(t.read(replaced(t.text, "passes: 1", "passes: 0"))) == Errc::corrupt);
    CHECK(code_of(t.read(replaced(t.text, "lanes: 1", "lanes: 17"))) == Errc::corrupt);
    CHECK(code_of(t.read(replaced(t.text, "method: argon2id", "method: rsa-oaep-sha256"))) ==
          Errc::unsupported);
}

TEST_CASE("a public key that is none, private, weak or of another kind is refused") {
    Exported t;
    for (const std::string& pem :
         {std::string(), std::string("-----BEGIN PUBLIC KEY-----\n"), std::string(70000, 'A'),
          std::string(p192),
          std::string("-----BEGIN PUBLIC KEY-----\n"
                      "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n"
                      "-----END PUBLIC KEY-----\n")})
        CHECK(code_of(t.keystore->export_for_public_key(t.info.id, pem)) == Errc::invalid_argument);
}
