// SPDX-License-Identifier: Apache-2.0
// One generator for each rejection rule: a valid block with that rule broken and nothing else,
// sealed again. The rules are those of docs/protocol.md, "Order of checks".
#include <catch2/catch.hpp>

#include <functional>

#include <sys/mman.h>
#include <unistd.h>

#include "sample.h"

using sample::Block;
using sample::Parts;

namespace {

constexpr std::size_t blob_at = DEK_BODY_FIRST; // where the builder puts it
constexpr std::uint64_t top = ~std::uint64_t{0};

dek_status verdict(const Block& block) {
    dek_command command;
    return dek_block_decode(block.data(), &command);
}

struct Rule {
    const char* name;
    dek_status status;
    std::function<void(Block&)> breaks;
};

std::uint32_t get32(const Block& b, std::size_t at) {
    return dek_get_le32(&b[at]);
}

auto set8(std::size_t at, int value) {
    return [=](Block& b) { b[at] = static_cast<std::uint8_t>(value); };
}
auto set32(std::size_t at, std::uint32_t value) {
    return [=](Block& b) { dek_put_le32(&b[at], value); };
}
auto set64(std::size_t at, std::uint64_t value) {
    return [=](Block& b) { dek_put_le64(&b[at], value); };
}
// Byte `at` of what the offset at `offset` points to.
auto set_in(std::size_t offset, std::size_t at, int value) {
    return [=](Block& b) { b[get32(b, offset) + at] = static_cast<std::uint8_t>(value); };
}
auto set_in32(std::size_t offset, std::size_t at, std::uint32_t value) {
    return [=](Block& b) { dek_put_le32(&b[get32(b, offset) + at], value); };
}

// Moves the part that the offset at `field` points to into the free end of the block, so that no
// other part follows it: a length too great is then nothing but that.
Block isolated(const Parts& parts, std::size_t field, std::uint32_t size) {
    Block block = sample::association(parts);
    memcpy(&block[1000], &block[get32(block, field)], size);
    dek_put_le32(&block[field], 1000);
    dek_block_seal(block.data());
    return block;
}

// Every rule starts from `valid`, which must decode; sealed again after it was broken.
void check(const Block& valid, const std::vector<Rule>& rules) {
    REQUIRE(verdict(valid) == DEK_OK);
    for (const Rule& rule : rules) {
        INFO(rule.name);
        Block block = valid;
        rule.breaks(block);
        dek_block_seal(block.data());
        CHECK(block != valid);
        CHECK(verdict(block) == rule.status);
    }
}

void check_both(const Parts& parts, const std::vector<Rule>& rules) {
    check(sample::association(parts), rules);
    check(sample::association(parts, DEK_OP_UPDATE), rules);
}

void check_map(const char* name, const Parts& valid, const std::vector<dek_range>& map) {
    INFO(name);
    Parts broken = valid;
    broken.map = map;
    CHECK(verdict(sample::association(valid)) == DEK_OK);
    CHECK(verdict(sample::association(broken)) == DEK_INVALID_RANGE);
    CHECK(verdict(sample::association(broken, DEK_OP_UPDATE)) == DEK_INVALID_RANGE);
}

} // namespace

TEST_CASE("a block of another protocol is refused", "[reject]") {
    for (std::size_t i = 0; i < 8; i++)
        check(sample::query(), {{"signature", DEK_BAD_SIGNATURE, set8(i, 0)}});
}

TEST_CASE("a block that changed on its way is refused", "[reject]") {
    for (const Block& valid : sample::all()) {
        for (std::size_t at : {8u, 11u, 12u, 15u, 16u, 20u, 1000u, 1535u}) {
            Block block = valid;
            block[at] ^= 0x40;
            CHECK(verdict(block) == DEK_BAD_CHECKSUM);
        }
    }
}

