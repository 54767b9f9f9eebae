// SPDX-License-Identifier: Apache-2.0
// Judges every write that was made to one leg of a volume: in encrypted ranges it decrypts, by
// OpenSSL and with the tweak of where it lies, to sectors that name that place; nowhere else is
// anything of the volume's contents. Shares no code with what it judges.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "write_log.h"

struct LbaRange {
    std::uint64_t first = 0, last = 0; // 512-byte LBAs, inclusive
    bool holds(std::uint64_t lba) const { return first <= lba && lba <= last; }
};

struct ScanKey {
    std::vector<std::uint8_t> bytes; // 32 or 64
    unsigned unit = 4096;            // bytes of a data unit
    bool by_unit = true;             // the tweak is the unit's number; false: the LBA of its start
};

// Where a range of the leg's LBAs lies in the volume. With p = LBA - device_origin: origin + p, or,
// striped, origin + (p / chunk * stripes + leg) * chunk + p % chunk.
struct CryptMap {
    LbaRange lbas; // of the leg
    std::uint64_t device_origin = 0, origin = 0;
    std::uint64_t chunk = 0, stripes = 0, leg = 0; // chunk in LBAs; 0: not striped
    ScanKey key;
    std::uint64_t volume_lba(std::uint64_t lba) const;
};

// Sectors of the volume may be found here as they are; with an origin, only in their place.
struct PlainMap {
    LbaRange lbas; // of the leg
    std::optional<std::uint64_t> origin;
};

struct ScanRules {
    std::vector<CryptMap> maps;
    std::vector<PlainMap> plain;
    std::vector<LbaRange> free;     // volume LBAs in which any ciphertext may be
    std::vector<std::string> texts; // of the volume's contents, besides the mark
    bool any = false;               // in encrypted ranges it suffices to be no plaintext
    bool zeros = false;             // zeros may be encrypted there, too
    bool discards = false;          // and discards pass
    std::uint64_t least = 1; // so many sectors that describe themselves have to be found encrypted
};

// FIRST-LAST[:DEVICE-ORIGIN]@ORIGIN[/CHUNK/STRIPES/LEG]; DEVICE-ORIGIN is FIRST unless told.
CryptMap parse_crypt_map(const std::string& text, const ScanKey& key);
PlainMap parse_plain_map(const std::string& text); // FIRST-LAST[@ORIGIN]
LbaRange parse_lba_range(const std::string& text); // FIRST-LAST

struct ScanCount {
    std::uint64_t entries = 0, writes = 0, discards = 0, sectors = 0;
    std::uint64_t encrypted = 0; // sectors in encrypted ranges,
    std::uint64_t described = 0; // of which describe themselves,
    std::uint64_t admitted = 0;  // or were let pass by the rules
    std::uint64_t plain = 0;     // sectors that describe themselves, where they may be in the clear
    std::uint64_t failures = 0;
};

class Scanner {
  public:
    explicit Scanner(ScanRules rules); // throws std::runtime_error when they are no rules
    void judge(const WriteEntry& e, const std::vector<std::uint8_t>& data);
    // Nothing wrong was found, and there was something to be looked at.
    bool good() const;
    std::string summary() const;
    const ScanCount& count() const { return count_; }
    const std::vector<std::string>& failures() const { return said_; } // the first ones

  private:
    const CryptMap* crypt_at(std::uint64_t lba) const;
    const PlainMap* plain_at(std::uint64_t lba) const;
    void fail(const WriteEntry& e, std::uint64_t lba, const std::string& why);
    void judge_discard(const WriteEntry& e);
    void find_texts(const WriteEntry& e, const std::vector<std::uint8_t>& data);
    void judge_unit(const WriteEntry& e, const CryptMap& map, std::uint64_t lba,
                    const std::uint8_t* data);
    void judge_contents(const WriteEntry& e, std::uint64_t lba, std::uint64_t volume_lba,
                        const std::uint8_t* sector);
    bool admitted(std::uint64_t volume_lba, const std::uint8_t* sector) const;
    void judge_plain(const WriteEntry& e, std::uint64_t lba, const std::uint8_t* sector);

    ScanRules rules_;
    std::vector<std::string> key_halves_; // no device is to see one, wherever
    ScanCount count_;
    std::vector<std::string> said_;
};
