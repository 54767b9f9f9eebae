// SPDX-License-Identifier: Apache-2.0
// What a header says survives encoding; what is wrong is never written; what was edited is found
// out.
#include <catch2/catch.hpp>

#include "sample.h"
#include "volume/header.h"
#include "volume/hex.h"

using namespace dek;
using namespace dek::test;
using volume::Header;

namespace {

void same(const Header& a, const Header& b) {
    CHECK(volume::to_json(a) == volume::to_json(b));
    CHECK(a.ranges == b.ranges);
    REQUIRE(a.keys.size() == b.keys.size());
    for (std::size_t i = 0; i < a.keys.size(); ++i) {
        CHECK(a.keys[i].check_salt == b.keys[i].check_salt);
        CHECK(a.keys[i].check_value == b.keys[i].check_value);
    }
}

std::string refusal(const Header& header, Errc code = Errc::invalid_argument) {
    const auto encoded = volume::encode(header, sample_key());
    REQUIRE_FALSE(encoded.has_value());
    CHECK(encoded.error().code == code);
    return rule_of(encoded.error().reason);
}

Header fixed_header() {
    Header header = in_place_header(sample_key());
    header.uuid = volume::uuid_of("01234567-89ab-4cde-8f01-23456789abcd").value();
    for (std::size_t i = 0; i < header.keys.size(); ++i) {
        header.keys[i].check_salt.fill(static_cast<std::uint8_t>(i + 1));
        header.keys[i].check_value = volume::key_check_value(
            sample_key(static_cast<std::uint8_t>(i + 1)), header.keys[i].check_salt);
    }
    return header;
}

} // namespace

TEST_CASE("a header of each place survives encoding") {
    const Secret key = sample_key();
    for (Header header : {in_place_header(key), leading_header(key), detached_header(key)}) {
        header.sequence = 0x0102030405060708;
        header.tweak = volume::TweakRule::lba512;
        header.endpoint_policy = "hardware-only";
        header.data_unit = 512;
        const auto copy = volume::encode(header, key);
        REQUIRE(copy.has_value());
        CHECK(copy->size() % 4096 == 0);
        const auto back = volume::decode(*copy);
        REQUIRE(back.has_value());
        same(header, back->header);
        CHECK(back->bytes == *copy);
        CHECK(volume::verify(*back, key).has_value());
    }
}

TEST_CASE("the bytes of a header are these") {
    const auto copy = volume::encode(fixed_header(), sample_key());
    REQUIRE(copy.has_value());
    REQUIRE(copy->size() == 4096);
    // magic, version 1, size 4096, flags 0 and 0, sequence 1, two ranges, 554 bytes of text
    CHECK(volume::hex_text({copy->data(), 40}) == "d644454b4844521a"
                                                  "01000000"
                                                  "00100000"
                                                  "00000000"
                                                  "00000000"
                                                  "0100000000000000"
                                                  "02000000"
                                                  "2a020000");
    CHECK(volume::hex_text({copy->data() + 512, 40}) == "0006000000000000"
                                                        "0022000000000000"
                                                        "00000000"
                                                        "002c000000000000"
                                                        "0024000000000000"
                                                        "01000000");
    CHECK(std::string(copy->begin() + 552, copy->begin() + 579) ==
          "{\"cipher\":\"aes-xts\",\"data_u");
}

TEST_CASE("the largest header fits") {
    const Secret key = sample_key();
    Header header = leading_header(key);
    header.keys.clear();
    header.ranges.clear();
    for (std::size_t i = 0; i < volume::max_keys; ++i) {
        std::string id = std::to_string(i);
        id.insert(0, 64 - id.size(), '"'); // each is two bytes in JSON
        header.keys.push_back(volume::make_header_key(id, std::string(64, 'p'), key));
    }
    header.name = std::string(64, 'n');
    header.device_lbas = volume::max_lbas;
    header.size = volume::max_lbas - header.offset;
    for (std::size_t i = 0; i < volume::max_ranges; ++i)
        header.ranges.push_back({{header.size - 16 * (volume::max_ranges - i), 8},
                                 static_cast<std::uint16_t>(i % volume::max_keys)});
    const auto copy = volume::encode(header, key);
    REQUIRE(copy.has_value());
    CHECK(copy->size() <= 65536);
    same(header, volume::decode(*copy)->header);

    SECTION("and one range more is refused by name") {
        header.ranges.insert(header.ranges.begin(), {{0, 8}, 0});
        CHECK(refusal(header) == "range-count");
    }
    SECTION("and what does not fit with all that is refused") {
        header.incompatible = volume::feature_rekey;
        header.rekey_state = nlohmann::json({{"x", std::string(4000, 'x')}}).dump();
        CHECK(refusal(header) == "json-size");
    }
}