TEST_CASE("a version that is not spoken is refused", "[reject]") {
    for (const Block& valid : sample::all())
        check(valid, {{"version 0", DEK_BAD_VERSION, set32(16, 0)}});
    for (const Block& valid :
         {sample::query(), sample::disassociate(), sample::association(sample::parts(1))})
        check(valid, {{"version 2", DEK_BAD_VERSION, set32(16, 2)}});
}

TEST_CASE("a Handshake may ask for a newer version", "[reject]") {
    Block block = sample::handshake();
    dek_put_le32(&block[16], 7);
    dek_block_seal(block.data());
    CHECK(verdict(block) == DEK_OK);
}

TEST_CASE("an opcode that does not exist is refused", "[reject]") {
    for (std::uint32_t opcode : {0u, 6u, 256u, ~0u})
        check(sample::query(), {{"opcode", DEK_BAD_OPCODE, set32(24, opcode)}});
}

TEST_CASE("a class name without an end is refused", "[reject]") {
    check(sample::handshake(),
          {{"class name", DEK_MALFORMED, [](Block& b) { memset(&b[48], 'E', 256); }}});
    Block longest = sample::handshake(std::string(255, 'E').c_str());
    CHECK(verdict(longest) == DEK_OK);
}

TEST_CASE("a Query map that is no map is refused", "[reject]") {
    check(sample::query(), {
                               {"count 0", DEK_MALFORMED, set32(72, 0)},
                               {"count 61", DEK_MALFORMED, set32(72, 61)},
                               {"count 2^32 - 1", DEK_MALFORMED, set32(72, ~0u)},
                               {"empty range", DEK_INVALID_RANGE, set64(84, 0)},
                               {"empty last range", DEK_INVALID_RANGE, set64(116, 0)},
                               {"overflow", DEK_INVALID_RANGE, set64(116, top)},
                               {"ends at 2^64", DEK_INVALID_RANGE, set64(116, top - 99)},
                               {"unsorted", DEK_INVALID_RANGE, set64(76, 200)},
                               {"overlapping", DEK_INVALID_RANGE, set64(84, 2)},
                           });
    CHECK(verdict(sample::query({{100, top - 100}})) == DEK_OK);
}

TEST_CASE("offsets that lead out of the body are refused", "[reject]") {
    // The only part that may be missing is the blob, and its offset is 0 then.
    std::vector<Rule> rules{{"blob at 1", DEK_MALFORMED, set32(56, 1)}};
    for (std::size_t field : {56u, 60u, 64u, 68u}) {
        rules.push_back({"offset 71", DEK_MALFORMED, set32(field, 71)});
        rules.push_back({"offset 1535", DEK_MALFORMED, set32(field, 1535)});
        rules.push_back({"offset 1536", DEK_MALFORMED, set32(field, 1536)});
        rules.push_back({"offset 2^32 - 1", DEK_MALFORMED, set32(field, ~0u)});
        if (field != 56)
            rules.push_back({"offset 0", DEK_MALFORMED, set32(field, 0)});
    }
    check_both(sample::parts(DEK_BLOB_UNWRAPPED), rules);
}

TEST_CASE("parts that run out of the block are refused", "[reject]") {
    // Each is moved whole, so that only its place is wrong: it ends one byte behind the block.
    auto move = [](std::size_t field, std::uint32_t size) {
        return [=](Block& b) {
            std::uint32_t to = DEK_BLOCK_SIZE - size + 1;
            memmove(&b[to], &b[get32(b, field)], size - 1);
            dek_put_le32(&b[field], to);
        };
    };
    check_both(sample::parts(DEK_BLOB_UNWRAPPED),
               {{"blob", DEK_MALFORMED, move(56, 77)},
                {"key ID", DEK_MALFORMED, move(60, 14)},
                {"application info", DEK_MALFORMED, move(64, 32)},
                {"map", DEK_MALFORMED, move(68, 52)}});
    check_both(sample::parts(DEK_BLOB_WRAPPED), {{"wrapped blob", DEK_MALFORMED, move(56, 109)}});
}

