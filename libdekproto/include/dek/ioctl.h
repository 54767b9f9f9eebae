/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The shim's ioctl interface, the same on /dev/dek-control (kernel shim) and on the file `control` of
 * the userspace shim. ABI version 1.
 *
 * Rules for every call:
 *  - flat structs, at most DEK_IOCTL_MAX bytes, no pointers: a FUSE server is handed no more;
 *  - little-endian hosts only; all fields naturally aligned, no implicit padding;
 *  - fields called `reserved` must be zero, or the call fails with EINVAL and changes nothing;
 *  - effective uid 0 is required (EPERM); the kernel shim asks for CAP_SYS_ADMIN besides;
 *  - LBAs are 512-byte sectors of the device under the endpoint (not of the volume: a volume that
 *    starts at sector `offset` of its device has its LBA 0 at `offset`);
 *  - ENOTTY: a call this shim does not have; ENOENT: no endpoint with this UUID.
 * Structs that carry keys are wiped by the shim as soon as they are consumed; callers do the same.
 */
#ifndef DEK_IOCTL_H
#define DEK_IOCTL_H

#include <dek/proto.h>
#include <linux/ioctl.h>

#define DEK_ABI_VERSION 1u
#define DEK_IOCTL_MAX 16000u
#define DEK_UUID_SIZE 16u
#define DEK_NAME_SIZE 128u /* with its NUL */
#define DEK_PATH_SIZE 1024u

/* ---- DEK_IOC_VERSION: what answers here, and what it can do. Out only. No further errors. ---- */

enum dek_shim_kind { DEK_SHIM_KERNEL = 1, DEK_SHIM_FUSE = 2 };
#define DEK_ENGINE_INLINE (1u << 0)
#define DEK_ENGINE_ACCEL (1u << 1)
#define DEK_ENGINE_CPU (1u << 2)
#define DEK_CAP_TAKEOVER (1u << 0) /* a killed worker is a pause, not an error */
#define DEK_CAP_VOLUMES (1u << 1)  /* the VOLUME_* calls work (userspace shim) */
#define DEK_CAP_EVENTS (1u << 2)   /* poll() and DEK_IOC_EVENTS work (userspace shim) */

struct dek_ioc_version {
	__u32 abi;     /* DEK_ABI_VERSION */
	__u32 kind;    /* enum dek_shim_kind */
	__u32 engines; /* DEK_ENGINE_* */
	__u32 caps;    /* DEK_CAP_* */
	__u32 blob_types; /* bit (1 << enum dek_blob_type) */
	__u32 max_associations; /* per endpoint */
	__u32 max_ranges;	/* per endpoint, all states together */
	__u32 reserved0;
	__u64 life; /* drawn at random when the shim starts: another value means every endpoint began anew */
	char build[64]; /* program and version, for people */
	char engine_name[64]; /* the driver in use, for people: "vaes512", "openssl" */
	char kek_names[512]; /* names of the KEKs held, NUL-separated, ends with an empty one */
};

/* ---- DEK_IOC_COMMAND: one protocol block to the endpoint. ----
 * In: uuid, block. Out: the response block in place; the ioctl succeeds whenever there is one, whatever
 * its status. EINTR: killed while waiting for I/O; the command goes on when sent again.
 */
struct dek_ioc_command {
	__u8 uuid[DEK_UUID_SIZE];
	__u8 block[DEK_BLOCK_SIZE];
};

/* ---- DEK_IOC_MAP: replace the must-encrypt map, paged, then atomic. In only. ----
 * BEGIN opens a new map under `generation` (any number above the current one, ESTALE otherwise; a map
 * already open is dropped); ADD appends ranges in ascending order (EINVAL, and the open map is dropped,
 * if unsorted, overlapping, outside the device or unaligned to the endpoint's data unit); COMMIT makes it
 * current. Flags may be combined in one call. On COMMIT: ranges held by an association must be in the
 * new map (EBUSY otherwise, nothing changes) and stay keyed; every other DEK_MAP_ENCRYPT range becomes
 * fenced, yielded ones too; in a DEK_MAP_KEEP range what is yielded stays so and what the map before left plain becomes so:
 * what passes as it is goes on passing. E2BIG: more ranges than max_ranges.
 * EBADF: ADD/COMMIT with no open map of this generation.
 * The call returns when I/O begun under the old map on ranges that changed has completed
 * (bounded: EAGAIN, the new map is in force, and COMMIT again with the same generation goes on waiting).
 */
