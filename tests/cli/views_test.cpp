// SPDX-License-Identifier: Apache-2.0
// Every view of dekctl against answers that were damaged at random: it neither crashes nor lets a
// control character through. And the bar of topology, LBA for LBA.
#include <functional>
#include <random>
#include <sstream>
#include <vector>

#include <catch2/catch.hpp>

#include "dekctl/block_view.h"
#include "dekctl/header_view.h"
#include "dekctl/key_view.h"
#include "dekctl/printable.h"
#include "dekctl/process_view.h"
#include "dekctl/topology_view.h"
#include "dekctl/volume_view.h"

namespace {

using namespace dek::ctl;

const char* const whole = R"({
 "name": "secure", "uuid": "u", "device": "/dev/sdb", "node": "/dev/dek/secure", "block_device": "/dev/loop3",
 "place": "in-place", "header_at": 1024, "header": "h", "offset": 0, "size": 20480, "data_unit": 4096,
 "logical_block": 4096, "tweak": "unit", "read_only": true, "cipher": "aes", "state": "up", "reason": "why",
 "sequence": 3, "encrypted_blocks": 17920, "created": 5, "changed": 6, "bits": 512, "wrapped": "a\nb",
 "attributes": {"a": "b"}, "flushed": 3, "slot": 1, "path": "/p", "sealed": true, "time": 4, "event": "fence-hit",
 "volume": "secure", "version": "0.1.0", "status": 4, "status_text": "Invalid Range", "authenticated": false,
 "volumes": [{"name": "a", "size": 4, "encrypted_blocks": 5, "reason": "r", "counters": {"read_bytes": 1, "x": 2},
   "keys": [{"id": "i", "name": "n"}], "associations": [{"handle": 1, "blocks": 8}]}],
 "keys": [{"id": "i", "name": "n", "created": 1}], "slots": [{"slot": 0, "kind": "file", "created": 2}],
 "cache": {"keys": 1, "lifetime": 2}, "copies": {"a": "valid", "b": "torn"}, "erased": [1024, "/h"],
 "keys_destroyed": ["k"], "shim": {"kind": "fuse", "up": true, "takeover": true}, "keystore": {"present": true},
 "daemon": {"version": "v", "since": 7}, "endpoints": [{"uuid": "u", "map_generation": 0, "fence": "eio"}],
 "command": {"opcode": 3, "opcode_text": "Associate", "map": [{"first": 1, "last": 2}], "hex": "00ff"},
 "response": {"opcode": 3, "in": {"b": 1}, "hex": "00ff"},
 "layers": [{"kind": "dek", "node": "n", "encrypts": true, "why": "w", "depth": 0},
   {"kind": "linear", "node": "m", "depth": 1, "role": "in-the-way", "path": "failed", "engine": "cpu", "why": "w"},
   {"kind": "device", "node": "d", "depth": 2}],
 "encryptor": "endpoints", "encryptor_why": "because",
 "ranges": [{"first": 0, "last": 99, "state": "keyed", "by": "e"}, {"first": 100, "last": 199, "state": "plain"}]})";

std::vector<std::function<void(std::ostream&, const Json&)>> views() {
    return {print_volume_line,
            print_status,
            print_volumes,
            print_erased,
            print_key_line,
            print_keys,
            print_key,
            print_wrapped,
            print_keystore,
            print_slot,
            print_restored,
            print_flushed,
            print_header,
            print_header_copy,
            print_endpoints,
            print_event,
            print_version,
            print_topology_dot,
            [](auto& out, auto& answer) { print_exchange(out, answer, true); },
            [](auto& out, auto& answer) {
                print_topology(out, answer, {80, false});
            }};
}

void collect(Json& value, std::vector<Json*>& all) {
    all.push_back(&value);
    if (value.is_structured())
        for (Json& member : value)
            collect(member, all);
}

// One value somewhere inside becomes something else, or goes.
void damage(Json& answer, std::mt19937& random) {
    static const std::vector<Json> wrong{
        nullptr,
        true,
        -1,
        UINT64_MAX,
        INT64_MIN,
        1e308,
        "",
        "\x1b[2J\x07\u009b\u202e\n\\\"<&>",
        Json::array(),
        Json::object(),
        Json::array({Json::array({1}), nullptr, "\x1b"}),
        Json{{"\x1b]0;x\x07", "\x1b"}, {"first", UINT64_MAX}, {"last", 0}}};
    std::vector<Json*> all;
    collect(answer, all);
    *all[1 + random() % (all.size() - 1)] = wrong[random() % wrong.size()];
}

