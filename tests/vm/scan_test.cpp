// SPDX-License-Identifier: Apache-2.0
// The scanner over logs that are built here: it passes what is right, and finds each fault that is
// planted.
#include <catch2/catch.hpp>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>

#include <endian.h>
#include <openssl/evp.h>
#include <unistd.h>

#include "scanner.h"
#include "sector.h"

namespace {

using Bytes = std::vector<std::uint8_t>;

ScanKey key_of(unsigned unit, bool by_unit, std::uint8_t seed = 1) {
    ScanKey key{Bytes(64), unit, by_unit};
    for (std::size_t i = 0; i < key.bytes.size(); i++)
        key.bytes[i] = static_cast<std::uint8_t>(seed + 7 * i);
    return key;
}

Bytes sectors(std::uint64_t lba, std::size_t count, std::uint32_t pass = 1) {
    Bytes data(count * sector_size);
    for (std::size_t i = 0; i < count; i++)
        sector_fill(data.data() + i * sector_size, {lba + i, pass});
    return data;
}

// Encrypted as LBAs `lba` and on of a volume.
Bytes sealed(const ScanKey& key, std::uint64_t lba, Bytes data) {
    for (std::size_t at = 0; at < data.size(); at += key.unit) {
        std::uint64_t tweak[2] = {lba + at / sector_size, 0};
        tweak[0] = htole64(key.by_unit ? tweak[0] * sector_size / key.unit : tweak[0]);
        EVP_CIPHER_CTX* c = EVP_CIPHER_CTX_new();
        int n = 0;
        REQUIRE(EVP_EncryptInit_ex(c, EVP_aes_256_xts(), nullptr, key.bytes.data(),
                                   reinterpret_cast<const std::uint8_t*>(tweak)) == 1);
        REQUIRE(EVP_EncryptUpdate(c, data.data() + at, &n, data.data() + at,
                                  static_cast<int>(key.unit)) == 1);
        EVP_CIPHER_CTX_free(c);
    }
    return data;
}

// A log as the kernel writes it.
class Built {
  public:
    explicit Built(std::uint32_t sector = 512) : sector_(sector) {
        path_ = "/tmp/vm_scan_test." + std::to_string(::getpid());
    }
    ~Built() { std::remove(path_.c_str()); }

    void write(std::uint64_t lba, const Bytes& data, std::uint64_t flags = 0) {
        head(lba, data.size(), flags, 0);
        log_.insert(log_.end(), data.begin(), data.end());
    }
    void discard(std::uint64_t lba, std::uint64_t count) { head(lba, count * 512, 4, 0); }
    void mark(const std::string& text) {
        head(0, 0, WriteEntry::MARK, text.size());
        std::memcpy(log_.data() + log_.size() - sector_ + 32, text.data(), text.size());
    }
    Bytes& bytes() { return log_; }
    const std::string& save() const {
        Bytes super(sector_);
        const std::uint64_t words[3] = {htole64(0x6a736677736872), htole64(1), htole64(entries_)};
        const std::uint32_t size = htole32(sector_);
        std::memcpy(super.data(), words, sizeof words);
        std::memcpy(super.data() + sizeof words, &size, sizeof size);
        std::ofstream file(path_, std::ios::binary | std::ios::trunc);
        file.write(reinterpret_cast<const char*>(super.data()),
                   static_cast<std::streamsize>(super.size()));
        file.write(reinterpret_cast<const char*>(log_.data()),
                   static_cast<std::streamsize>(log_.size()));
        return path_;
    }

  private:
    void head(std::uint64_t lba, std::uint64_t size, std::uint64_t flags, std::uint64_t length) {
        Bytes head(sector_);
        const std::uint64_t words[4] = {htole64(lba * 512 / sector_), htole64(size / sector_),
                                        htole64(flags), htole64(length)};
        std::memcpy(head.data(), words, sizeof words);
        log_.insert(log_.end(), head.begin(), head.end());
        entries_++;
    }