TEST_CASE("parts that overlap one another are refused", "[reject]") {
    // Everything that the parts say is the same number, so that each could be read where another
    // is.
    struct Part {
        std::size_t field;
        std::uint32_t size;
    };
    const std::vector<Part> parts{{56, 77}, {60, 14}, {64, 32}, {68, 52}};
    for (const Part& moved : parts) {
        for (const Part& onto : parts) {
            if (moved.field == onto.field)
                continue;
            Block block = sample::association(sample::parts(DEK_BLOB_UNWRAPPED));
            std::uint32_t place[2] = {900, 900 + onto.size - 1};
            memcpy(&block[place[0]], &block[get32(block, onto.field)], onto.size);
            memcpy(&block[place[1]], &block[get32(block, moved.field)], moved.size);
            dek_put_le32(&block[onto.field], place[0]);
            dek_put_le32(&block[moved.field], place[1]);
            dek_block_seal(block.data());
            INFO("the part at " << moved.field << " begins on the last byte of the one at "
                                << onto.field);
            CHECK(verdict(block) == DEK_MALFORMED);
        }
    }
}

TEST_CASE("lengths that contradict each other are refused", "[reject]") {
    const Parts bare = sample::parts(DEK_BLOB_UNWRAPPED);
    check(isolated(bare, 56, 77),
          {{"blob length 72", DEK_MALFORMED, set_in32(56, 0, 72)},
           {"blob length 74", DEK_MALFORMED, set_in32(56, 0, 74)},
           {"blob length 102", DEK_MALFORMED, set_in32(56, 0, 102)},
           {"blob length 2^32 - 1", DEK_MALFORMED, set_in32(56, 0, ~0u)},
           {"application info size 31", DEK_MALFORMED, set_in(56, 76, 31)},
           {"application info size 33", DEK_MALFORMED, set_in(56, 76, 33)}});
    check(isolated(bare, 60, 14),
          {{"key ID length 0", DEK_MALFORMED, set_in32(60, 0, 0)},
           {"key ID length 65", DEK_MALFORMED, set_in32(60, 0, 65)},
           {"key ID length 2^32 - 1", DEK_MALFORMED, set_in32(60, 0, ~0u)}});
    check_both(bare, {{"map count 0", DEK_MALFORMED, set_in32(68, 0, 0)},
                      {"map count 61", DEK_MALFORMED, set_in32(68, 0, 61)},
                      {"map count 2^28", DEK_MALFORMED, set_in32(68, 0, 1u << 28)},
                      {"map count 2^32 - 1", DEK_MALFORMED, set_in32(68, 0, ~0u)}});
    check(isolated(sample::parts(DEK_BLOB_KEYRING), 56, 77),
          {{"blob length 72", DEK_MALFORMED, set_in32(56, 0, 72)},
           {"blob length 102", DEK_MALFORMED, set_in32(56, 0, 102)}});
    check(isolated(sample::parts(DEK_BLOB_WRAPPED), 56, 109),
          {{"too short for a wrapping", DEK_MALFORMED, set_in32(56, 0, 101)},
           {"too long for the KEK name", DEK_MALFORMED, set_in32(56, 0, 106)},
           {"KEK name longer than the blob", DEK_MALFORMED, set_in(56, 105, 4)},
           {"KEK name shorter than the blob", DEK_MALFORMED, set_in(56, 105, 2)}});
}

TEST_CASE("a length is wrong before a type is unknown", "[reject]") {
    for (std::uint32_t length : {0u, 72u, 0xfffffffcu, 0xffffffffu}) {
        Block block = isolated(sample::parts(DEK_BLOB_UNWRAPPED), 56, 77);
        set_in(56, 4, 9)(block);
        dek_block_seal(block.data());
        CHECK(verdict(block) == DEK_INVALID_KEY);
        set_in32(56, 0, length)(block);
        dek_block_seal(block.data());
        CHECK(verdict(block) == DEK_MALFORMED);
    }
}

