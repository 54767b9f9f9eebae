/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The endpoint and how its changes are put together. Private to the core; under the command lock.
 *
 * Everything that may fail comes before anything is altered: a draft has the memory for the next snapshot and,
 * if the change waits for old I/O, for its task; dek_draft_finish() cannot fail.
 */
#ifndef DEK_CORE_ENDPOINT_PRIVATE_H
#define DEK_CORE_ENDPOINT_PRIVATE_H

#include "association.h"
#include "endpoint.h"
#include "snapshot_private.h"

enum dek_task_kind {
	DEK_TASK_QUIESCE,
	DEK_TASK_ASSOCIATE,
	DEK_TASK_UPDATE,
	DEK_TASK_DISASSOCIATE,
};

/*
 * A quiesce token, a command that waits for old I/O, or one that has ended with nobody there to be told (no
 * hold any more, kept until the command is sent again).
 */
struct dek_task {
	struct dek_task *next;
	__u64 id; /* the hold; of a quiesce also the token */
	enum dek_task_kind kind;
	bool draining;
	__u64 handle;
	struct dek_hold *hold;
	struct dek_snapshot *spare; /* memory for the snapshot without the hold */
};

/* Ended commands remembered; beyond that the oldest is forgotten. */
#define DEK_UNTOLD_MAX 64u

/* The map being paged in. */
struct dek_open_map {
	__u64 generation; /* 0: none is open */
	struct dek_map_entry *entry;
	__u32 count;
	__u32 room;
};

/* Room for the union or difference of two maps, and for an Update's edits. */
#define DEK_SCRATCH_RANGES (2 * DEK_MAX_RANGES)
#define DEK_SCRATCH_EDITS (3 * DEK_MAX_RANGES)

struct dek_endpoint {
	struct dek_endpoint_config config;
	__u8 shift; /* log2 of the LBAs of a data unit */
	bool on_host;
	__u64 id;
	__u64 next_handle;
	__u64 next_hold;
	__u64 mapped_end; /* what lies beyond is new since the newest map: fenced until one says more. Unmapped: the end */
	__u64 map_drain; /* hold of the newest map while it waits for I/O under older ones; 0: none */
	struct dek_snapshot *newest;
	struct dek_table table;
	struct dek_task *tasks; /* newest first */
	struct dek_open_map open;
	struct dek_weave weave;
	/* Too big for a kernel's stack. */
	struct dek_range drain[DEK_SCRATCH_RANGES];
	struct dek_range leaving[DEK_SCRATCH_RANGES];
	struct dek_range arriving[DEK_SCRATCH_RANGES];
	struct dek_edit edit[DEK_SCRATCH_EDITS];
};

struct dek_draft {
	struct dek_snapshot *next;
	struct dek_task *task;
};

/* Memory for a change; false: out of it. With `drain`, for a task that holds these n > 0 ranges. */
bool dek_draft_begin(struct dek_endpoint *ep, struct dek_draft *draft, const struct dek_range *drain, __u32 n);
void dek_draft_cancel(struct dek_draft *draft);
/* Fills `change`: draft->next, altered by the caller, is what to publish; its task, if any, is under way. */
void dek_draft_finish(struct dek_endpoint *ep, struct dek_draft *draft, struct dek_change *change);
/* The next tree is the weave's: what only the current one uses goes. */
void dek_draft_weave(struct dek_endpoint *ep);

/* The next tree does not show the association; its hold goes with the current one. */
void dek_draft_unshow(struct dek_endpoint *ep, struct dek_association *a);

struct dek_task *dek_task_find(struct dek_endpoint *ep, __u64 id);
/* The unfinished or untold command on this association, or NULL. */
struct dek_task *dek_task_of(struct dek_endpoint *ep, __u64 handle);
/* Tells the shim to wait for it (again). */
void dek_task_await(const struct dek_task *task, struct dek_change *change);
/* Ends the hold: `change` gets the snapshot without it. */
void dek_task_lift(struct dek_endpoint *ep, struct dek_task *task, struct dek_change *change);
void dek_task_free(struct dek_endpoint *ep, struct dek_task *task);
/* Does an unfinished command other than `own`'s hold any of these LBAs? */
bool dek_tasks_hold(const struct dek_endpoint *ep, const struct dek_range *map, __u32 n, __u64 own);

/* What lies in a range. */
struct dek_survey {
	__u32 states; /* bit (1 << enum dek_range_state) for each one there */
	bool foreign; /* an association other than the one given */
	__s64 growth; /* by how much the number of ranges would grow if all of it became one range */
};
void dek_survey(const struct dek_endpoint *ep, struct dek_range range, const struct dek_association *own,
		struct dek_survey *out);
static inline bool dek_same_text(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

/* Inside the endpoint and not empty. */
bool dek_inside(const struct dek_endpoint *ep, __u64 first, __u64 count);
bool dek_aligned(const struct dek_endpoint *ep, __u64 first, __u64 count);
bool dek_too_many(const struct dek_endpoint *ep, const struct dek_snapshot *s);

/* The command's answer, association included. `block` may be NULL. */
void dek_task_answer(const struct dek_task *task, __u8 *block);

void dek_open_map_drop(struct dek_open_map *open);

#endif
