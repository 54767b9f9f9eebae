// SPDX-License-Identifier: Apache-2.0
// The recovery key as text: what is forgiven, and that no slip goes unnoticed.
#include "folder.h"
#include "keys/recovery.h"

using namespace dek;
using namespace dek::keys;
using namespace dek::test;

static std::string shown(const Secret& secret) {
    return {reinterpret_cast<const char*>(secret.bytes().data()), secret.size()};
}

TEST_CASE("a recovery key has a fixed text") {
    // 00 01 .. 1f, the first group worked out by another program: CRC-8 of 01 00 01 02 03 is 0x2a.
    Secret key(32);
    for (std::size_t i = 0; i < 32; ++i)
        key.bytes()[i] = static_cast<std::uint8_t>(i);
    const std::string text = shown(recovery_text(key));
    CHECK(text.size() == 71);
    CHECK(text.substr(0, 9) == "000G40SA-");
}

TEST_CASE("a recovery key reads back whatever case, spaces and dashes it is typed with") {
    const Secret key = Secret::random(32);
    std::string text = shown(recovery_text(key));
    CHECK(must(recovery_key_of(secret_of(text))).equals(key.bytes()));
    std::string loose;
    for (const char c : text)
        loose +=
            c == '-' ? std::string(" \r\n\t") : std::string(1, static_cast<char>(std::tolower(c)));
    CHECK(must(recovery_key_of(secret_of(loose))).equals(key.bytes()));
    for (char& c : text)
        c = c == '0' ? 'o' : c == '1' ? 'L' : c;
    CHECK(must(recovery_key_of(secret_of(text))).equals(key.bytes()));
}

TEST_CASE("every single wrong character of a recovery key is found, and its group named") {
    const std::string text = shown(recovery_text(material_of(5, 32)));
    const std::string alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    int tried = 0;
    for (std::size_t at = 0; at < text.size(); ++at) {
        for (const char c : alphabet) {
            if (text[at] == '-' || c == text[at])
                continue;
            std::string wrong = text;
            wrong[at] = c;
            const auto read = recovery_key_of(secret_of(wrong));
            REQUIRE(code_of(read) == Errc::invalid_argument);
            const std::string group = "group " + std::to_string(at / 9 + 1) + " of 8";
            REQUIRE(read.error().reason.find(group) != std::string::npos);
            ++tried;
        }
    }
    CHECK(tried == 64 * 31);
}

TEST_CASE("a recovery key that is cut, too long, shuffled or not of its alphabet is refused") {
    const std::string text = shown(recovery_text(material_of(6, 32)));
    CHECK(code_of(recovery_key_of(secret_of(text.substr(0, 70)))) == Errc::invalid_argument);
    CHECK(code_of(recovery_key_of(secret_of(text + 'A'))) == Errc::invalid_argument);
    CHECK(code_of(recovery_key_of(Secret())) == Errc::invalid_argument);
    const std::string swapped = text.substr(9, 9) + text.substr(0, 9) + text.substr(18);
    CHECK(code_of(recovery_key_of(secret_of(swapped))) == Errc::invalid_argument);
    for (const char c : {'U', '!', '\0', '\xff'})
        CHECK(code_of(recovery_key_of(secret_of(text.substr(0, 70) + c))) ==
              Errc::invalid_argument);
}
