/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * What the data path reads: one immutable snapshot of an endpoint, and the pure functions over it.
 *
 * Threading: any number of readers may use a snapshot while it is published or while they are inside
 * whatever the shim calls a read section (RCU in the kernel, a per-thread lock in userspace). A snapshot
 * is never modified; a change makes the next one, sharing all that stays (structural sharing), so
 * installing n ranges, 60 a command, costs O(n log n) in all. The single writer is whoever holds the
 * endpoint's command lock.
 *
 * All LBAs are 512-byte sectors of the device under the endpoint.
 */
#ifndef DEK_CORE_SNAPSHOT_H
#define DEK_CORE_SNAPSHOT_H

#include <dek/codec.h>
#include <dek/ioctl.h>

#ifdef __cplusplus
extern "C" {
#endif

struct dek_snapshot;

/*
 * An association: immutable but for its reference count. Held by the snapshots that show it, by the
 * endpoint's table of handles, and by each I/O begun under it; whoever drops the last hold wipes the key
 * (dek_association_put). The key itself is in `key`, memory the shim's allocator locks where it can.
 */
struct dek_association {
	dek_ref_t refs;
	__u64 handle;
	struct dek_geometry geometry;
	__u8 algorithm;
	__u8 mode;
	__u8 key_length; /* bytes of key: 32 or 64 */
	__u8 key_id_length;
	__u8 key_id[DEK_KEY_ID_MAX];
	__u8 key[DEK_KEY_DATA_SIZE];
	void *engine; /* the shim's prepared key (struct dek_engine_ops) */
	const struct dek_engine_ops *ops;
	void *shim; /* argument of ops */
	struct dek_association *dropped; /* the core's: links what a change no longer shows */
	__u32 map_count;
	struct dek_range map[DEK_MAX_RANGES]; /* neighbours joined */
};

/* What the shim's cipher does for the core. Called under the command lock; may sleep. */
struct dek_engine_ops {
	/*
	 * Make a->key ready for use (a->engine). OK, INVALID_KEY, INVALID_HW_STATE or NO_MEMORY.
	 */
	enum dek_status (*key_set)(void *shim, struct dek_association *a);
	/* The last hold is gone; from any context. The core wipes a->key itself. */
	void (*key_drop)(void *shim, struct dek_association *a);
	/*
	 * Fill `key` from a wrapped blob, a keyring reference or (cmd->blob.present false) the key ID alone.
	 * NULL, or NOT_CAPABLE: the endpoint takes no such blob. INVALID_KEY: no such KEK or key, or the tag
	 * is wrong. NO_MEMORY, INVALID_HW_STATE, BUSY: as they say.
	 */
	enum dek_status (*key_resolve)(void *shim, const struct dek_command *cmd, __u8 key[DEK_KEY_DATA_SIZE],
				       __u8 *key_length);
	/*
	 * May a new key be taken now? OK, BUSY, INVALID_HW_STATE, NOT_CAPABLE or NO_MEMORY (capacity). NULL:
	 * always OK. Query asks too, with a geometry that says only the endpoint's data unit.
	 */
	enum dek_status (*ready)(void *shim, const struct dek_geometry *geometry);
	/* n bytes of cryptographic randomness. */
	void (*random)(void *shim, void *out, size_t n);
};

static inline void dek_association_get(struct dek_association *a) { dek_ref_get(&a->refs); }
/* Nobody holds it. */
void dek_association_free(struct dek_association *a);
/* Takes NULL. From any context. */
static inline void dek_association_put(struct dek_association *a)
{
	if (a && dek_ref_put(&a->refs))
		dek_association_free(a);
}

/*
 * Quiesce tokens and unfinished commands together, per endpoint. Few, because lifting one must never
 * fail: a snapshot has room for all of them, and each brings the memory for the snapshot without it.
 */
#define DEK_HOLDS_MAX 128u

/* What becomes of a piece of I/O. */
enum dek_verdict {
	DEK_PASS = 0,	/* to the device as it is: plain, yielded, or a read of a reserved or unmapped range */
	DEK_CRYPT = 1,	/* through piece.association */
	DEK_WAIT = 2,	/* queue it; look it up afresh after the next publication */
	DEK_REFUSE = 3, /* a write to a reserved or unmapped range: EIO (EPERM to a controller), never passed */
	DEK_FENCED = 4, /* what snapshot->fence says: EIO, TRANSPORT, or hold (then treat as WAIT) */
};

struct dek_piece {
	__u64 count; /* LBAs from the first one asked for that share the verdict; >= 1 */
	enum dek_verdict verdict;
	struct dek_association *association; /* DEK_CRYPT; take a hold before leaving the read section */
};

/*
 * The first piece of [lba, lba + count), count >= 1. O(log ranges), touches no lock and allocates
 * nothing. LBAs beyond the endpoint are refused. Adjacent segments of one association come as one piece.
 * Holds (quiesce tokens, commands that wait for old I/O) answer DEK_WAIT first of all.
 */
void dek_snapshot_lookup(const struct dek_snapshot *s, __u64 lba, __u64 count, bool write, struct dek_piece *piece);

/* How encryption of a piece goes on: data units numbered from `tweak`, each `step` further. */
struct dek_tweak_run {
	__u64 tweak;  /* of the first data unit */
	__u32 step;   /* 1 (unit) or data_unit / 512 (lba512) */
	__u64 count;  /* LBAs until the numbers jump (end of a stripe chunk) or the piece ends */
};
/* The logical LBA of one in a stripe; *count shrinks to what is left of the chunk. */
__u64 dek_tweak_chunk(const struct dek_geometry *g, __u64 lba, __u64 *count);
/* C lets a function and a struct have one name. */
#ifdef __cplusplus
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#endif
/* lba is the start of a data unit inside the association's map; count > 0, a multiple of the unit. */
static inline void dek_tweak_run(const struct dek_geometry *g, __u64 lba, __u64 count, struct dek_tweak_run *run)
{
	unsigned int shift = (unsigned int)__builtin_ctz(g->data_unit) - 9;
	__u64 logical = g->logical_origin + (lba - g->device_origin);

	run->count = count;
	if (__builtin_expect(g->chunk != 0, 0))
		logical = dek_tweak_chunk(g, lba, &run->count);
	run->tweak = g->tweak_rule == DEK_TWEAK_UNIT ? logical >> shift : logical;
	run->step = g->tweak_rule == DEK_TWEAK_UNIT ? 1 : 1u << shift;
}
#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif
/* True if a geometry can be served: unit sizes, chunk a multiple of the unit, origins congruent to it. */
bool dek_geometry_valid(const struct dek_geometry *g);

__u64 dek_snapshot_generation(const struct dek_snapshot *s); /* 0: unmapped */
__u64 dek_snapshot_ranges(const struct dek_snapshot *s);
enum dek_fence dek_snapshot_fence(const struct dek_snapshot *s);
bool dek_snapshot_recovering(const struct dek_snapshot *s);
/* Any encrypted range without a key and not yielded? O(1). */
bool dek_snapshot_has_fenced(const struct dek_snapshot *s);

/*
 * The first range that ends beyond lba, for lists; false: none. Neighbours of one association are joined.
 * out->held: somewhere in it I/O is kept waiting.
 */
bool dek_snapshot_next(const struct dek_snapshot *s, __u64 lba, struct dek_range_entry *out);

#ifdef __cplusplus
}
#endif

#endif