bool clean(const std::string& text) {
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto byte = static_cast<unsigned char>(text[i]);
        const auto next = i + 1 < text.size() ? static_cast<unsigned char>(text[i + 1]) : 0;
        if ((byte < 0x20 && byte != '\n') || byte == 0x7f || (byte == 0xc2 && next < 0xa0))
            return false;
    }
    return text.find("\u202e") == std::string::npos;
}

// Which LBAs a mark stands for is known, so the mark that must be there is, too.
char expected_mark(const std::vector<Drawn>& ranges, std::uint64_t first, std::uint64_t last) {
    for (const char mark : std::string("!~.r#"))
        for (const Drawn& range : ranges)
            if (range.look->mark == mark && range.first <= last && first <= range.last)
                return mark;
    return '?';
}

} // namespace

TEST_CASE("no damaged answer crashes a view or puts a control character on the terminal") {
    std::mt19937 random(20261121);
    for (int round = 0; round < 3000; ++round) {
        Json answer = Json::parse(whole);
        for (unsigned n = 1 + random() % 4; n > 0; --n)
            damage(answer, random);
        for (const auto& view : views()) {
            std::ostringstream out;
            view(out, answer);
            if (!clean(out.str()))
                FAIL(answer.dump() << " gives " << out.str());
        }
    }
}

TEST_CASE("the same answer unharmed is shown by every view") {
    for (const auto& view : views()) {
        std::ostringstream out;
        view(out, Json::parse(whole));
        CHECK(out.str().size() > 3);
    }
}

TEST_CASE(
    "each character of the bar stands for its LBAs, and the state that matters most is drawn") {
    std::mt19937_64 random(7);
    const char* const states[] = {"plain", "keyed", "fenced", "yielded", "reserved"};
    for (int round = 0; round < 500; ++round) {
        std::vector<Drawn> ranges;
        std::uint64_t at = 0;
        for (unsigned n = 1 + random() % 20; n > 0; --n) {
            const std::uint64_t count = 1 + random() % (round % 2 ? 50 : std::uint64_t{1} << 40);
            if (random() % 8 != 0)
                ranges.push_back({at, at + count - 1, &look_of(states[random() % 5])});
            at += count;
        }
        const std::size_t width = 1 + random() % 100;
        const Bar bar = bar_of(ranges, width);
        CHECK(bar.marks.size() <= width);
        CHECK(bar.marks.empty() == ranges.empty());
        for (std::size_t i = 0; i < bar.marks.size(); ++i) {
            const std::uint64_t first = i * bar.lbas_per_mark;
            REQUIRE(bar.marks[i] == expected_mark(ranges, first, first + bar.lbas_per_mark - 1));
        }
    }
}

TEST_CASE("the bar reaches the last LBA there can be") {
    const Bar bar = bar_of({{0, UINT64_MAX, &look_of("keyed")}}, 80);
    CHECK(bar.marks.size() <= 80);
    CHECK(bar.marks == std::string(bar.marks.size(), '#'));
}

TEST_CASE("printable text is UTF-8 without control characters, and harmless text stays as it is") {
    CHECK(printable("plain näïve 数 text") == "plain näïve 数 text");
    CHECK(printable("a\x1b[1mb") == "a\\x1b[1mb");
    CHECK(printable("\xff\xc3") == "\\xff\\xc3");
    CHECK(printable("\xc0\xaf") == "\\xc0\\xaf");          // overlong
    CHECK(printable("\xed\xa0\x80") == "\\xed\\xa0\\x80"); // a surrogate
    CHECK(printable("\u009b") == "\\u{009b}");
    CHECK_FALSE(valid_utf8("\xf5\x80\x80\x80"));
    CHECK(valid_utf8("\U0001f512"));
    CHECK(size_of_lbas(2048) == "1.0 MiB");
    CHECK(size_of_lbas(1) == "512 B");
    CHECK(size_of_lbas(UINT64_MAX) == "18446744073709551615 LBAs");
}

TEST_CASE("an answer that is no object, or too deep, is refused") {
    CHECK_FALSE(parse_answer("[]"));
    CHECK_FALSE(parse_answer("{\"a\":" + std::string(40, '[') + std::string(40, ']') + "}"));
    CHECK(parse_answer("{\"a\":" + std::string(20, '[') + std::string(20, ']') + "}"));
    CHECK_FALSE(parse_answer("{\"a\": \"\xff\"}"));
}
