// SPDX-License-Identifier: Apache-2.0
// Hostile bytes: one generator for each rule a copy or a backup can break, each refused by that
// rule's name, all of them with a SHA-256 that holds (but where that is the rule).
#include <functional>
#include <map>

#include <catch2/catch.hpp>

#include "sample.h"
#include "volume/header.h"
#include "volume/rule.h"
#include "volume/seal.h"

using namespace dek;
using namespace dek::test;
using nlohmann::json;
using volume::Rule;

namespace {

using Make = std::function<Bytes()>;

Bytes good_copy() {
    return volume::encode(in_place_header(sample_key()), sample_key()).value();
}

Make forged(const std::function<void(Forgery&)>& change) {
    return [change] {
        Forgery forgery = Forgery::of(good_copy());
        change(forgery);
        return forgery.sealed();
    };
}

Make edited(const std::function<void(json&)>& change) {
    return forged([change](Forgery& forgery) { forgery.edit(change); });
}

Make member(const std::string& name, const json& value) {
    return edited([=](json& text) { text[name] = value; });
}

Make key_member(const std::string& name, const json& value) {
    return edited([=](json& text) { text["keys"][0][name] = value; });
}

// Entry `index` of the map: its bytes at `offset` become `value`.
Make mapped(std::size_t index, std::size_t offset, std::uint64_t value, std::size_t width) {
    return forged([=](Forgery& forgery) {
        for (std::size_t i = 0; i < width; ++i)
            forgery.map.at(20 * index + offset + i) = static_cast<std::uint8_t>(value >> (8 * i));
    });
}

void replace_text(Forgery& forgery, const std::string& text) {
    forgery.text = text;
    forgery.put32(36, static_cast<std::uint32_t>(text.size()));
}

void insert_at_start(Forgery& forgery, const std::string& members) {
    replace_text(forgery, "{" + members + "," + forgery.text.substr(1));
}

json many_keys() {
    json keys = json::array();
    const json key = {{"id", "k"},
                      {"provider", "p"},
                      {"bits", 512},
                      {"salt", std::string(32, '0')},
                      {"check", std::string(32, '0')}};
    for (int i = 0; i < 65; ++i)
        keys.push_back(key);
    return keys;
}

void many_ranges(Forgery& forgery) {
    forgery.map.assign(20 * 2049, 0);
    forgery.put32(32, 2049);
    forgery.put32(12, 65536);
    forgery.size = 65536;
}

void flagged(Forgery& forgery, const json& state) {
    forgery.put32(16, volume::feature_rekey);
    forgery.edit([&](json& text) { text["rekey"] = state; });
}

const std::multimap<Rule, Make>& structure() {
    static const std::multimap<Rule, Make> made{
        {Rule::magic, [] { return Bytes{}; }},
        {Rule::magic, [] { return Bytes(4096); }},
        {Rule::magic, forged([](Forgery& f) { f.head[7] ^= 1; })},
        {Rule::size, forged([](Forgery& f) { f.put32(12, 0); })},
        {Rule::size, forged([](Forgery& f) { f.put32(12, 4095); })},
        {Rule::size, forged([](Forgery& f) { f.put32(12, 8192); })}, // more than there is
        {Rule::size, forged([](Forgery& f) { f.put32(12, 0xfffff000); })},
        {Rule::size, forged([](Forgery& f) {
             f.size = 69632;
             f.put32(12, 69632);
         })},
        {Rule::digest,
         [] {
             auto c = good_copy();
             c[600] ^= 1;
             return c;
         }},
        {Rule::digest,
         [] {
             auto c = good_copy();
             c[480] ^= 1;
             return c;
         }}, // the HMAC is under it
        {Rule::digest,
         [] {
             auto c = good_copy();
             c[4095] ^= 1;
             return c;
         }},
        {Rule::version, forged([](Forgery& f) { f.put32(8, 2); })},
        {Rule::version, forged([](Forgery& f) { f.put32(8, 0); })},
        {Rule::incompatible, forged([](Forgery& f) { f.put32(16, 0x80000000); })},
        {Rule::map_count, forged(many_ranges)},
        {Rule::map_count, forged([](Forgery& f) { f.put32(32, 0xffffffff); })},
        {Rule::json_size, forged([](Forgery& f) { f.put32(36, 0xffffffff); })},
        {Rule::json_size, forged([](Forgery& f) { f.put32(36, 4096); })},
        {Rule::json_size,
         forged([](Forgery& f) { f.put32(32, 2048); })}, // the map ends after the copy
        {Rule::reserved, forged([](Forgery& f) { f.head[40] = 1; })},
        {Rule::reserved, forged([](Forgery& f) { f.head[447] = 1; })},
        {Rule::padding, forged([](Forgery& f) { f.padding = {1}; })},
        {Rule::map_reserved, mapped(1, 19, 1, 1)},
    };
    return made;
}

const std::multimap<Rule, Make>& text() {
    static const std::multimap<Rule, Make> made{
        {Rule::json_syntax, forged([](Forgery& f) { replace_text(f, ""); })},
        {Rule::json_syntax, forged([](Forgery& f) { f.text.back() = ' '; })},
        {Rule::json_syntax, forged([](Forgery& f) { replace_text(f, f.text + "{}"); })},
        {Rule::json_syntax, forged([](Forgery& f) { insert_at_start(f, "\"x\":\"\xff\""); })},
        {Rule::json_syntax, forged([](Forgery& f) { insert_at_start(f, "\"x\":1e999"); })},
        {Rule::json_syntax, forged([](Forgery& f) { replace_text(f, std::string(3000, '[')); })},
        {Rule::json_depth, forged([](Forgery& f) {
             replace_text(f, std::string(1500, '[') + std::string(1500, ']'));
         })},
        {Rule::json_depth,
         forged([](Forgery& f) { flagged(f, json::parse("{\"a\":[[[[[[[1]]]]]]]}")); })},
        {Rule::json_duplicate, forged([](Forgery& f) { insert_at_start(f, "\"size\":1"); })},
        {Rule::json_duplicate, forged([](Forgery& f) { insert_at_start(f, "\"siz\\u0065\":1"); })},
        {Rule::json_duplicate, forged([](Forgery& f) {
             const auto at = f.text.find("\"bits\":");
             f.text.insert(at, "\"bits\":256,");
             replace_text(f, std::string(f.text));
         })},
        {Rule::json_missing, edited([](json& j) { j.erase("uuid"); })},
        {Rule::json_missing, edited([](json& j) { j.erase("journal"); })},
        {Rule::json_missing, edited([](json& j) { j["keys"][1].erase("check"); })},
        {Rule::json_unknown, member("novelty", 1)},
        {Rule::json_unknown, key_member("novelty", 1)},
        {Rule::json_type, forged([](Forgery& f) { replace_text(f, "[]"); })},
        {Rule::json_type, member("size", "20480")},
        {Rule::json_type, member("size", -1)},
        {Rule::json_type, member("size", 1.0)},
        {Rule::json_type, member("size", nullptr)},
        {Rule::json_type, member("keys", json::object())},
        {Rule::json_type, member("name", 7)},
        {Rule::json_type, edited([](json& j) { j["keys"][0] = 1; })},
        {Rule::json_type, forged([](Forgery& f) { flagged(f, json::array()); })},
        {Rule::json_value, member("size", (1ull << 53) + 1)},
        {Rule::json_value, member("data_unit", 1ull << 32)},
        {Rule::json_value, member("place", "leading")},
        {Rule::json_value, member("tweak", "plain64")},
        {Rule::json_value, member("cipher", "aes-cbc")},
        {Rule::json_value, member("uuid", "none")},
        {Rule::json_value, member("uuid", "A2345678-1234-4234-8234-123456789012")},
        {Rule::json_value, edited([](json& j) { j["journal"]["size"] = 4096; })},
        {Rule::json_value, key_member("salt", std::string(31, '0'))},
        {Rule::json_value, key_member("check", std::string(32, 'F'))},
    };
    return made;
}

const std::multimap<Rule, Make>& meaning() {
    static const std::multimap<Rule, Make> made{
        {Rule::sequence, forged([](Forgery& f) { f.put64(24, 0); })},
        {Rule::sequence, forged([](Forgery& f) { f.put64(24, 1ull << 63); })},
        {Rule::uuid, member("uuid", "00000000-0000-0000-0000-000000000000")},
        {Rule::name, member("name", "")},
        {Rule::name, member("name", "../etc")},
        {Rule::name, member("name", ".hidden")},
        {Rule::name, member("name", std::string(65, 'a'))},
        {Rule::name, member("name", std::string("a\0b", 3))},
        {Rule::name, member("name", "na\u00efve")},
        {Rule::device_size, member("device_lbas", 0)},
        {Rule::units, member("data_unit", 256)},
        {Rule::units, member("data_unit", 8192)},
        {Rule::units, member("data_unit", 1536)},
        {Rule::units, member("logical_block", 512)},
        {Rule::units, member("logical_block", 0)},
        {Rule::units, member("logical_block", 6144)},
        {Rule::volume_size, member("size", 0)},
        {Rule::volume_size, member("size", 20481)},
        {Rule::volume_size, member("size", 20476)},
        {Rule::volume_offset, member("offset", 20481)},
        {Rule::volume_offset, edited([](json& j) {
             j["offset"] = 8;
             j["size"] = 20472;
         })},
        {Rule::header_place, member("header_lba", 1025)},
        {Rule::header_place, member("header_lba", 20480 - 504)},
        {Rule::header_place, edited([](json& j) {
             j["place"] = "detached";
             j["journal"]["size"] = 896 * 1024;
         })},
        {Rule::endpoint, member("endpoint", "sometimes")},
        {Rule::key_count, member("keys", json::array())},
        {Rule::key_count, forged([](Forgery& f) {
             f.edit([](json& j) { j["keys"] = many_keys(); });
             f.put32(12, 16384);
             f.size = 16384;
         })},
        {Rule::key_id, key_member("id", "")},
        {Rule::key_id, key_member("id", "a\nb")},
        {Rule::key_id, key_member("id", "a\x7f"
                                        "b")},
        {Rule::key_id, key_member("id", std::string(65, 'k'))},
        {Rule::key_duplicate, key_member("id", "key-two")},
        {Rule::key_provider, key_member("provider", "")},
        {Rule::key_provider, key_member("provider", "two words")},
        {Rule::key_bits, key_member("bits", 128)},
        {Rule::range_empty, mapped(0, 8, 0, 8)},
        {Rule::range_outside, mapped(1, 8, 9224, 8)},
        {Rule::range_outside, mapped(1, 8, ~0ull, 8)}, // first + count overflows
        {Rule::range_outside, mapped(1, 0, ~0ull, 8)},
        {Rule::range_order, mapped(1, 0, 10232, 8)},
        {Rule::range_order, mapped(1, 0, 0, 8)},
        {Rule::range_alignment, mapped(0, 0, 1537, 8)},
        {Rule::range_alignment, mapped(0, 8, 8703, 8)},
        {Rule::range_header, mapped(0, 0, 1528, 8)},
        {Rule::range_header, mapped(0, 0, 1024, 8)},
        {Rule::range_header, mapped(0, 0, 512, 8)}, // around it
        {Rule::range_key, mapped(0, 16, 2, 2)},
        {Rule::rekey, forged([](Forgery& f) {
             f.put32(12, 8192);
             f.size = 8192;
             flagged(f, {{"x", std::string(4096, 'x')}});
         })},
        {Rule::features, forged([](Forgery& f) { f.put32(16, volume::feature_rekey); })},
        {Rule::features, member("rekey", json::object())},
    };
    return made;
}

Make framed(const std::function<void(Bytes&)>& change, bool seal) {
    return [change, seal] {
        Bytes file = volume::encode_backup(volume::decode(good_copy()).value());
        change(file);
        if (seal) {
            const auto digest =
                volume::sha256({file.data(), 32}, {file.data() + 64, file.size() - 64});
            std::copy(digest.begin(), digest.end(), file.begin() + 32);
        }
        return file;
    };
}

const std::multimap<Rule, Make>& frames() {
    static const std::multimap<Rule, Make> made{
        {Rule::backup_magic, framed([](Bytes& f) { f[0] ^= 1; }, true)},
        {Rule::backup_version, framed([](Bytes& f) { f[8] = 2; }, true)},
        {Rule::backup_size, framed([](Bytes& f) { f.resize(63); }, false)},
        {Rule::backup_size, framed([](Bytes& f) { f.resize(0); }, false)},
        {Rule::backup_size, framed([](Bytes& f) { f.pop_back(); }, false)},
        {Rule::backup_size, framed([](Bytes& f) { f.push_back(0); }, false)},
        {Rule::backup_size, framed(
                                [](Bytes& f) {
                                    f.resize(64 + 8192);
                                    f[13] = 0x20;
                                },
                                true)},
        {Rule::backup_reserved, framed([](Bytes& f) { f[16] = 1; }, true)},
        {Rule::backup_digest, framed([](Bytes& f) { f[100] ^= 1; }, false)},
        {Rule::backup_digest, framed([](Bytes& f) { f[16] ^= 1; }, false)},
        {Rule::magic, framed([](Bytes& f) { f[64] ^= 1; }, true)},
        {Rule::digest, framed([](Bytes& f) { f[64 + 600] ^= 1; }, true)},
    };
    return made;
}

void all_refused(const std::multimap<Rule, Make>& generators,
                 Result<volume::Copy> (*parse)(volume::Bytes)) {
    std::map<Rule, int> count;
    for (const auto& [rule, make] : generators) {
        const Bytes bytes = make();
        INFO(volume::rule_name(rule) << ", generator " << count[rule]++);
        const auto parsed = parse(bytes);
        REQUIRE_FALSE(parsed.has_value());
        CHECK(rule_of(parsed.error().reason) == volume::rule_name(rule));
        CHECK(parsed.error().reason.back() != '.');
    }
}

} // namespace