#define DEK_MAP_BEGIN 1u
#define DEK_MAP_ADD 2u
#define DEK_MAP_COMMIT 4u
enum dek_map_kind {
	DEK_MAP_ENCRYPT = 1,  /* must be encrypted: keyed, fenced or yielded, never plain */
	DEK_MAP_RESERVED = 2, /* reads pass as they are, writes are refused (an in-place header) */
	DEK_MAP_KEEP = 3,     /* as DEK_MAP_ENCRYPT, but what passes as it is is yielded */
};
struct dek_map_entry {
	__u64 first;
	__u64 count;
	__u32 kind;
	__u32 reserved;
};
#define DEK_MAP_PAGE 600u
struct dek_ioc_map {
	__u8 uuid[DEK_UUID_SIZE];
	__u64 generation;
	__u32 flags;
	__u32 count; /* entries used; unused ones zero */
	struct dek_map_entry entry[DEK_MAP_PAGE];
};

/* ---- DEK_IOC_QUIESCE: hold a range; new I/O to it waits, I/O under way is waited for. ----
 * In: uuid, first, count, timeout_ms (0: the shim's default, 10 s). Out: token, never reused.
 * ETIMEDOUT: something is still in flight; nothing stays held. EBUSY: overlaps another token.
 * A token outlives its opener: a restarted controller finds it with DEK_IOC_TOKENS.
 */
struct dek_ioc_quiesce {
	__u8 uuid[DEK_UUID_SIZE];
	__u64 first;
	__u64 count;
	__u64 token;
	__u32 timeout_ms;
	__u32 reserved;
};

/* ---- DEK_IOC_RELEASE: let go of a token; waiting I/O is looked up afresh. ENOKEY: no such token. ---- */
struct dek_ioc_release {
	__u8 uuid[DEK_UUID_SIZE];
	__u64 token;
};

/* ---- DEK_IOC_YIELD: ciphertext passes; somebody above encrypts. ----
 * Only under a token that covers the range (ENOKEY otherwise), and only over must-encrypt ranges that no
 * association holds (EBUSY if keyed, EINVAL if plain or reserved). Ended by Associate, a new map, or a new life.
 */
struct dek_ioc_yield {
	__u8 uuid[DEK_UUID_SIZE];
	__u64 token;
	__u64 first;
	__u64 count;
};

/* ---- DEK_IOC_FENCE: what a fence answers. ---- */
enum dek_fence {
	DEK_FENCE_EIO = 0,	 /* directly under the user (default) */
	DEK_FENCE_TRANSPORT = 1, /* under multipath: retried on a leg that can (userspace shim: EIO) */
	DEK_FENCE_HOLD = 2,	 /* under a mirror: waits */
};
struct dek_ioc_fence {
	__u8 uuid[DEK_UUID_SIZE];
	__u32 fence;
	__u32 reserved;
};

/* ---- DEK_IOC_ENGINE: which engine encrypts here, or none. ----
 * `engine`: one of DEK_ENGINE_* that DEK_IOC_LIST or DEK_IOC_VERSION shows, or DEK_ENGINE_CPU, which every endpoint has
 * (EOPNOTSUPP if this one cannot have it; EINVAL if it is several), or 0: off. An endpoint that is off is a fence only: map, quiesce, yield and I/O are
 * as ever, Query, Associate and Update are answered Not Capable. EBUSY: another than now, and an association is held.
 */
struct dek_ioc_engine {
	__u8 uuid[DEK_UUID_SIZE];
	__u32 engine;
	__u32 reserved;
};

/* ---- DEK_IOC_LIST: endpoints, in the order of their UUIDs. ----
 * In: cursor (zero UUID: from the start; otherwise the last one seen). Out: count entries beyond it, and
 * `more` = 1 if there are others.
 */