    std::string path_;
    std::uint32_t sector_;
    std::uint64_t entries_ = 0;
    Bytes log_;
};

Scanner scan(const Built& built, const ScanRules& rules) {
    Scanner scanner(rules);
    WriteLog log(built.save());
    Bytes data;
    for (WriteEntry e; log.next(e);) {
        log.data(data);
        scanner.judge(e, data);
    }
    return scanner;
}

// The one failure there is contains these words.
void finds(const Built& built, const ScanRules& rules, const std::string& words,
           std::uint64_t times = 1) {
    const Scanner scanner = scan(built, rules);
    CHECK_FALSE(scanner.good());
    INFO(scanner.summary());
    REQUIRE(scanner.count().failures == times);
    CHECK_THAT(scanner.failures().front(), Catch::Contains(words));
}

ScanRules rules_of(const std::string& map, const ScanKey& key) {
    ScanRules rules;
    rules.maps.push_back(parse_crypt_map(map, key));
    return rules;
}

// LBAs 1000-1999 of the leg are 64 and on of the volume; before that it is plain.
const ScanKey key = key_of(4096, true);
ScanRules usual() {
    ScanRules rules = rules_of("1000-1999@64", key);
    rules.plain.push_back(parse_plain_map("0-499@10000"));
    return rules;
}

} // namespace

TEST_CASE("a sector says what it is, and no other byte of it may change", "[scan]") {
    Bytes s = sectors(77, 1, 5);
    CHECK(sector_read(s.data()) == SectorName{77, 5});
    for (std::size_t at = 0; at < s.size(); at += 13) {
        s[at] ^= 1;
        CHECK_FALSE(sector_read(s.data()));
        s[at] ^= 1;
    }
    CHECK(sectors(77, 1, 5) != sectors(77, 1, 6));
}

TEST_CASE("what is right passes, with each data unit and tweak rule", "[scan]") {
    for (const unsigned unit : {512U, 1024U, 4096U}) {
        for (const bool by_unit : {true, false}) {
            for (const std::uint32_t log_sector : {512U, 4096U}) {
                const ScanKey k = key_of(unit, by_unit);
                Built log(log_sector);
                log.write(1000, sealed(k, 64, sectors(64, 16)));
                log.write(1008, sealed(k, 72, sectors(72, 8, 2)), WriteEntry::FUA);
                log.write(0, {}, WriteEntry::FLUSH);
                log.mark("half way");
                log.write(96, sectors(10096, 8));
                log.discard(96, 8);
                ScanRules rules = rules_of("1000-1999@64", k);
                rules.plain.push_back(parse_plain_map("0-499@10000"));
                const Scanner s = scan(log, rules);
                INFO(s.summary());
                CHECK(s.good());
                CHECK(s.count().entries == 6);
                CHECK(s.count().writes == 3);
                CHECK(s.count().described == 24);
                CHECK(s.count().plain == 8);
            }
        }
    }
}

TEST_CASE("stripes: each chunk has its own place in the volume", "[scan]") {
    // leg 1 of 3, chunks of 16 LBAs: 16-31, 64-79, ... of what begins at volume LBA 1024
    const ScanRules rules = rules_of("2048-4095@1024/16/3/1", key);
    Built log;
    log.write(2048, sealed(key, 1024 + 16, sectors(1024 + 16, 16)));
    log.write(2064, sealed(key, 1024 + 64, sectors(1024 + 64, 16)));
    CHECK(scan(log, rules).good());
    log.write(2080, sealed(key, 1024 + 32, sectors(1024 + 32, 16)));
    finds(log, rules, "does not decrypt", 16);
    // in the middle of a chunk: LBA 2056 of the leg, as counted from 2048
    Built middle;
    middle.write(2056, sealed(key, 1024 + 24, sectors(1024 + 24, 8)));
    CHECK(scan(middle, rules_of("2056-4095:2048@1024/16/3/1", key)).good());
}