TEST_CASE("a header that breaks a rule is never encoded") {
    Header header = in_place_header(sample_key());
    SECTION("range over the header") {
        header.ranges = {{{0, 20480}, 0}};
        CHECK(refusal(header) == "range-header");
    }
    SECTION("range that touches the header's first LBA") {
        header.ranges = {{{0, 1032}, 0}};
        CHECK(refusal(header) == "range-header");
    }
    SECTION("ranges right before and after the header are fine") {
        header.ranges = {{{0, 1024}, 0}, {{1536, 8}, 0}};
        CHECK(volume::encode(header, sample_key()).has_value());
    }
    SECTION("no key") {
        header.keys.clear();
        CHECK(refusal(header) == "key-count");
    }
    SECTION("key ID that is no UTF-8") {
        header.keys[1].id = "a\xc3";
        CHECK(refusal(header) == "key-id");
    }
    SECTION("key ID in UTF-8") {
        header.keys[1].id = "cl\u00e9";
        CHECK(volume::encode(header, sample_key()).has_value());
    }
    SECTION("a re-key state that is no JSON") {
        header.incompatible = volume::feature_rekey;
        header.rekey_state = "{";
        CHECK(refusal(header) == "rekey");
    }
    SECTION("a re-key state that grows beyond its bound when written") {
        header.incompatible = volume::feature_rekey;
        header.rekey_state = "{\"a\":[1e5";
        while (header.rekey_state.size() < 4000)
            header.rekey_state += ",1e5"; // comes back as 100000.0
        header.rekey_state += "]}";
        CHECK(refusal(header) == "rekey");
    }
    SECTION("an unknown feature") {
        header.incompatible = 2;
        CHECK(refusal(header, Errc::unsupported) == "incompatible");
    }
    SECTION("a feature that makes it read-only here") {
        header.readonly_compatible = 1;
        CHECK(refusal(header, Errc::unsupported) == "incompatible");
    }
}

TEST_CASE("the re-key state survives encoding") {
    Header header = leading_header(sample_key());
    header.incompatible = volume::feature_rekey;
    header.rekey_state = R"({"from":0,"to":1,"watermark":4096})";
    const auto copy = volume::encode(header, sample_key());
    REQUIRE(copy.has_value());
    CHECK(volume::decode(*copy)->header.rekey_state == header.rekey_state);
}

TEST_CASE("a map edited on disk is found out, although its SHA-256 holds") {
    const auto copy = volume::encode(in_place_header(sample_key()), sample_key());
    Forgery forgery = Forgery::of(copy.value());
    SECTION("a range cut short") {
        forgery.map[9] = 0x21;
    }
    SECTION("a range dropped") {
        forgery.map.resize(20);
        forgery.put32(32, 1);
    }
    SECTION("another key for a range") {
        forgery.map[16] = 1;
    }
    SECTION("the sequence number raised") {
        forgery.put64(24, 99);
    }
    SECTION("a flag set") {
        forgery.put32(20, 1);
    }
    SECTION("the policy changed") {
        forgery.edit([](nlohmann::json& text) { text["endpoint"] = "never"; });
    }
    SECTION("the HMAC itself") {
        forgery.head[480] ^= 1;
    }
    SECTION("the size") {
        forgery.size = 8192;
        forgery.put32(12, 8192);
    }
    const auto read = volume::decode(forgery.sealed());
    REQUIRE(read.has_value());
    const auto verified = volume::verify(*read, sample_key());
    REQUIRE_FALSE(verified.has_value());
    CHECK(verified.error().code == Errc::corrupt);
}

TEST_CASE("another volume's key is told from an edited header") {
    const auto copy =
        volume::decode(volume::encode(in_place_header(sample_key()), sample_key()).value());
    const auto verified = volume::verify(copy.value(), sample_key(9));
    REQUIRE_FALSE(verified.has_value());
    CHECK(verified.error().code == Errc::wrong_key);
}

TEST_CASE("a copy changed after it was decoded does not verify") {
    auto copy =
        volume::decode(volume::encode(in_place_header(sample_key()), sample_key()).value()).value();
    copy.bytes[600] ^= 1;
    CHECK_FALSE(volume::verify(copy, sample_key()).has_value());
    copy.bytes.resize(3);
    CHECK_FALSE(volume::verify(copy, sample_key()).has_value());
}

TEST_CASE("a header is not sealed under a key that is not its first") {
    const auto sealed = volume::encode(in_place_header(sample_key()), sample_key(2));
    REQUIRE_FALSE(sealed.has_value());
    CHECK(sealed.error().code == Errc::wrong_key);
}

TEST_CASE("key-check values tell keys apart and depend on their salt") {
    const auto one = volume::make_header_key("a", "keystore", sample_key(1));
    const auto again = volume::make_header_key("a", "keystore", sample_key(1));
    CHECK(one.bits == 512);
    CHECK(volume::key_matches(one, sample_key(1)));
    CHECK_FALSE(volume::key_matches(one, sample_key(2)));
    CHECK_FALSE(volume::key_matches(one, Secret::copy_of(sample_key(1).bytes().first(32))));
    CHECK_FALSE(volume::key_matches(one, Secret()));
    CHECK(one.check_value != again.check_value);
}

TEST_CASE("UUIDs are text and back") {
    const auto uuid = volume::random_uuid();
    const std::string text = volume::uuid_text(uuid);
    CHECK(text.size() == 36);
    CHECK(text[14] == '4');
    CHECK(volume::uuid_of(text).value() == uuid);
    for (const char* wrong :
         {"", "01234567-89ab-4cde-8f01-23456789abc", "0123456789ab-4cde-8f01-23456789abcdef0",
          "01234567-89ab-4cde-8f01-23456789abcg", "0123456789ab4cde8f0123456789abcd",
          "-----------0123456789ab4cde8f01234567", "01234567-89AB-4cde-8f01-23456789abcd"})
        CHECK_FALSE(volume::uuid_of(wrong).has_value());
}

TEST_CASE("what is shown of a header has no check value") {
    const Header header = in_place_header(sample_key());
    const auto shown = volume::to_json(header);
    const std::string text = shown.dump();
    CHECK(text.find(volume::hex_text(header.keys[0].check_value)) == std::string::npos);
    CHECK(text.find(volume::hex_text(header.keys[0].check_salt)) == std::string::npos);
    CHECK(shown["ranges"][1]["last"] == 20479);
    CHECK(shown["ranges"][1]["key"] == "key-two");
    CHECK(shown["place"] == "in-place");
}