TEST_CASE("nothing behind the block is read", "[reject]") {
    // The block ends where a page ends, and the next page cannot be read.
    const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    void* pages =
        mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(pages != MAP_FAILED);
    REQUIRE(mprotect(static_cast<char*>(pages) + page, page, PROT_NONE) == 0);
    auto* block = static_cast<std::uint8_t*>(pages) + page - DEK_BLOCK_SIZE;
    for (std::uint8_t type : {DEK_BLOB_UNWRAPPED, DEK_BLOB_WRAPPED, DEK_BLOB_KEYRING}) {
        // A blob of the least length as the last thing there is, and every offset near the end.
        Block valid = sample::association(sample::parts(type));
        memcpy(&valid[DEK_BLOCK_SIZE - 77], &valid[blob_at], 77);
        dek_put_le32(&valid[DEK_BLOCK_SIZE - 77], 73);
        dek_put_le32(&valid[56], DEK_BLOCK_SIZE - 77);
        for (std::size_t field : {0u, 56u, 60u, 64u, 68u}) {
            for (std::uint32_t offset = DEK_BLOCK_SIZE - 120; offset <= DEK_BLOCK_SIZE + 8;
                 offset++) {
                memcpy(block, valid.data(), DEK_BLOCK_SIZE);
                if (field)
                    dek_put_le32(block + field, offset);
                dek_block_seal(block);
                dek_command command;
                dek_status status = dek_block_decode(block, &command);
                CHECK((status == DEK_OK || status == DEK_MALFORMED || status == DEK_INVALID_RANGE ||
                       status == DEK_INVALID_KEY));
            }
        }
    }
    munmap(pages, 2 * page);
}

TEST_CASE("key blobs that no endpoint could use are refused", "[reject]") {
    for (std::uint8_t type : {DEK_BLOB_UNWRAPPED, DEK_BLOB_WRAPPED, DEK_BLOB_KEYRING})
        check_both(sample::parts(type), {{"version 0", DEK_INVALID_KEY, set_in(56, 8, 0)},
                                         {"version 2", DEK_INVALID_KEY, set_in(56, 8, 2)},
                                         {"algorithm", DEK_INVALID_KEY, set_in(56, 10, 2)},
                                         {"mode", DEK_INVALID_KEY, set_in(56, 11, 0)},
                                         {"key length 0", DEK_INVALID_KEY, set_in(56, 9, 0)},
                                         {"key length 65", DEK_INVALID_KEY, set_in(56, 9, 65)}});
    check_both(sample::parts(DEK_BLOB_UNWRAPPED),
               {{"type 0", DEK_INVALID_KEY, set_in(56, 4, 0)},
                {"type 4", DEK_INVALID_KEY, set_in(56, 4, 4)},
                {"type 255", DEK_INVALID_KEY, set_in(56, 4, 255)}});
    for (std::uint8_t type : {DEK_BLOB_UNWRAPPED, DEK_BLOB_WRAPPED})
        check_both(sample::parts(type), {{"key length 48", DEK_INVALID_KEY, set_in(56, 9, 48)},
                                         {"key length 16", DEK_INVALID_KEY, set_in(56, 9, 16)}});
}

