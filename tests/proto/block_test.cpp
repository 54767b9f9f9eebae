// SPDX-License-Identifier: Apache-2.0
// Building, answering and looking after blocks.
#include <catch2/catch.hpp>

#include <fstream>

#include <dek/block.hpp>

#include "sample.h"

using dek::CommandBlock;
using sample::Block;

namespace {

std::array<std::uint8_t, 768> noise() {
    std::array<std::uint8_t, 768> random;
    std::mt19937_64 source(10);
    for (auto& byte : random)
        byte = static_cast<std::uint8_t>(source());
    return random;
}

CommandBlock copy_of(const CommandBlock& block) {
    return CommandBlock(block.bytes());
}

struct Association {
    sample::Parts parts = sample::parts(DEK_BLOB_UNWRAPPED);
    dek_blob blob = parts.blob();
    dek::AssociationBody body{.association = 0,
                              .blob = &blob,
                              .key_id = parts.key_id,
                              .geometry = parts.geometry,
                              .map = parts.map};
};

constexpr dek::Address address{sample::endpoint_id, sample::controller_handle};

// AddressSanitizer turns mlock() into nothing.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool mlock_intercepted = true;
#elif defined(__has_feature)
constexpr bool mlock_intercepted = __has_feature(address_sanitizer);
#else
constexpr bool mlock_intercepted = false;
#endif

// From /proc/self/smaps: flags of the mapping that p lies in.
std::string mapping_flags(const void* p) {
    std::ifstream smaps("/proc/self/smaps");
    auto wanted = reinterpret_cast<std::uintptr_t>(p);
    bool here = false;
    for (std::string line; std::getline(smaps, line);) {
        unsigned long first, last;
        if (std::sscanf(line.c_str(), "%lx-%lx ", &first, &last) == 2)
            here = wanted >= first && wanted < last;
        else if (here && line.rfind("VmFlags:", 0) == 0)
            return line + " ";
    }
    return "";
}

} // namespace

TEST_CASE("a handshake goes out, is answered, and is recognised", "[block]") {
    CommandBlock command = CommandBlock::handshake("EHBA", noise(), 99).value();
    CommandBlock response = copy_of(command);
    CHECK_FALSE(dek_handshake_affirmative(command.data(), response.data())); // an echo is no answer
    dek_block_answer_handshake(response.data(), 1234, DEK_PROTO_VERSION);
    REQUIRE(dek_handshake_affirmative(command.data(), response.data()));
    auto answer = response.answer_to(command);
    REQUIRE(answer);
    CHECK(answer->endpoint_id == 1234);
    CHECK(answer->controller_handle == 99);
    CHECK(answer->version == DEK_PROTO_VERSION);
    CHECK(std::string(answer->class_name) == "EHBA");
}

TEST_CASE("a handshake answer that is wrong in one thing is not affirmative", "[block]") {
    CommandBlock command = CommandBlock::handshake("EHBA", noise(), 99).value();
    auto affirmative = [&](std::size_t at, bool seal = true, int bit = 1) {
        CommandBlock response = copy_of(command);
        dek_block_answer_handshake(response.data(), 1234, DEK_PROTO_VERSION);
        response.data()[at] ^= static_cast<std::uint8_t>(bit);
        if (seal)
            dek_block_seal(response.data());
        return dek_handshake_affirmative(command.data(), response.data());
    };
    CHECK_FALSE(affirmative(0));           // signature
    CHECK_FALSE(affirmative(1535, false)); // checksum
    CHECK_FALSE(affirmative(16));          // version 0
    CHECK_FALSE(affirmative(17));          // version above what was asked
    CHECK_FALSE(affirmative(24));          // no opcode
    CHECK_FALSE(affirmative(24, true, 4)); // another opcode, under which the block decodes
    CHECK_FALSE(affirmative(28));          // status
    CHECK_FALSE(affirmative(40));          // controller handle
    CHECK_FALSE(affirmative(512));
    CHECK_FALSE(affirmative(1023));
    CHECK_FALSE(affirmative(1152));
    CHECK_FALSE(affirmative(1407));
    CHECK(affirmative(304)); // reserved
    CHECK(affirmative(1024));
}

TEST_CASE("the endpoint negotiates a newer version down, never up", "[block]") {
    Block block = sample::handshake();
    dek_put_le32(&block[16], 7);
    dek_block_seal(block.data());
    Block response = block;
    dek_block_answer_handshake(response.data(), 1, DEK_PROTO_VERSION);
    CHECK(dek_get_le32(&response[16]) == DEK_PROTO_VERSION);
    CHECK(dek_handshake_affirmative(block.data(), response.data()));
    response = sample::handshake();
    dek_block_answer_handshake(response.data(), 1, DEK_PROTO_VERSION);
    CHECK(dek_get_le32(&response[16]) == DEK_PROTO_VERSION);
}