TEST_CASE("a wrong key, tweak or rule is found", "[scan]") {
    Built log;
    SECTION("the tweak of the neighbour") {
        log.write(1000, sealed(key, 72, sectors(64, 8)));
        finds(log, usual(), "does not decrypt", 8);
    }
    SECTION("the other rule") {
        log.write(1000, sealed(key_of(4096, false), 64, sectors(64, 8)));
        finds(log, usual(), "does not decrypt", 8);
    }
    SECTION("another key") {
        log.write(1000, sealed(key_of(4096, true, 2), 64, sectors(64, 8)));
        finds(log, usual(), "does not decrypt", 8);
    }
    SECTION("another data unit") {
        log.write(1000, sealed(key_of(512, true), 64, sectors(64, 8)));
        finds(log, usual(), "does not decrypt", 8);
    }
}

TEST_CASE("what belongs elsewhere is found", "[scan]") {
    Built log;
    log.write(1000, sealed(key, 64, sectors(72, 8)));
    finds(log, usual(), "decrypts to LBA 72, and is LBA 64", 8);
    Built plain;
    plain.write(8, sectors(10009, 1));
    finds(plain, usual(), "LBA 10009 in the wrong place");
}

TEST_CASE("a planted plaintext is found, wherever", "[scan]") {
    Built log;
    log.write(1000, sealed(key, 64, sectors(64, 16)));
    CHECK(scan(log, usual()).good());
    SECTION("in the encrypted range") {
        Bytes data = sealed(key, 80, sectors(80, 8));
        const Bytes clear = sectors(83, 1);
        std::copy(clear.begin(), clear.end(), data.begin() + 3 * 512);
        log.write(1016, data);
        const Scanner s = scan(log, usual());
        CHECK_FALSE(s.good());
        CHECK_THAT(s.failures().front(), Catch::Contains("LBA 1019: the volume's contents"));
    }
    SECTION("beside it") {
        log.write(5000, sectors(64, 1));
        finds(log, usual(), "LBA 5000: the volume's contents in the clear");
    }
    SECTION("not at a sector's start") {
        Bytes data(1024);
        std::memcpy(data.data() + 507, sector_mark, sector_mark_size);
        log.write(96, data); // not even in a plain range
        finds(log, usual(), "LBA 96: the volume's contents in the clear");
    }
    SECTION("zeros in the encrypted range") {
        log.write(1016, Bytes(4096));
        finds(log, usual(), "not ciphertext", 8);
    }
    SECTION("a text") {
        ScanRules rules = usual();
        rules.texts.emplace_back("secret words");
        Bytes data(512, 'x');
        std::memcpy(data.data() + 100, "secret words", 12);
        log.write(700, data);
        finds(log, rules, "LBA 700: a text");
    }
    SECTION("half a key, even where plaintext may be") {
        Bytes data(512, 'x');
        std::copy(key.bytes.begin() + 32, key.bytes.end(), data.begin() + 9);
        log.write(96, data);
        finds(log, usual(), "LBA 96: a key");
    }
}

TEST_CASE("torn data units and sectors are found", "[scan]") {
    Built log;
    SECTION("the first half of a unit") {
        Bytes data = sealed(key, 64, sectors(64, 8));
        data.resize(4 * 512);
        log.write(1000, data);
        finds(log, usual(), "a part of a data unit");
    }
    SECTION("the second half, and then a whole one") {
        Bytes data = sealed(key, 64, sectors(64, 16));
        data.erase(data.begin(), data.begin() + 4 * 512);
        log.write(1004, data);
        finds(log, usual(), "LBA 1004: a part of a data unit");
    }
    SECTION("half old and half new inside one sector") {
        const Bytes one = sealed(key, 64, sectors(64, 8, 1)),
                    two = sealed(key, 64, sectors(64, 8, 2));
        Bytes data = one;
        std::copy(two.begin(), two.begin() + 256, data.begin());
        log.write(1000, data);
        CHECK_FALSE(scan(log, usual()).good());
    }
    SECTION("a damaged sector") {
        Bytes data = sectors(64, 8);
        data[200] ^= 1;
        log.write(1000, sealed(key, 64, data));
        finds(log, usual(), "a damaged sector");
    }
}

