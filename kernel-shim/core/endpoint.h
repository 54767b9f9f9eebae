/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * An encryption endpoint: the state machine behind the protocol and the ioctl, as functions from one
 * snapshot to the next. docs/architecture.md has the picture; DEK management protocol: docs/protocol.md.
 *
 * How a shim makes a change, always under the endpoint's command lock:
 *   1. call a function below; it fills `struct dek_change` and touches nothing readers can see;
 *   2. if change.next: publish it (rcu_assign_pointer or the like), then dek_endpoint_published(); from
 *      here new I/O to the LBAs that change finds DEK_WAIT;
 *   3. if change.drain_count: wait until no I/O that was looked up before the publication overlaps
 *      change.drain[] (bounded, killable);
 *   4. dek_endpoint_drained() (or, if the wait was given up, dek_endpoint_gave_up()): completes the
 *      response block and may bring one more snapshot to publish, which lets the waiting I/O go;
 *   5. dek_change_reclaim() after a grace period (call_rcu; no command waits for one).
 * I/O that waits is looked up afresh after every publication.
 *
 * A command that gave up (BUSY) leaves its hold in place until the old I/O has gone: the shim calls
 * dek_endpoint_drained() for it when that happens by itself (change stays the shim's to keep), so an
 * abandoned controller blocks nobody for ever; sending the command again answers Success then. Sent again
 * before that, it comes back with the same hold and drain[] and next NULL: wait again, as in step 3. Both
 * waits may end in dek_endpoint_drained(); a hold that is no longer known is ignored there (a block is
 * answered Success all the same: what it waited for has happened).
 *
 * The lock may be let go between steps 2 and 4. What arrives meanwhile: a different command on the same
 * association, or one that adds LBAs which an unfinished command holds: Busy. Yield there: EBUSY. Quiesce,
 * Release and the fence: at any time. A new map: at any time; until its own drain is over, Associate and
 * Update answer Busy. A second map takes over the unfinished drain of the first. Release of a token whose
 * Quiesce still drains lifts it.
 *
 * Threading: every function here needs the command lock. Ownership: dek_endpoint_create() gives one
 * reference to the caller; the block is the caller's, read and overwritten in place; keys in it are the
 * caller's to wipe.
 */
#ifndef DEK_CORE_ENDPOINT_H
#define DEK_CORE_ENDPOINT_H

#include "snapshot.h"

#ifdef __cplusplus
extern "C" {
#endif

struct dek_endpoint;

struct dek_endpoint_config {
	__u8 uuid[DEK_UUID_SIZE];
	__u64 first; /* LBAs served: [first, first + count) */
	__u64 count;
	__u32 data_unit; /* bytes; the only unit associations may have */
	__u32 block; /* bytes, at least data_unit: I/O can be cut there, so maps align to it; 0: data_unit */
	const char *class_name; /* not copied: "EHBA" */
	__u32 version; /* of the protocol, as a Handshake is answered; 0: DEK_PROTO_VERSION */
	enum dek_fence fence;
	__u32 engine; /* DEK_ENGINE_*, kept and told, not looked into; 0: off, and it takes no association */
	/* A new life of a volume that had a map or keys: unmapped and fenced ranges wait, later both are fenced. */
	bool recovering;
	__u32 max_associations;
	__u32 max_ranges;
	const struct dek_engine_ops *ops;
	void *shim;
};

/* Room for every range of an Update, old and new map. About 2 KiB: not for a kernel's stack. */
#define DEK_DRAIN_MAX (2 * DEK_MAX_RANGES)

struct dek_change {
	struct dek_snapshot *next; /* NULL: nothing to publish */
	struct dek_reclaim *reclaim; /* what the previous snapshot used and this one does not */
	struct dek_range drain[DEK_DRAIN_MAX];
	__u32 drain_count; /* 0: nothing to wait for; DEK_DRAIN_ALL: everything in flight */
	__u64 hold; /* identifies the unfinished change to dek_endpoint_drained(); 0: none; a quiesce's: its token */
	enum dek_event_type event; /* to announce now; 0: none. With a hold, it comes from dek_endpoint_drained() */
	__u64 handle; /* the association concerned, or 0 */
};
#define DEK_DRAIN_ALL (~0u)

/*
 * NULL: out of memory or config not valid (unit; range empty or beyond 2^55 LBAs, where bytes pass 2^64; no such
 * fence; key_set, key_drop or random missing). Starts unmapped, generation 0.
 */
struct dek_endpoint *dek_endpoint_create(const struct dek_endpoint_config *config);
/* No reader may be left. Drops every association; keys are wiped. */
void dek_endpoint_destroy(struct dek_endpoint *ep);

/* Drawn at random when the endpoint was made; never 0. */
__u64 dek_endpoint_id(const struct dek_endpoint *ep);

/* The snapshot to publish first, and at any time the newest one. */
struct dek_snapshot *dek_endpoint_current(struct dek_endpoint *ep);

/*
 * One command block, answered in place (sealed) unless change->hold is set: then the answer is written by
 * dek_endpoint_drained()/gave_up(). Never fails otherwise: every outcome is a status in the block.
 *
 * Without a blob, an Update that names the association's key ID keeps its key, and a refresh is compared in all but
 * the key; any other Associate or Update asks ops->key_resolve. Neighbouring ranges of a map are one range.
 */
void dek_endpoint_command(struct dek_endpoint *ep, __u8 block[DEK_BLOCK_SIZE], struct dek_change *change);

/*
 * The must-encrypt map: 0 or -errno as in dek/ioctl.h, DEK_IOC_MAP; also -ENOMEM, and -EINVAL for unknown flags
 * or kinds, fields that must be zero, generation 0. Only COMMIT fills `change`; when its drain is given
 * up the caller answers EAGAIN. After EBUSY, and ENOMEM from COMMIT alone, the open map is still there to be
 * committed; any other failure drops it. The uuid is not looked at.
 */
int dek_endpoint_map(struct dek_endpoint *ep, const struct dek_ioc_map *page, struct dek_change *change);

/*
 * 0 or -errno as in dek/ioctl.h; also -EINVAL (empty, outside the endpoint, no such fence; yield: not aligned
 * to the data unit), -ENOMEM, -E2BIG (yield: more ranges than max_ranges), -ENOSPC (quiesce: DEK_HOLDS_MAX).
 * Release needs no memory. What is so already is left alone: change->next stays NULL. Yield under a token that
 * still drains, or where a command is unfinished: -EBUSY.
 */
int dek_endpoint_quiesce(struct dek_endpoint *ep, __u64 first, __u64 count, __u64 *token, struct dek_change *change);
int dek_endpoint_release(struct dek_endpoint *ep, __u64 token, struct dek_change *change);
int dek_endpoint_yield(struct dek_endpoint *ep, __u64 token, __u64 first, __u64 count, struct dek_change *change);
int dek_endpoint_set_fence(struct dek_endpoint *ep, enum dek_fence fence, struct dek_change *change);
/*
 * Which engine associations made from now on use; 0: off, and Query, Associate and Update are answered Not Capable.
 * That the shim has it is the caller's to check. -EBUSY: another than now, and an association is held.
 */
int dek_endpoint_set_engine(struct dek_endpoint *ep, __u32 engine);
__u32 dek_endpoint_engine(const struct dek_endpoint *ep);
/*
 * What a mapped endpoint grows by is fenced until the next map: no I/O passes that no map has judged. -EBUSY: a range
 * of a map, association, token or unfinished command would be cut. -EINVAL: empty, overflow. -E2BIG: the fenced range
 * is one more than max_ranges.
 */
int dek_endpoint_resize(struct dek_endpoint *ep, __u64 count, struct dek_change *change);
/* The deadline for keys has passed, or all have come: fenced ranges stop waiting; without a map all is fenced. */
int dek_endpoint_recovered(struct dek_endpoint *ep, struct dek_change *change);

/* change->next, which must not be NULL, is the endpoint's current snapshot from here. */
void dek_endpoint_published(struct dek_endpoint *ep, struct dek_change *change);
/*
 * The old I/O has gone. `block` may be NULL when nobody is waiting for the answer. Fills `after` with the
 * snapshot that opens the hold.
 */
void dek_endpoint_drained(struct dek_endpoint *ep, __u64 hold, __u8 *block, struct dek_change *after);
/*
 * The wait was given up: the block, if any, is answered BUSY. For a quiesce: the hold is lifted (`after`).
 * drained() and gave_up() allocate nothing and cannot fail.
 */
void dek_endpoint_gave_up(struct dek_endpoint *ep, __u64 hold, __u8 *block, struct dek_change *after);
/* Frees what the change replaced. Needs no lock and may run in any context; the endpoint may be gone. */
void dek_change_reclaim(struct dek_change *change);

/* Lists: the first with a handle or token greater than `above`. Each returns false at the end. */
bool dek_endpoint_next_association(struct dek_endpoint *ep, __u64 above, struct dek_association_entry *out);
bool dek_endpoint_next_token(struct dek_endpoint *ep, __u64 above, struct dek_token_entry *out);
/* Fills what the core knows of a list entry: IDs, bounds, counts, unit, fence, flags, the engine in use. */
void dek_endpoint_describe(struct dek_endpoint *ep, struct dek_list_entry *out);

#ifdef __cplusplus
}
#endif

#endif