TEST_CASE("bare keys that XTS forbids are refused", "[reject]") {
    auto copy = [](std::size_t to, std::size_t from, std::size_t n) {
        return [=](Block& b) { memcpy(&b[blob_at + 12 + to], &b[blob_at + 12 + from], n); };
    };
    auto clear = [](std::size_t from, std::size_t n) {
        return [=](Block& b) { memset(&b[blob_at + 12 + from], 0, n); };
    };
    check_both(sample::parts(DEK_BLOB_UNWRAPPED),
               {{"equal halves", DEK_INVALID_KEY, copy(32, 0, 32)},
                {"all zero", DEK_INVALID_KEY, clear(0, 64)},
                {"empty second half", DEK_INVALID_KEY, clear(32, 32)},
                {"more key than the length says", DEK_INVALID_KEY, set_in(56, 9, 32)}});
    Parts aes128 = sample::parts(DEK_BLOB_UNWRAPPED);
    aes128.key_length = 32;
    std::fill(aes128.key_data.begin() + 32, aes128.key_data.end(), 0);
    check_both(aes128, {{"equal halves", DEK_INVALID_KEY, copy(16, 0, 16)},
                        {"padding begins with a bit", DEK_INVALID_KEY, set_in(56, 12 + 32, 1)},
                        {"padding ends with a bit", DEK_INVALID_KEY, set_in(56, 12 + 63, 0x80)},
                        {"length changed to 64", DEK_INVALID_KEY, set_in(56, 9, 64)}});
}

TEST_CASE("names that are no text are refused", "[reject]") {
    check_both(sample::parts(DEK_BLOB_KEYRING),
               {{"NUL in a keyring name", DEK_INVALID_KEY, set_in(56, 12 + 2, 0)},
                {"newline in a keyring name", DEK_INVALID_KEY, set_in(56, 12, '\n')},
                {"DEL in a keyring name", DEK_INVALID_KEY, set_in(56, 12 + 6, 0x7f)},
                {"more name than the length says", DEK_INVALID_KEY, set_in(56, 12 + 7, 'x')},
                {"a bit in the last byte", DEK_INVALID_KEY, set_in(56, 12 + 63, 1)}});
    check_both(sample::parts(DEK_BLOB_WRAPPED),
               {{"NUL in a KEK name", DEK_INVALID_KEY, set_in(56, 106 + 2, 0)},
                {"0xff in a KEK name", DEK_INVALID_KEY, set_in(56, 106, 0xff)}});
    Parts nameless = sample::parts(DEK_BLOB_WRAPPED);
    nameless.kek_name.clear();
    CHECK(verdict(sample::association(nameless)) == DEK_INVALID_KEY);
    nameless = sample::parts(DEK_BLOB_KEYRING);
    nameless.key_data.fill(0);
    nameless.key_length = 0;
    CHECK(verdict(sample::association(nameless)) == DEK_INVALID_KEY);
}

TEST_CASE("geometries that make no sense are refused", "[reject]") {
    Parts plain = sample::parts(DEK_BLOB_UNWRAPPED), striped = plain;
    striped.geometry.chunk = 128;
    striped.geometry.stripes = 3;
    striped.geometry.leg = 2;
    std::vector<Rule> rules{{"tweak rule 2", DEK_MALFORMED, set_in(64, 4, 2)},
                            {"zero 1", DEK_MALFORMED, set_in(64, 5, 1)},
                            {"zero 2", DEK_MALFORMED, set_in(64, 6, 1)},
                            {"zero 3", DEK_MALFORMED, set_in(64, 7, 1)}};
    for (std::uint32_t unit : {0u, 1u, 256u, 768u, 3072u, 8192u, 1u << 31})
        rules.push_back({"data unit", DEK_MALFORMED, set_in32(64, 0, unit)});
    check_both(plain, rules);
    check_both(striped, rules);
    check_both(plain, {{"stripes without a chunk", DEK_MALFORMED, set_in(64, 28, 1)},
                       {"a leg without a chunk", DEK_MALFORMED, set_in(64, 30, 1)},
                       {"a chunk without stripes", DEK_MALFORMED, set_in(64, 24, 8)}});
    check_both(striped, {{"leg = stripes", DEK_MALFORMED, set_in(64, 30, 3)},
                         {"stripes 0", DEK_MALFORMED, set_in(64, 28, 0)},
                         {"chunk 0", DEK_MALFORMED, set_in(64, 24, 0)}});
}