struct dek_list_entry {
	__u8 uuid[DEK_UUID_SIZE];
	__u64 endpoint_id;
	__u64 first; /* LBAs served: [first, first + count) of the device */
	__u64 count;
	__u64 map_generation; /* 0: unmapped */
	__u64 ranges;	      /* in the map */
	__u32 associations;
	__u32 tokens;
	__u32 data_unit;     /* bytes; the alignment of ranges */
	__u32 logical_block; /* bytes; of the volume */
	__u32 fence;	     /* enum dek_fence */
	__u32 flags;	     /* DEK_ENDPOINT_* */
	__u32 engines;	     /* DEK_ENGINE_* of this endpoint; 0: off (DEK_IOC_ENGINE) */
	__u32 engine;	     /* the one in use */
	char name[DEK_NAME_SIZE]; /* of the volume or dm device on it */
	char device[256];	  /* path of the device beneath, truncated if longer */
};
#define DEK_ENDPOINT_RECOVERING 1u /* a new worker: encrypted ranges wait for their keys */
#define DEK_ENDPOINT_FAILED 2u /* the device beneath is gone or another one than before: all I/O fails */
#define DEK_LIST_PAGE 24u
struct dek_ioc_list {
	__u8 cursor[DEK_UUID_SIZE];
	__u32 count;
	__u32 more;
	struct dek_list_entry entry[DEK_LIST_PAGE];
};

/* ---- DEK_IOC_RANGES: who encrypts what, in the order of LBAs; plain stretches are not listed. ---- */
enum dek_range_state {
	DEK_RANGE_PLAIN = 0,
	DEK_RANGE_KEYED = 1,
	DEK_RANGE_FENCED = 2,
	DEK_RANGE_YIELDED = 3,
	DEK_RANGE_RESERVED = 4,
};
struct dek_range_entry {
	__u64 first;
	__u64 count;
	__u64 association; /* keyed only */
	__u32 state;	   /* enum dek_range_state */
	__u32 held;	   /* 1: a quiesce token or an unfinished command keeps I/O waiting */
};
#define DEK_RANGES_PAGE 400u
struct dek_ioc_ranges {
	__u8 uuid[DEK_UUID_SIZE];
	__u64 cursor; /* in: the first LBA of interest; out: where to go on */
	__u32 count;
	__u32 more;
	struct dek_range_entry entry[DEK_RANGES_PAGE];
};

/* ---- DEK_IOC_ASSOCIATIONS: in the order of handles. Never a key. ---- */
struct dek_association_entry {
	__u64 handle;
	__u64 ranges;
	__u64 blocks; /* LBAs in all */
	__u8 app_info[DEK_APP_INFO_SIZE]; /* as on the wire */
	__u8 key_id[DEK_KEY_ID_MAX];
	__u32 key_id_length;
	__u8 algorithm;
	__u8 mode;
	__u8 key_length; /* bytes */
	__u8 draining;	 /* 1: an unfinished command concerns it, I/O under way is waited for */
};
#define DEK_ASSOCIATIONS_PAGE 100u
struct dek_ioc_associations {
	__u8 uuid[DEK_UUID_SIZE];
	__u64 cursor; /* handles above it */
	__u32 count;
	__u32 more;
	struct dek_association_entry entry[DEK_ASSOCIATIONS_PAGE];
};

/* ---- DEK_IOC_TOKENS: quiesce tokens, in their order. ---- */
struct dek_token_entry {
	__u64 token;
	__u64 first;
	__u64 count;
};
#define DEK_TOKENS_PAGE 100u
struct dek_ioc_tokens {
	__u8 uuid[DEK_UUID_SIZE];
	__u64 cursor; /* tokens above it */
	__u32 count;
	__u32 more;
	struct dek_token_entry entry[DEK_TOKENS_PAGE];
};

/* ---- DEK_IOC_STATS: counters since the endpoint came to be. Units: requests, and bytes. ---- */
struct dek_ioc_stats {
	__u8 uuid[DEK_UUID_SIZE];
	__u64 reads;
	__u64 writes;
	__u64 flushes;
	__u64 read_bytes;
	__u64 write_bytes;
	__u64 encrypted_bytes;
	__u64 decrypted_bytes;
	__u64 plain_bytes;   /* passed as they are, both ways, yielded ones included */
	__u64 fence_hits;
	__u64 refused;	     /* writes to reserved or unmapped ranges, discards, unaligned requests */
	__u64 waited;	     /* requests that had to wait for a hold or for keys */
	__u64 errors;	     /* of the device beneath */
	__u64 in_flight;
	__u64 restarts;	     /* of the worker under this volume */
	__u64 flushes_unknown; /* flushes whose result was lost with a worker: data may be */
	__u64 waiting; /* requests that wait now, for a hold, keys or a fence that holds. In: 0, or EINVAL */
};