TEST_CASE("every rule about a copy's structure refuses what breaks it") {
    all_refused(structure(), volume::decode);
}

TEST_CASE("every rule about the JSON text refuses what breaks it") {
    all_refused(text(), volume::decode);
}

TEST_CASE("every rule about what a header says refuses what breaks it") {
    all_refused(meaning(), volume::decode);
}

TEST_CASE("every rule about a backup's frame refuses what breaks it") {
    all_refused(frames(), volume::decode_backup);
}

TEST_CASE("every rule has a generator") {
    for (int i = 0; i < static_cast<int>(Rule::count_); ++i) {
        const Rule rule = static_cast<Rule>(i);
        INFO(volume::rule_name(rule));
        if (rule != Rule::range_count) // a copy's map_count is refused before; see header_test
            CHECK(structure().count(rule) + text().count(rule) + meaning().count(rule) +
                      frames().count(rule) >
                  0);
    }
}

TEST_CASE("the codes say absent, too new or contradictory") {
    const auto code = [](const Make& make) { return volume::decode(make()).error().code; };
    CHECK(code([] { return Bytes(4096); }) == Errc::not_found);
    CHECK(code(forged([](Forgery& f) { f.put32(8, 2); })) == Errc::unsupported);
    CHECK(code(forged([](Forgery& f) { f.put32(16, 2); })) == Errc::unsupported);
    CHECK(code(member("name", "")) == Errc::corrupt);
    CHECK(code(mapped(0, 8, 0, 8)) == Errc::corrupt);
    CHECK(volume::decode_backup(framed([](Bytes& f) { f[64] ^= 1; }, true)()).error().code ==
          Errc::corrupt);
}

TEST_CASE("an unknown read-only-compatible feature lets its members pass, and only then") {
    const auto make = [](std::uint32_t flags) {
        return forged([flags](Forgery& f) {
            f.put32(20, flags);
            f.edit([](json& j) { j["novelty"] = {{"a", 1}}; });
        })();
    };
    const auto header = volume::decode(make(1));
    REQUIRE(header.has_value());
    CHECK_FALSE(volume::writable(header->header));
    CHECK_FALSE(volume::decode(make(0)).has_value());
}

TEST_CASE("any single bit changed is noticed") {
    const Bytes copy = good_copy();
    for (std::size_t bit = 0; bit < copy.size() * 8; bit += 7) {
        Bytes changed = copy;
        changed[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
        INFO(bit);
        CHECK_FALSE(volume::decode(changed).has_value());
    }
}

TEST_CASE("any prefix is refused") {
    const Bytes copy = good_copy();
    for (std::size_t size = 0; size < copy.size(); size += 61)
        CHECK_FALSE(volume::decode({copy.data(), size}).has_value());
}