TEST_CASE("an answer changes status and checksum and nothing else", "[block]") {
    for (const Block& command : sample::all()) {
        Block response = command;
        dek_block_answer(response.data(), DEK_BUSY);
        dek_command got;
        REQUIRE(dek_block_decode(response.data(), &got) == DEK_OK);
        CHECK(got.status == DEK_BUSY);
        for (std::size_t i = 0; i < response.size(); i++)
            if (!(i >= 8 && i < 12) && i != 28)
                REQUIRE(response[i] == command[i]);
    }
}

TEST_CASE("an answer is matched with its command", "[block]") {
    CommandBlock command = CommandBlock::disassociate(address, 5).value();
    CommandBlock answer = copy_of(command);
    dek_block_answer(answer.data(), DEK_OK);
    CHECK(answer.answer_to(command));
    dek_block_answer(answer.data(), DEK_UNKNOWN_HANDLE);
    CHECK(answer.answer_to(command).error() == DEK_UNKNOWN_HANDLE);
    dek_put_le32(answer.data() + 28, 4711); // a status of the future
    dek_block_seal(answer.data());
    CHECK(answer.answer_to(command).error() == DEK_MALFORMED);

    CommandBlock other = CommandBlock::disassociate({sample::endpoint_id, 1}, 5).value();
    CHECK(other.answer_to(command).error() == DEK_MALFORMED);
    CommandBlock query = CommandBlock::query(address, sample::parts(1).map).value();
    CHECK(query.answer_to(command).error() == DEK_MALFORMED);
    answer.data()[100] ^= 1;
    CHECK(answer.answer_to(command).error() == DEK_BAD_CHECKSUM);
    answer.data()[0] ^= 1;
    CHECK(answer.answer_to(command).error() == DEK_BAD_SIGNATURE);
}

TEST_CASE("a refused command's answer tells its status, whatever is in the body", "[block]") {
    CommandBlock command{CommandBlock::Bytes(sample::query())};
    dek_put_le32(command.data() + 72, 0); // no ranges
    dek_block_seal(command.data());
    CommandBlock answer = copy_of(command);
    dek_block_answer(answer.data(), DEK_UNKNOWN_ENDPOINT);
    CHECK(answer.answer_to(command).error() == DEK_UNKNOWN_ENDPOINT);
    dek_block_answer(answer.data(), DEK_OK);
    CHECK(answer.answer_to(command).error() == DEK_MALFORMED);
}

TEST_CASE("what would be refused is not built", "[block]") {
    Association a;
    std::vector<dek_range> many(61, dek_range{0, 8});
    CHECK(CommandBlock::handshake(std::string(256, 'x'), noise(), 0).error() == DEK_MALFORMED);
    CHECK(CommandBlock::handshake(std::string_view("EH\0BA", 5), noise(), 0).error() ==
          DEK_MALFORMED);
    CHECK(CommandBlock::query(address, {}).error() == DEK_MALFORMED);
    CHECK(CommandBlock::query(address, many).error() == DEK_MALFORMED);
    CHECK(CommandBlock::query(address, std::vector<dek_range>{{5, 0}}).error() ==
          DEK_INVALID_RANGE);
    Block block;
    CHECK(dek_block_handshake(block.data(), std::string(256, 'x').c_str(), noise().data()) ==
          DEK_MALFORMED);
    auto refused = [&](auto change) {
        dek::AssociationBody body = a.body;
        change(body);
        return CommandBlock::associate(address, body).error();
    };
    CHECK(refused([](auto& b) { b.map = {}; }) == DEK_MALFORMED);
    CHECK(refused([&](auto& b) { b.map = many; }) == DEK_MALFORMED);
    CHECK(refused([](auto& b) { b.key_id = ""; }) == DEK_MALFORMED);
    CHECK(refused([](auto& b) { b.geometry.data_unit = 100; }) == DEK_MALFORMED);
    std::string long_id(65, 'x');
    CHECK(refused([&](auto& b) { b.key_id = long_id; }) == DEK_MALFORMED);
    a.parts.key_data.fill(0);
    CHECK(CommandBlock::update(address, a.body).error() == DEK_INVALID_KEY);
}

