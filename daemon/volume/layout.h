// SPDX-License-Identifier: Apache-2.0
// The bytes of a header copy and of a backup's frame. docs/header.md says the same in words.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace dek::volume {

// A little-endian number without alignment.
template <class T>
struct Le {
    std::uint8_t byte[sizeof(T)];

    T get() const {
        T value = 0;
        for (std::size_t i = sizeof(T); i-- > 0;)
            value = static_cast<T>(static_cast<std::uint64_t>(value) << 8 | byte[i]);
        return value;
    }
    void set(T value) {
        for (std::size_t i = 0; i < sizeof(T); ++i)
            byte[i] = static_cast<std::uint8_t>(value >> (8 * i));
    }
};
using Le16 = Le<std::uint16_t>;
using Le32 = Le<std::uint32_t>;
using Le64 = Le<std::uint64_t>;

// The first and the last byte are no text, so that no text file and no transfer in text mode
// passes.
inline constexpr std::uint8_t copy_magic[8] = {0xd6, 'D', 'E', 'K', 'H', 'D', 'R', 0x1a};
inline constexpr std::uint8_t frame_magic[8] = {0xd6, 'D', 'E', 'K', 'B', 'A', 'K', 0x1a};
inline constexpr std::uint32_t copy_version = 1;
inline constexpr std::uint32_t frame_version = 1;
inline constexpr std::size_t copy_step = 4096; // sizes of copies are multiples of it
inline constexpr std::size_t digest_bytes = 32;
inline constexpr std::size_t rekey_max_bytes = 4096;
inline constexpr std::size_t json_max_depth = 8; // the outermost object is 1
inline constexpr std::size_t key_id_max_bytes = 64;
inline constexpr std::size_t name_max_bytes = 64;

// The first 512 bytes of a copy. After them the map (map_count entries), the JSON text (json_size
// bytes) and zeros up to `size`. Magic, version, size, sequence and both digests keep place and
// meaning in every version, so that any program can tell a torn copy from one too new for it.
struct CopyHead {
    std::uint8_t magic[8];
    Le32 version;
    Le32 size; // of the whole copy, bytes
    Le32 incompatible;
    Le32 readonly_compatible;
    Le64 sequence;
    Le32 map_count;
    Le32 json_size; // bytes
    std::uint8_t reserved[408];
    std::uint8_t sha256[digest_bytes]; // of everything but itself
    std::uint8_t hmac[digest_bytes];   // of everything but itself and sha256
};
static_assert(sizeof(CopyHead) == 512 && alignof(CopyHead) == 1);
static_assert(offsetof(CopyHead, magic) == 0);
static_assert(offsetof(CopyHead, version) == 8);
static_assert(offsetof(CopyHead, size) == 12);
static_assert(offsetof(CopyHead, incompatible) == 16);
static_assert(offsetof(CopyHead, readonly_compatible) == 20);
static_assert(offsetof(CopyHead, sequence) == 24);
static_assert(offsetof(CopyHead, map_count) == 32);
static_assert(offsetof(CopyHead, json_size) == 36);
static_assert(offsetof(CopyHead, reserved) == 40);
static_assert(offsetof(CopyHead, sha256) == 448);
static_assert(offsetof(CopyHead, hmac) == 480);
static_assert(std::is_trivially_copyable_v<CopyHead>);

struct MapEntry {
    Le64 first; // LBA of the volume
    Le64 count; // LBAs
    Le16 key;   // index into the keys of the JSON text
    std::uint8_t reserved[2];
};
static_assert(sizeof(MapEntry) == 20 && alignof(MapEntry) == 1);
static_assert(offsetof(MapEntry, first) == 0);
static_assert(offsetof(MapEntry, count) == 8);
static_assert(offsetof(MapEntry, key) == 16);
static_assert(offsetof(MapEntry, reserved) == 18);
static_assert(std::is_trivially_copyable_v<MapEntry>);

// A backup file: this, and the copy.
struct BackupHead {
    std::uint8_t magic[8];
    Le32 version;
    Le32 size; // of the copy that follows, bytes
    std::uint8_t reserved[16];
    std::uint8_t sha256[digest_bytes]; // of the 32 bytes before it and of the copy
};
static_assert(sizeof(BackupHead) == 64 && alignof(BackupHead) == 1);
static_assert(offsetof(BackupHead, magic) == 0);
static_assert(offsetof(BackupHead, version) == 8);
static_assert(offsetof(BackupHead, size) == 12);
static_assert(offsetof(BackupHead, reserved) == 16);
static_assert(offsetof(BackupHead, sha256) == 32);
static_assert(std::is_trivially_copyable_v<BackupHead>);

} // namespace dek::volume