TEST_CASE("discards in encrypted ranges are failures, unless admitted", "[scan]") {
    Built log;
    log.write(1000, sealed(key, 64, sectors(64, 8)));
    log.discard(990, 20);
    finds(log, usual(), "LBA 1000: a discard");
    ScanRules rules = usual();
    rules.discards = true;
    CHECK(scan(log, rules).good());
    Built beside;
    beside.write(1000, sealed(key, 64, sectors(64, 8)));
    beside.discard(900, 100);
    CHECK(scan(beside, usual()).good());
}

TEST_CASE("what is admitted passes, and nothing else", "[scan]") {
    Built log;
    log.write(1000, sealed(key, 64, sectors(64, 8)));
    log.write(1008, sealed(key, 72, Bytes(4096, 0)));
    finds(log, usual(), "does not decrypt", 8);
    ScanRules rules = usual();
    SECTION("zeros") {
        rules.zeros = true;
        CHECK(scan(log, rules).good());
        log.write(1008, sealed(key, 72, Bytes(4096, 1)));
        CHECK_FALSE(scan(log, rules).good());
    }
    SECTION("some LBAs of the volume") {
        rules.free.push_back(parse_lba_range("72-79"));
        CHECK(scan(log, rules).good());
        rules.free.back().last = 78;
        finds(log, rules, "LBA 1015: does not decrypt");
    }
    SECTION("anything, but no plaintext") {
        rules.any = true;
        CHECK(scan(log, rules).good());
        CHECK(scan(log, rules).count().admitted == 8);
        log.write(1008, Bytes(4096, 0));
        CHECK_FALSE(scan(log, rules).good());
    }
}

TEST_CASE("who looked at nothing has not found it good", "[scan]") {
    Built log;
    CHECK_FALSE(scan(log, usual()).good());
    log.mark("nothing");
    log.write(96, sectors(10096, 8));
    CHECK_FALSE(scan(log, usual()).good()); // nothing encrypted
    ScanRules rules = usual();
    rules.least = 0;
    CHECK(scan(log, rules).good());
    log.write(1000, sealed(key, 64, sectors(64, 8)));
    rules.least = 8;
    CHECK(scan(log, rules).good());
    rules.least = 9;
    CHECK_FALSE(scan(log, rules).good());
}

TEST_CASE("rules that are none, and logs that are none, are refused", "[scan]") {
    for (const auto* text : {"", "1", "5-4@0", "1-2", "1-2@", "1-2@x", "1-2@0/8", "1-2@0/8/2",
                             "1-2@0/8/2/2", "1-2@0/0/2/1", "1-2@0/4/2/1", "3-4:5@0", "-1-2@0"})
        CHECK_THROWS(parse_crypt_map(text, key));
    CHECK_THROWS(parse_plain_map("9-1"));
    CHECK_THROWS(Scanner(rules_of("1-2@0", ScanKey{Bytes(16), 4096, true})));
    CHECK_THROWS(Scanner(rules_of("1-2@0", ScanKey{Bytes(64), 100, true})));
    ScanRules two = rules_of("0-99@0", key);
    two.maps.push_back(parse_crypt_map("99-100@0", key));
    CHECK_THROWS(Scanner(two));
    Built log;
    log.write(1000, sealed(key, 64, sectors(64, 8)));
    log.bytes().pop_back();
    CHECK_THROWS_WITH(scan(log, usual()), Catch::Contains("too early"));
    CHECK_THROWS_WITH(WriteLog("/proc/self/exe"), Catch::Contains("not a log"));
}