TEST_CASE("sixty ranges fit beside the longest key ID and KEK name", "[block]") {
    sample::Parts p = sample::parts(DEK_BLOB_WRAPPED);
    p.kek_name = std::string(255, 'k');
    p.key_id = std::string(64, 'i');
    p.map.clear();
    for (std::uint64_t i = 0; i < 60; i++)
        p.map.push_back({2048 + 16 * i, 8});
    dek_blob blob = p.blob();
    CHECK(dek_associate_capacity(&blob, 64) == 60);
    CHECK(dek_associate_capacity(nullptr, 1) == 60);
    CHECK(dek_associate_capacity(nullptr, 0) == 0);
    CHECK(dek_associate_capacity(nullptr, 65) == 0);
    Block block = sample::association(p);
    dek_command got;
    REQUIRE(dek_block_decode(block.data(), &got) == DEK_OK);
    CHECK(got.map_count == 60);
}

TEST_CASE("a block's memory is locked, kept out of dumps and forks, and moves without a copy",
          "[block]") {
    Association a;
    CommandBlock block = CommandBlock::associate(address, a.body).value();
    std::string flags = mapping_flags(block.data());
    if (!mlock_intercepted)
        CHECK(flags.find(" lo ") != std::string::npos); // locked
    CHECK(flags.find(" dd ") != std::string::npos);     // not dumped
    CHECK(flags.find(" wf ") != std::string::npos);     // wiped on fork
    const std::uint8_t* place = block.data();
    CommandBlock moved = std::move(block);
    CHECK(moved.data() == place);
    CHECK(block.empty()); // NOLINT(bugprone-use-after-move): that is the promise
    CHECK(moved.decode());
    moved.wipe();
    CHECK(std::all_of(moved.bytes().begin(), moved.bytes().end(), [](int b) { return b == 0; }));
}

TEST_CASE("a block that is let go leaves no mapping behind", "[block]") {
    const void* place;
    {
        CommandBlock block = CommandBlock::disassociate(address, 1).value();
        place = block.data();
        CHECK_FALSE(mapping_flags(place).empty());
    }
    CHECK(mapping_flags(place).empty());
    CommandBlock target;
    place = target.data();
    CommandBlock source;
    const std::uint8_t* kept = source.data();
    target = std::move(source);
    CHECK(target.data() == kept);
    CHECK(mapping_flags(place).find(" lo ") == std::string::npos);
}

TEST_CASE("key checks", "[block]") {
    std::array<std::uint8_t, 64> key = sample::parts(DEK_BLOB_UNWRAPPED).key_data;
    CHECK(dek_key_check(key.data(), 64) == DEK_OK);
    for (int length : {0, 16, 31, 33, 63, 65, 255})
        CHECK(dek_key_check(key.data(), static_cast<std::uint8_t>(length)) == DEK_INVALID_KEY);
    CHECK(dek_key_check(key.data(), 32) == DEK_INVALID_KEY);
    std::fill(key.begin() + 32, key.end(), 0);
    CHECK(dek_key_check(key.data(), 32) == DEK_OK);
    CHECK(dek_key_check(key.data(), 64) == DEK_INVALID_KEY);
}

TEST_CASE("what wrapping binds is spelled out", "[block]") {
    std::array<std::uint8_t, DEK_WRAP_AAD_MAX> aad{};
    const std::vector<std::uint8_t> wanted{2, 'i', 'd', 1, 1, 8, 7, 6, 5, 4, 3, 2, 1};
    std::size_t n =
        dek_wrap_aad(aad.data(), "id", 2, DEK_ALG_AES, DEK_MODE_XTS, 0x0102030405060708);
    CHECK(std::vector<std::uint8_t>(aad.begin(), aad.begin() + static_cast<std::ptrdiff_t>(n)) ==
          wanted);
    CHECK(dek_wrap_aad(aad.data(), std::string(64, 'x').data(), 64, 1, 1, 0) == DEK_WRAP_AAD_MAX);
    CHECK(dek_wrap_aad(aad.data(), "", 0, 1, 1, 0) == 0);
    CHECK(dek_wrap_aad(aad.data(), std::string(65, 'x').data(), 65, 1, 1, 0) == 0);
}

TEST_CASE("every status and opcode has a name of its own", "[block]") {
    std::vector<std::string> names;
    for (std::uint32_t status = 0; status < DEK_STATUS_COUNT; status++)
        names.push_back(dek_status_text(status));
    for (std::uint32_t opcode = 1; opcode <= 5; opcode++)
        names.push_back(dek_opcode_text(opcode));
    std::sort(names.begin(), names.end());
    CHECK(std::unique(names.begin(), names.end()) == names.end());
    CHECK(names.size() == 21);
    CHECK(std::string(dek_status_text(DEK_INVALID_RANGE)) == "Invalid Range");
    CHECK(std::string(dek_status_text(16)) == "Unknown Status");
    CHECK(std::string(dek_opcode_text(0)) == "Unknown Opcode");
    CHECK(std::string(dek_opcode_text(6)) == "Unknown Opcode");
}
