// SPDX-License-Identifier: Apache-2.0
// No byte of a key outlives it. Every mapping of this process is searched for 16-byte pieces of the
// key (which are the first round keys of its schedules), and munmap is watched, so that pages are
// seen to be wiped before they go. The searched-for pieces are kept inverted, so that they are
// never found here.
#include <cstdio>
#include <fstream>
#include <string>

#include <catch2/catch.hpp>
#include <openssl/crypto.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "evp_reference.h"

#ifdef __SANITIZE_ADDRESS__ // AddressSanitizer makes mlock do nothing
constexpr bool locks_work = false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr bool locks_work = false;
#else
constexpr bool locks_work = true;
#endif
#else
constexpr bool locks_work = true;
#endif
#define NOT_INSTRUMENTED __attribute__((no_sanitize("address", "undefined"), noinline))

namespace {

constexpr std::size_t piece_bytes = 16;

// Byte i of the key, inverted. Computed, so that the key is never in the program either.
std::uint8_t inverted_byte(std::size_t i) {
    return static_cast<std::uint8_t>(~((i + 3) * (i + 3) * 0x9d + 0x51));
}

struct Wanted {
    std::uint8_t inverted[64];
    std::size_t bytes = 0;
    bool starts_piece[256]; // by the piece's first byte, not inverted
} wanted;

bool watching = false;
int released_with_key = 0, released = 0;

NOT_INSTRUMENTED bool piece_at(const std::uint8_t* at, std::size_t piece) {
    for (std::size_t i = 0; i < piece_bytes; i++)
        if (static_cast<std::uint8_t>(~at[i]) != wanted.inverted[piece + i])
            return false;
    return true;
}

NOT_INSTRUMENTED int count_pieces(const std::uint8_t* from, std::size_t size) {
    int found = 0;
    for (std::size_t at = 0; at + piece_bytes <= size; at++)
        if (wanted.starts_piece[from[at]])
            for (std::size_t piece = 0; piece < wanted.bytes; piece += piece_bytes)
                found += piece_at(from + at, piece);
    return found;
}

struct Mapping {
    unsigned long from = 0, to = 0;
    bool searched = false;
    bool locked = false, left_out_of_dumps = false;
    int pieces = 0;
};

// Writable memory that a program uses. The sanitizers' shadows are larger than 1 GiB.
bool worth_searching(const Mapping& mapping, const char* rights, const std::string& line) {
    return std::string(rights).starts_with("rw") && mapping.to - mapping.from < (1UL << 30) &&
           line.find("[v") == std::string::npos;
}

std::vector<Mapping> mappings() {
    std::ifstream smaps("/proc/self/smaps");
    std::vector<Mapping> all;
    for (std::string line; std::getline(smaps, line);) {
        Mapping mapping;
        char rights[5];
        if (std::sscanf(line.c_str(), "%lx-%lx %4s", &mapping.from, &mapping.to, rights) == 3) {
            mapping.searched = worth_searching(mapping, rights, line);
            all.push_back(mapping);
        } else if (line.starts_with("VmFlags:") && !all.empty()) {
            all.back().locked = line.find(" lo") != std::string::npos;
            all.back().left_out_of_dumps = line.find(" dd") != std::string::npos;
        }
    }
    return all;
}

std::vector<Mapping> mappings_with_key() {
    std::vector<Mapping> with;
    for (Mapping& mapping : mappings()) {
        if (mapping.searched)
            mapping.pieces = count_pieces(reinterpret_cast<const std::uint8_t*>(mapping.from),
                                          mapping.to - mapping.from);
        if (mapping.pieces != 0)
            with.push_back(mapping);
    }
    return with;
}

dek::XtsKey make_key(std::size_t bytes, dek::XtsEngine engine) {
    wanted = {};
    wanted.bytes = bytes;
    std::uint8_t key[64];
    for (std::size_t i = 0; i < bytes; i++) {
        wanted.inverted[i] = inverted_byte(i);
        key[i] = static_cast<std::uint8_t>(~inverted_byte(i));
    }
    for (std::size_t piece = 0; piece < bytes; piece += piece_bytes)
        wanted.starts_piece[key[piece]] = true;
    auto made = dek::XtsKey::make({key, bytes}, engine);
    OPENSSL_cleanse(key, sizeof(key));
    REQUIRE(made);
    return std::move(*made);
}

void use(const dek::XtsKey& key) {
    Bytes work(70 * 512, 1);
    for (const std::uint32_t data_unit : {512, 1024})
        REQUIRE((key.encrypt(work.data(), work.data(), work.size(), data_unit, 5, 1) &&
                 key.decrypt(work.data(), work.data(), work.size(), data_unit, 5, 1)));
    const Bytes tweak(16, 2);
    REQUIRE(key.encrypt_blocks({work.data(), 512},
                               std::span<const std::uint8_t, 16>(tweak.data(), 16)));
}

} // namespace

extern "C" int munmap(void* at, std::size_t size) noexcept {
    if (watching) {
        released++;
        released_with_key += count_pieces(static_cast<const std::uint8_t*>(at), size);
    }
    return static_cast<int>(::syscall(SYS_munmap, at, size));
}

TEST_CASE("the search finds a piece of a key that was left behind") {
    make_key(64, dek::XtsEngine::openssl);
    REQUIRE(mappings_with_key().empty());
    Bytes left(16);
    for (std::size_t i = 0; i < left.size(); i++)
        left[i] = static_cast<std::uint8_t>(~inverted_byte(i));
    CHECK(mappings_with_key().size() == 1);
    OPENSSL_cleanse(left.data(), left.size());
    CHECK(mappings_with_key().empty());
}

TEST_CASE("a key is in memory while it lives, and nowhere afterwards") {
    for (const dek::XtsEngine engine : engines_here())
        for (const std::size_t bytes : {32, 64}) {
            CAPTURE(dek::xts_engine_name(engine), bytes);
            {
                const dek::XtsKey key = make_key(bytes, engine);
                use(key);
                CHECK_FALSE(mappings_with_key().empty());
            }
            CHECK(mappings_with_key().empty());
        }
}

TEST_CASE("vaes512 keeps its schedule in locked, undumpable pages alone, and wipes them") {
    if (!dek::xts_engine_available(dek::XtsEngine::vaes512))
        return;
    for (const std::size_t bytes : {32, 64}) {
        {
            const dek::XtsKey key = make_key(bytes, dek::XtsEngine::vaes512);
            use(key);
            const auto with = mappings_with_key();
            REQUIRE(with.size() == 1);
            CHECK(with[0].to - with[0].from == static_cast<unsigned long>(::sysconf(_SC_PAGESIZE)));
            CHECK(with[0].locked == locks_work);
            CHECK(with[0].left_out_of_dumps);
            released = released_with_key = 0;
            watching = true;
        }
        watching = false;
        CHECK(released == 1);
        CHECK(released_with_key == 0);
    }
}
