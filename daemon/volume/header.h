// SPDX-License-Identifier: Apache-2.0
// The dekstack header on a volume: what it says, how it is encoded, how it is read and written so
// that at every instant the old one or the new one can be read. docs/header.md is the format for
// strangers.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <dek/codec.h>
#include <nlohmann/json_fwd.hpp>

#include "base/result.h"
#include "base/secret.h"

namespace dek::volume {

inline constexpr std::uint64_t header_lbas = 512; // 256 KiB
inline constexpr std::uint64_t copy_a_byte = 0;   // within the header's place
inline constexpr std::uint64_t copy_b_byte = 64 * 1024;
inline constexpr std::uint64_t journal_byte = 128 * 1024; // to the end of the place
inline constexpr std::uint64_t default_data_lba = 2048;   // the volume starts 1 MiB in
inline constexpr std::size_t max_ranges = 2048;
inline constexpr std::size_t max_keys = 64;
inline constexpr std::size_t copy_max_bytes = 64 * 1024;
inline constexpr std::uint64_t max_lbas = 1ull
                                          << 53; // of a device; any JSON reader is exact up to here
inline constexpr std::uint64_t max_sequence = (1ull << 63) - 1;

// Incompatible features: whoever does not know one refuses the volume.
inline constexpr std::uint32_t feature_rekey =
    1u << 0; // keys are being changed: Header::rekey_state and the journal
inline constexpr std::uint32_t known_incompatible = feature_rekey;
// Read-only-compatible features: whoever does not know one may read the volume, and writes neither
// it nor the header.
inline constexpr std::uint32_t known_readonly_compatible = 0;

using Uuid = std::array<std::uint8_t, 16>;
Uuid random_uuid(); // version 4
std::string uuid_text(const Uuid& uuid);
Result<Uuid> uuid_of(std::string_view text);

enum class Place { leading, in_place, detached };
const char* place_name(Place place); // "default", "in-place", "detached"
// LBAs of the device or header file that belong to the header, journal included: 512 in place, 2048
// otherwise.
std::uint64_t place_lbas(Place place);

enum class TweakRule : std::uint8_t { unit = 0, lba512 = 1 }; // as enum dek_tweak_rule
const char* tweak_name(TweakRule rule);                       // "unit", "lba512"

// A range of the volume and the key it is encrypted with (index into Header::keys).
struct EncryptedRange {
    dek_range lbas; // of the volume
    std::uint16_t key = 0;
    bool operator==(const EncryptedRange& other) const {
        return lbas.first == other.lbas.first && lbas.count == other.lbas.count && key == other.key;
    }
};

struct HeaderKey {
    std::string id; // 1..64 bytes of UTF-8 without control characters; no two alike in one header
    std::string provider;   // hint: who has it ("keystore")
    std::uint32_t bits = 0; // 256 or 512: the whole XTS key
    std::array<std::uint8_t, 16> check_salt{};
    std::array<std::uint8_t, 16> check_value{}; // reveals nothing: see key_check_value()
};

struct Header {
    std::uint32_t incompatible = 0;        // feature flags; unknown ones: refuse to open
    std::uint32_t readonly_compatible = 0; // unknown ones: open read-only
    std::uint64_t sequence = 0;
    Uuid uuid{};
    std::string name; // of the volume: /dev/dek/NAME
    Place place = Place::leading;
    std::uint64_t header_lba = 0;  // on the device (leading, in place)
    std::uint64_t device_lbas = 0; // size of the device when written
    std::uint64_t offset = 0;      // where the volume's LBA 0 lies on the device
    std::uint64_t size = 0;        // of the volume, LBAs
    std::uint32_t data_unit = 4096;
    std::uint32_t logical_block = 4096;
    TweakRule tweak = TweakRule::unit;
    std::string endpoint_policy = "prefer"; // prefer | hardware-only | never
    std::vector<HeaderKey> keys;            // the first one's HMAC guards the header
    std::vector<EncryptedRange> ranges;     // sorted, not overlapping
    std::string rekey_state; // JSON object as text, at most 4096 bytes; empty: none. Set with
                             // feature_rekey, never alone
};
inline std::uint64_t encrypted_lbas(const Header& header) {
    std::uint64_t sum = 0;
    for (const auto& range : header.ranges)
        sum += range.lbas.count;
    return sum;
}
// False where a feature is in use that this program may only read: attach read-only.
inline bool writable(const Header& header) {
    return (header.readonly_compatible & ~known_readonly_compatible) == 0;
}

// Everything that can be checked without the device: sizes, order, alignment to the unit, no
// overlap with the header's own place when in place, key indexes, names. The reason is fit for an
// administrator, and ends with the name of the broken rule as in docs/header.md: "...
// (range-order)". Errc::invalid_argument.
Result<void> validate(const Header& header);

// 1..64 of A-Z a-z 0-9 . _ -, not starting with a dot: what may stand in /dev/dek/.
bool name_is_valid(std::string_view name);

// HKDF-SHA-256(key, salt, "dekstack key check 1"), 16 bytes.
std::array<std::uint8_t, 16> key_check_value(const Secret& key,
                                             std::span<const std::uint8_t, 16> salt);
HeaderKey make_header_key(const std::string& id, const std::string& provider, const Secret& key);
bool key_matches(const HeaderKey& expected, const Secret& key); // constant time

// One copy, sealed with SHA-256 and HMAC under the first key; a multiple of 4096 bytes, at most 64
// KiB. Errc::invalid_argument (see validate), wrong_key (not keys[0]'s), unsupported (a feature
// flag this program does not know).
Result<std::vector<std::uint8_t>> encode(const Header& header, const Secret& first_key);

// A copy whose structure and SHA-256 hold, not yet authenticated.
struct Copy {
    Header header;
    std::vector<std::uint8_t> bytes; // as read, for verify() and backups
};
// Total: any bytes give a header that validate() accepts, or a named rejection: not_found (no
// magic), unsupported (version, incompatible flag), corrupt (all else). Bytes after the copy's own
// size are ignored.
Result<Copy> decode(std::span<const std::uint8_t> bytes);
// Errc::wrong_key when the key-check value does not match; Errc::corrupt when the HMAC does not
// match: the header or its map was edited, or the key is another volume's.
Result<void> verify(const Copy& copy, const Secret& first_key);

// Where a header may be: a file descriptor (device, image or header file) and a byte offset in it.
// Any descriptor will do that is open for what is asked of it, with O_DIRECT or without. The
// functions below keep no state and may be called from any thread, but nobody else may write to the
// same place meanwhile: they do not lock.
struct Location {
    int fd = -1;
    std::uint64_t byte = 0;
    bool header_file =
        false; // the file holds nothing but a header: the volume's device is another one
};
// What lies where a copy may be. Torn: the magic, but not the whole of what was written.
enum class CopyState { empty, torn, valid };
const char* copy_state_name(CopyState state); // "empty", "torn", "valid"

// The newest valid copy. `torn` tells that only one of the two was readable; the next write() mends
// the other.
struct Found {
    Copy copy;
    bool torn = false;
    CopyState a = CopyState::empty;
    CopyState b = CopyState::empty;
};
// Errc::not_found when neither has the magic, or what lies here says that it belongs elsewhere (a
// partition's header seen through the whole disk); corrupt when neither is whole, when a whole one
// breaks a rule, or when both have one sequence number and different bytes; unsupported when either
// needs a feature that is not known here: what tearing cannot explain is never got around by taking
// the other copy.
Result<Found> read(const Location& at);
// Writes the older copy (or the torn one), makes it durable, then the other one. Sequence must be
// above what is there (Errc::refused), the UUID the same (Errc::exists). A crash at any instant, or
// an error, leaves the old header or the new one (read() tells which); where there was none, none
// or the new one.
Result<void> write(const Location& at, const Header& header, const Secret& first_key);
// For a new volume, over whatever lies there: another volume's header, a torn, refused or misplaced
// one. Its sequence number becomes the highest there plus one where it is not above that already;
// the number written is given back. What was read before is what is read until the new header is
// whole; the rest of its place becomes zeros afterwards. Errc::corrupt when no sequence number is
// left above what is there.
Result<std::uint64_t> overwrite(const Location& at, Header header, const Secret& first_key);
// Whether either copy, whole or torn, lies there, whatever read() says of it.
Result<bool> has_trace(const Location& at);
// The whole place becomes zeros, durably; the newest copy goes last, and at once: a crash leaves
// the whole header or none. Where a whole copy of another header begins in the place, only the
// copies go, as in erase_copies(). Does not look at what it erases: that it is the right one is the
// caller's to know.
Result<void> erase(const Location& at);
// Zeroes, as durably, no more than the copies of a header at `at`, not those of one that lies
// elsewhere: of a torn copy, whose end nobody knows, the first block. False: there was none.
Result<bool> erase_copies(const Location& at);
// Where a header is looked for without being told: LBA 0, LBA 1024, the last 512 LBAs (also rounded
// down to 4096 bytes, where the device's size is odd). Only places that fit.
std::vector<std::uint64_t> probe_lbas(std::uint64_t device_lbas);

// To be asked before anything is keyed: does the header, found at `at`, fit this device?
// Errc::refused, never to be forced: the device is too small for the volume, or the header belongs
// elsewhere (a detached one on a device, another one in a header file). A device that has grown is
// fine.
Result<void> check_device(const Header& header, const Location& at, std::uint64_t device_lbas);

// A backup is one file: the newest copy's bytes with a small frame (docs/header.md). It holds no
// key.
std::vector<std::uint8_t> encode_backup(const Copy& copy);
Result<Copy> decode_backup(std::span<const std::uint8_t> bytes);
inline constexpr std::size_t backup_max_bytes = copy_max_bytes + 64;
// Durable when it returns; Errc::exists unless force. Mode 0600.
Result<void> backup(const Location& at, const std::string& file, bool force);
Result<Copy> read_backup(const std::string& file);
// Checks UUID (if there is a readable header), device size, sequence, HMAC under the key; written
// with a sequence above both. `last_sequence`: the last one the caller knows of for this volume (0:
// none). Errc::refused, which force allows: another volume's header lies there, or something that
// is no header; the backup is older than what is there or known; the device's size changed.
// Errc::refused whatever force says: what check_device() refuses.
Result<void> restore(const Location& at, const Copy& from, const Secret& first_key,
                     std::uint64_t device_lbas, std::uint64_t last_sequence, bool force);

nlohmann::json to_json(const Header& header); // for --json and people; no check values
} // namespace dek::volume