/* ---- DEK_IOC_EVENTS: userspace shim; the kernel shim sends the same by generic netlink. ----
 * In: cursor, the last sequence number seen (0: from the oldest kept). Out: later events. A gap in
 * `sequence` means that the ring overflowed. poll() on the file reports POLLIN when an event is newer
 * than the newest handed out by this call on that file, POLLERR when the shim is gone.
 */
enum dek_event_type {
	DEK_EVENT_ENDPOINT_UP = 1,
	DEK_EVENT_ENDPOINT_DOWN = 2,
	DEK_EVENT_ASSOCIATION_MADE = 3,
	DEK_EVENT_ASSOCIATION_CHANGED = 4,
	DEK_EVENT_ASSOCIATION_LOST = 5,
	DEK_EVENT_FENCE_HIT = 6, /* rate-limited: one a second and endpoint */
	DEK_EVENT_ENGINE_ERROR = 7,
};
struct dek_event {
	__u64 sequence;
	__u64 generation; /* of the endpoint's map */
	__u64 time_ns;	  /* CLOCK_REALTIME */
	__u64 handle;	  /* association, or 0 */
	__u64 lba;	  /* fence hit, or 0 */
	__u8 uuid[DEK_UUID_SIZE];
	__u32 type; /* enum dek_event_type */
	__u32 reserved;
};
#define DEK_EVENTS_PAGE 200u
struct dek_ioc_events {
	__u64 cursor;
	__u32 count;
	__u32 more;
	struct dek_event event[DEK_EVENTS_PAGE];
};

/* ---- Userspace shim only (the kernel's counterpart is a dm table). ----
 * VOLUME_CREATE: opens `device` (a block device or a regular file; EBUSY if another volume has it or,
 * for a block device, anybody holds it exclusively, for a file, anybody has a flock() on it) and exports sectors [offset, offset + count) as the
 * file `name` of the volumes directory, with a fresh, unmapped endpoint under `uuid`. count and offset
 * are multiples of logical_block. EEXIST: UUID or name in use. EINVAL: bad name ([A-Za-z0-9._-], not
 * starting with a dot), sizes, unit. ENXIO: the device is smaller.
 * VOLUME_REMOVE: EBUSY while the file is open or still mounted out of sight. VOLUME_RESIZE: only `count` changes; EBUSY when a map
 * or association would be cut. What a mapped volume grows by is fenced until the next map; E2BIG: that
 * is one range too many.
 */
#define DEK_VOLUME_READONLY 1u
#define DEK_VOLUME_NO_ENGINE 2u /* begins with its engine off */
struct dek_ioc_volume {
	__u8 uuid[DEK_UUID_SIZE];
	__u64 offset;	     /* sectors of the device */
	__u64 count;	     /* sectors */
	__u32 data_unit;     /* bytes, 512..4096, power of two */
	__u32 logical_block; /* bytes, >= data_unit and >= the device's own */
	__u32 fence;	     /* enum dek_fence */
	__u32 flags;	     /* DEK_VOLUME_* */
	__u32 recover_ms;    /* how long encrypted I/O waits for keys after a restart; 0: 60 s */
	__u32 reserved;
	char name[DEK_NAME_SIZE];
	char device[DEK_PATH_SIZE]; /* absolute */
};
struct dek_ioc_volume_ref {
	__u8 uuid[DEK_UUID_SIZE];
	__u64 count; /* RESIZE: the new length in sectors; REMOVE: 0 */
};

