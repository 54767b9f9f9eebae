// SPDX-License-Identifier: Apache-2.0
// The dekstack header on a volume: what it says, how it is encoded, how it is read and written so that
// at every instant the old one or the new one can be read. docs/header.md is the format for strangers.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <dek/codec.h>
#include <nlohmann/json_fwd.hpp>

#include "base/result.h"
#include "base/secret.h"

namespace dek::volume {

inline constexpr std::uint64_t header_lbas = 512;          // 256 KiB
inline constexpr std::uint64_t copy_a_byte = 0;            // within the header's place
inline constexpr std::uint64_t copy_b_byte = 64 * 1024;
inline constexpr std::uint64_t journal_byte = 128 * 1024;  // to the end of the place
inline constexpr std::uint64_t default_data_lba = 2048;    // the volume starts 1 MiB in
inline constexpr std::size_t max_ranges = 2048;

using Uuid = std::array<std::uint8_t, 16>;
Uuid random_uuid(); // version 4
std::string uuid_text(const Uuid& uuid);
Result<Uuid> uuid_of(std::string_view text);

enum class Place { leading, in_place, detached }; // "default", "in-place", "detached" in text

enum class TweakRule : std::uint8_t { unit = 0, lba512 = 1 };

// A range of the volume and the key it is encrypted with (index into Header::keys).
struct EncryptedRange {
    dek_range lbas; // of the volume
    std::uint16_t key = 0;
    bool operator==(const EncryptedRange&) const;
};

struct HeaderKey {
    std::string id;
    std::string provider; // hint: who has it ("keystore")
    std::uint32_t bits = 0;
    std::array<std::uint8_t, 16> check_salt{};
    std::array<std::uint8_t, 16> check_value{}; // reveals nothing: see key_check_value()
};

struct Header {
    std::uint32_t incompatible = 0; // feature flags; unknown ones: refuse to open
    std::uint32_t readonly_compatible = 0; // unknown ones: open read-only
    std::uint64_t sequence = 0;
    Uuid uuid{};
    std::string name;     // of the volume: /dev/dek/NAME
    Place place = Place::leading;
    std::uint64_t header_lba = 0; // on the device (leading, in place)
    std::uint64_t device_lbas = 0; // size of the device when written
    std::uint64_t offset = 0;      // where the volume's LBA 0 lies on the device
    std::uint64_t size = 0;        // of the volume, LBAs
    std::uint32_t data_unit = 4096;
    std::uint32_t logical_block = 4096;
    TweakRule tweak = TweakRule::unit;
    std::string endpoint_policy = "prefer"; // prefer | hardware-only | never
    std::vector<HeaderKey> keys; // the first one's HMAC guards the header
    std::vector<EncryptedRange> ranges; // sorted, not overlapping
    std::string rekey_state; // JSON object as text; empty: none
};

// Everything that can be checked without the device: sizes, order, alignment to the unit, no overlap with
// the header's own place when in place, key indexes, names. The reason is fit for an administrator.
Result<void> validate(const Header& header);

// HKDF-SHA-256(key, salt, "dekstack key check 1"), 16 bytes.
std::array<std::uint8_t, 16> key_check_value(const Secret& key, std::span<const std::uint8_t, 16> salt);
HeaderKey make_header_key(const std::string& id, const std::string& provider, const Secret& key);
bool key_matches(const HeaderKey& expected, const Secret& key); // constant time

// One copy, sealed with SHA-256 and HMAC under the first key; at most 64 KiB.
Result<std::vector<std::uint8_t>> encode(const Header& header, const Secret& first_key);

// A copy whose structure and SHA-256 hold, not yet authenticated.
struct Copy {
    Header header;
    std::vector<std::uint8_t> bytes; // as read, for verify() and backups
};
Result<Copy> decode(std::span<const std::uint8_t> bytes);
// Errc::corrupt when the HMAC does not match: the header or its map was edited, or the key is another volume's.
Result<void> verify(const Copy& copy, const Secret& first_key);

// Where a header may be: a file descriptor (device, image or header file) and a byte offset in it.
struct Location {
    int fd = -1;
    std::uint64_t byte = 0;
};
// The newest valid copy; Errc::not_found when neither has the magic, corrupt when neither is whole.
// `torn` tells that only one of the two was readable.
struct Found {
    Copy copy;
    bool torn = false;
};
Result<Found> read(const Location& at);
// Writes the older copy (or the torn one), makes it durable, then the other one. Sequence must be above what is there.
Result<void> write(const Location& at, const Header& header, const Secret& first_key);
// Both copies and the journal become zeros: B first, A last; durable.
Result<void> erase(const Location& at);
// Where a header is looked for without being told: LBA 0, LBA 1024, the last 512 LBAs.
std::vector<std::uint64_t> probe_lbas(std::uint64_t device_lbas);

// A backup is one file: the newest copy's bytes with a small frame (docs/header.md).
Result<void> backup(const Location& at, const std::string& file, bool force);
Result<Copy> read_backup(const std::string& file);
// Checks UUID (if there is a readable header), device size, sequence, HMAC under the key; written with a sequence above both.
Result<void> restore(const Location& at, const Copy& from, const Secret& first_key, std::uint64_t device_lbas,
                     std::uint64_t last_sequence, bool force);

nlohmann::json to_json(const Header& header); // for --json and people; no check values
} // namespace dek::volume
