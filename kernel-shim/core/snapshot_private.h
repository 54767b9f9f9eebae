/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * What a snapshot is made of. Private to the core.
 */
#ifndef DEK_CORE_SNAPSHOT_PRIVATE_H
#define DEK_CORE_SNAPSHOT_PRIVATE_H

#include "snapshot.h"
#include "tree.h"

/* LBAs where I/O waits: a quiesce token or an unfinished command. Shown by snapshots, never modified. */
struct dek_hold {
	struct dek_block block;
	__u32 count;
	struct dek_range range[]; /* sorted, not overlapping */
};

/* What a change no longer shows. Lies in the snapshot that the change replaces, which goes with it. */
struct dek_reclaim {
	struct dek_block *blocks;
	struct dek_association *associations; /* one hold on each is dropped */
};

/* Most volumes have no more: a range or two, what is reserved, and what is plain between them. */
#define DEK_FEW 4u

struct dek_snapshot {
	/* One cache line for the lookup; two where cuts are few. */
	__u64 first;
	__u64 end;
	struct dek_tree tree;
	__u32 holds;
	__u8 verdict[DEK_STATES][2]; /* by state; for reads, for writes */
	bool few; /* all cuts are in few_cut, and behind the last one s->end */
	struct dek_cut few_cut[DEK_FEW + 1];
	const struct dek_hold *hold[DEK_HOLDS_MAX];
	__u64 generation; /* of the map; 0: unmapped */
	enum dek_fence fence;
	bool recovering;
	bool had_map; /* in an earlier life, so what lies there may be ciphertext; never cleared */
	struct dek_reclaim reclaim; /* the writer's */
};

/* Fills few_cut from the tree and the end; the last step to a new snapshot. */
void dek_snapshot_shorten(struct dek_snapshot *s);

/* Fills verdict[] from generation, recovering and had_map. */
void dek_snapshot_judge(struct dek_snapshot *s);

/* Does the hold reach into [first, first + count)? */
bool dek_hold_overlaps(const struct dek_hold *hold, __u64 first, __u64 count);

#endif