#define DEK_IOC_TYPE 0xDE
#define DEK_IOC_VERSION _IOR(DEK_IOC_TYPE, 0x00, struct dek_ioc_version)
#define DEK_IOC_COMMAND _IOWR(DEK_IOC_TYPE, 0x01, struct dek_ioc_command)
#define DEK_IOC_MAP _IOW(DEK_IOC_TYPE, 0x02, struct dek_ioc_map)
#define DEK_IOC_QUIESCE _IOWR(DEK_IOC_TYPE, 0x03, struct dek_ioc_quiesce)
#define DEK_IOC_RELEASE _IOW(DEK_IOC_TYPE, 0x04, struct dek_ioc_release)
#define DEK_IOC_YIELD _IOW(DEK_IOC_TYPE, 0x05, struct dek_ioc_yield)
#define DEK_IOC_FENCE _IOW(DEK_IOC_TYPE, 0x06, struct dek_ioc_fence)
#define DEK_IOC_LIST _IOWR(DEK_IOC_TYPE, 0x07, struct dek_ioc_list)
#define DEK_IOC_RANGES _IOWR(DEK_IOC_TYPE, 0x08, struct dek_ioc_ranges)
#define DEK_IOC_ASSOCIATIONS _IOWR(DEK_IOC_TYPE, 0x09, struct dek_ioc_associations)
#define DEK_IOC_TOKENS _IOWR(DEK_IOC_TYPE, 0x0a, struct dek_ioc_tokens)
#define DEK_IOC_STATS _IOWR(DEK_IOC_TYPE, 0x0b, struct dek_ioc_stats)
#define DEK_IOC_EVENTS _IOWR(DEK_IOC_TYPE, 0x0c, struct dek_ioc_events)
#define DEK_IOC_ENGINE _IOW(DEK_IOC_TYPE, 0x0d, struct dek_ioc_engine)
#define DEK_IOC_VOLUME_CREATE _IOW(DEK_IOC_TYPE, 0x20, struct dek_ioc_volume)
#define DEK_IOC_VOLUME_REMOVE _IOW(DEK_IOC_TYPE, 0x21, struct dek_ioc_volume_ref)
#define DEK_IOC_VOLUME_RESIZE _IOW(DEK_IOC_TYPE, 0x22, struct dek_ioc_volume_ref)

DEK_SIZED(dek_ioc_version, 680);
DEK_SIZED(dek_ioc_command, 1552);
DEK_SIZED(dek_map_entry, 24);
DEK_SIZED(dek_ioc_map, 32 + 24 * DEK_MAP_PAGE);
DEK_SIZED(dek_ioc_quiesce, 48);
DEK_SIZED(dek_ioc_release, 24);
DEK_SIZED(dek_ioc_yield, 40);
DEK_SIZED(dek_ioc_fence, 24);
DEK_SIZED(dek_ioc_engine, 24);
DEK_SIZED(dek_list_entry, 472);
DEK_SIZED(dek_ioc_list, 24 + 472 * DEK_LIST_PAGE);
DEK_SIZED(dek_range_entry, 32);
DEK_SIZED(dek_ioc_ranges, 32 + 32 * DEK_RANGES_PAGE);
DEK_SIZED(dek_association_entry, 128);
DEK_SIZED(dek_ioc_associations, 32 + 128 * DEK_ASSOCIATIONS_PAGE);
DEK_SIZED(dek_token_entry, 24);
DEK_SIZED(dek_ioc_tokens, 32 + 24 * DEK_TOKENS_PAGE);
DEK_SIZED(dek_ioc_stats, 144);
DEK_SIZED(dek_event, 64);
DEK_SIZED(dek_ioc_events, 16 + 64 * DEK_EVENTS_PAGE);
DEK_SIZED(dek_ioc_volume, 56 + DEK_NAME_SIZE + DEK_PATH_SIZE);
DEK_SIZED(dek_ioc_volume_ref, 24);
DEK_STATIC_ASSERT(sizeof(struct dek_ioc_map) <= DEK_IOCTL_MAX, "one FUSE ioctl");
DEK_STATIC_ASSERT(sizeof(struct dek_ioc_ranges) <= DEK_IOCTL_MAX, "one FUSE ioctl");
DEK_STATIC_ASSERT(sizeof(struct dek_ioc_associations) <= DEK_IOCTL_MAX, "one FUSE ioctl");
DEK_STATIC_ASSERT(sizeof(struct dek_ioc_list) <= DEK_IOCTL_MAX, "one FUSE ioctl");
DEK_STATIC_ASSERT(sizeof(struct dek_ioc_events) <= DEK_IOCTL_MAX, "one FUSE ioctl");

#endif