TEST_CASE("an Associate map that is no map is refused", "[reject]") {
    Parts valid = sample::parts(DEK_BLOB_UNWRAPPED);
    check_map("empty range", valid, {{2048, 8}, {4096, 0}});
    check_map("overflow", valid, {{4096, top - 7}});
    check_map("ends at 2^64", valid, {{4096, top - 4095}});
    check_map("unsorted", valid, {{4096, 8}, {2048, 8}});
    check_map("overlapping", valid, {{2048, 16}, {2056, 16}});
    check_map("the same twice", valid, {{2048, 16}, {2048, 16}});
    check_map("first not aligned to the unit", valid, {{2049, 8}});
    check_map("count not aligned to the unit", valid, {{2048, 8}, {4096, 9}});
}

TEST_CASE("LBAs that cannot be numbered are refused", "[reject]") {
    Parts plain = sample::parts(DEK_BLOB_UNWRAPPED);
    check_map("before the device origin", plain, {{2040, 8}, {4096, 8}});
    plain.geometry.logical_origin = top - 1024;
    plain.map = {{2048, 1024}};
    check_map("logical LBAs pass 2^64", plain, {{2048, 1032}});

    Parts striped = sample::parts(DEK_BLOB_UNWRAPPED);
    striped.geometry.chunk = 1024;
    striped.geometry.stripes = 4;
    striped.geometry.leg = 1;
    striped.geometry.device_origin = 0;
    striped.map = {{0, (std::uint64_t{1} << 62) - 2048}};
    check_map("striped LBAs pass 2^64", striped, {{0, std::uint64_t{1} << 62}});
    check_map("and so does the chunk added", striped, {{0, top - 7 - 512}});
    striped.geometry.logical_origin = 4096 - 8;
    check_map("with the logical origin", striped, {{0, (std::uint64_t{1} << 62) - 1024}});
}

TEST_CASE("of several failures the first in order is told", "[reject]") {
    // From the last rule to the first: each time one more is broken, and the answer changes.
    Block block = sample::association(sample::parts(DEK_BLOB_UNWRAPPED));
    const std::vector<Rule> rules{
        {"unaligned range", DEK_INVALID_RANGE, set_in(68, 4, 1)},
        {"tweak rule", DEK_MALFORMED, set_in(64, 4, 9)},
        {"key length", DEK_INVALID_KEY, set_in(56, 9, 3)},
        {"key ID length", DEK_MALFORMED, set_in32(60, 0, 65)},
        {"opcode", DEK_BAD_OPCODE, set32(24, 77)},
        {"version", DEK_BAD_VERSION, set32(16, 9)},
    };
    for (const Rule& rule : rules) {
        INFO(rule.name);
        rule.breaks(block);
        dek_block_seal(block.data());
        CHECK(verdict(block) == rule.status);
    }
    block[1535] ^= 1;
    CHECK(verdict(block) == DEK_BAD_CHECKSUM);
    block[0] ^= 1;
    CHECK(verdict(block) == DEK_BAD_SIGNATURE);
}

TEST_CASE("reserved bytes may hold anything", "[reject]") {
    Block query = sample::query();
    Block handshake = sample::handshake();
    Block associate = sample::association(sample::parts(DEK_BLOB_UNWRAPPED));
    Block disassociate = sample::disassociate();
    auto fill = [](Block& b, std::size_t from, std::size_t to) {
        memset(&b[from], 0xee, to - from);
    };
    fill(query, 20, 24), fill(query, 48, 72), fill(query, 1036, 1536);
    fill(handshake, 304, 512), fill(handshake, 1024, 1152), fill(handshake, 1408, 1536);
    fill(associate, blob_at + 5, blob_at + 8), fill(associate, 300, 1536);
    fill(disassociate, 56, 1536);
    for (Block* block : {&query, &handshake, &associate, &disassociate}) {
        dek_block_seal(block->data());
        CHECK(verdict(*block) == DEK_OK);
    }
}
