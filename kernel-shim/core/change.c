/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Drafts, tasks and holds: from one snapshot to the next, and what waits for old I/O in between.
 */
#include "endpoint_private.h"

static struct dek_hold *hold_create(const struct dek_range *range, __u32 n)
{
	struct dek_hold *hold = dek_alloc(sizeof(*hold) + n * sizeof(*range));

	if (!hold)
		return NULL;
	hold->count = n;
	memcpy(hold->range, range, n * sizeof(*range));
	return hold;
}

static struct dek_task *task_create(struct dek_endpoint *ep, const struct dek_range *range, __u32 n)
{
	struct dek_task *task = dek_alloc(sizeof(*task));

	if (!task)
		return NULL;
	task->hold = hold_create(range, n);
	task->spare = dek_alloc(sizeof(*task->spare));
	if (!task->hold || !task->spare) {
		dek_free(task->hold);
		dek_free(task->spare);
		dek_free(task);
		return NULL;
	}
	task->id = ep->next_hold;
	task->draining = true;
	return task;
}

/* What `from` shows, to be altered. */
static void snapshot_copy(struct dek_snapshot *to, const struct dek_snapshot *from)
{
	memcpy(to, from, sizeof(*to));
	memset(&to->reclaim, 0, sizeof(to->reclaim));
}

bool dek_draft_begin(struct dek_endpoint *ep, struct dek_draft *draft, const struct dek_range *drain, __u32 n)
{
	draft->task = NULL;
	draft->next = dek_alloc(sizeof(*draft->next));
	if (!draft->next)
		return false;
	snapshot_copy(draft->next, ep->newest);
	if (!n)
		return true;
	draft->task = task_create(ep, drain, n);
	if (!draft->task) {
		dek_draft_cancel(draft);
		return false;
	}
	draft->next->hold[draft->next->holds++] = draft->task->hold;
	return true;
}

void dek_draft_cancel(struct dek_draft *draft)
{
	if (draft->task) {
		dek_free(draft->task->hold);
		dek_free(draft->task->spare);
		dek_free(draft->task);
	}
	dek_free(draft->next);
}

void dek_draft_weave(struct dek_endpoint *ep)
{
	ep->newest->reclaim.blocks = ep->weave.dropped;
}

void dek_draft_unshow(struct dek_endpoint *ep, struct dek_association *a)
{
	a->dropped = ep->newest->reclaim.associations;
	ep->newest->reclaim.associations = a;
}

void dek_draft_finish(struct dek_endpoint *ep, struct dek_draft *draft, struct dek_change *change)
{
	dek_snapshot_shorten(draft->next);
	change->next = draft->next;
	change->reclaim = &ep->newest->reclaim;
	if (!draft->task)
		return;
	ep->next_hold++;
	draft->task->next = ep->tasks;
	ep->tasks = draft->task;
	dek_task_await(draft->task, change);
}

struct dek_task *dek_task_find(struct dek_endpoint *ep, __u64 id)
{
	struct dek_task *task = ep->tasks;

	while (task && task->id != id)
		task = task->next;
	return task;
}

struct dek_task *dek_task_of(struct dek_endpoint *ep, __u64 handle)
{
	struct dek_task *task = ep->tasks;

	while (task && (task->kind == DEK_TASK_QUIESCE || task->handle != handle))
		task = task->next;
	return task;
}

void dek_task_await(const struct dek_task *task, struct dek_change *change)
{
	change->hold = task->id;
	change->handle = task->handle;
	change->drain_count = task->hold->count;
	memcpy(change->drain, task->hold->range, task->hold->count * sizeof(change->drain[0]));
}

void dek_task_lift(struct dek_endpoint *ep, struct dek_task *task, struct dek_change *change)
{
	struct dek_snapshot *next = task->spare;
	__u32 i;

	snapshot_copy(next, ep->newest);
	for (i = 0; next->hold[i] != task->hold; i++)
		;
	next->hold[i] = next->hold[--next->holds];
	task->hold->block.next = NULL;
	ep->newest->reclaim.blocks = &task->hold->block;
	change->next = next;
	change->reclaim = &ep->newest->reclaim;
	task->hold = NULL;
	task->spare = NULL;
	task->draining = false;
}

void dek_task_free(struct dek_endpoint *ep, struct dek_task *task)
{
	struct dek_task **link = &ep->tasks;

	while (*link != task)
		link = &(*link)->next;
	*link = task->next;
	dek_free(task->hold);
	dek_free(task->spare);
	dek_free(task);
}

bool dek_tasks_hold(const struct dek_endpoint *ep, const struct dek_range *map, __u32 n, __u64 own)
{
	const struct dek_task *task;
	__u32 i;

	for (task = ep->tasks; task; task = task->next) {
		if (task->kind == DEK_TASK_QUIESCE || !task->hold || (own && task->handle == own))
			continue;
		for (i = 0; i < n; i++) {
			if (dek_hold_overlaps(task->hold, map[i].first, map[i].count))
				return true;
		}
	}
	return false;
}

void dek_task_answer(const struct dek_task *task, __u8 *block)
{
	if (!block)
		return;
	if (task->kind == DEK_TASK_ASSOCIATE)
		dek_put_le64(&((struct dek_wire_associate *)block)->association, task->handle);
	dek_block_answer(block, DEK_OK);
}

/* Commands that have ended untold: no more than DEK_UNTOLD_MAX of them, the newest. */
static void untold_trim(struct dek_endpoint *ep)
{
	struct dek_task *task, *oldest = NULL;
	__u32 n = 0;

	for (task = ep->tasks; task; task = task->next) {
		if (task->kind != DEK_TASK_QUIESCE && !task->hold) {
			oldest = task;
			n++;
		}
	}
	if (n > DEK_UNTOLD_MAX)
		dek_task_free(ep, oldest);
}

/* The old I/O of a command has gone. */
static void command_complete(struct dek_endpoint *ep, struct dek_task *task, struct dek_change *after)
{
	struct dek_association **slot;

	dek_task_lift(ep, task, after);
	after->handle = task->handle;
	after->event = task->kind == DEK_TASK_ASSOCIATE ? DEK_EVENT_ASSOCIATION_MADE :
		       task->kind == DEK_TASK_UPDATE	? DEK_EVENT_ASSOCIATION_CHANGED :
							  DEK_EVENT_ASSOCIATION_LOST;
	if (task->kind == DEK_TASK_DISASSOCIATE) {
		slot = dek_table_find(&ep->table, task->handle);
		dek_association_put(*slot);
		dek_table_remove(&ep->table, slot);
	}
}

void dek_endpoint_drained(struct dek_endpoint *ep, __u64 hold, __u8 *block, struct dek_change *after)
{
	struct dek_task *task = dek_task_find(ep, hold);

	memset(after, 0, sizeof(*after));
	if (hold && hold == ep->map_drain)
		ep->map_drain = 0;
	if (!task) {
		if (block)
			dek_block_answer(block, DEK_OK);
		return;
	}
	if (task->kind == DEK_TASK_QUIESCE) {
		task->draining = false;
		return;
	}
	if (task->hold)
		command_complete(ep, task, after);
	dek_task_answer(task, block);
	/* An Update sent again finds the association as it wants it; the others need to be remembered. */
	if (block || task->kind == DEK_TASK_UPDATE)
		dek_task_free(ep, task);
	else
		untold_trim(ep);
}

void dek_endpoint_gave_up(struct dek_endpoint *ep, __u64 hold, __u8 *block, struct dek_change *after)
{
	struct dek_task *task = dek_task_find(ep, hold);

	memset(after, 0, sizeof(*after));
	if (task && task->kind == DEK_TASK_QUIESCE && task->draining) {
		dek_task_lift(ep, task, after);
		dek_task_free(ep, task);
	}
	if (block)
		dek_block_answer(block, DEK_BUSY);
}

void dek_endpoint_published(struct dek_endpoint *ep, struct dek_change *change)
{
	ep->newest = change->next;
}

void dek_change_reclaim(struct dek_change *change)
{
	struct dek_reclaim *reclaim = change->reclaim;
	struct dek_association *a;

	change->reclaim = NULL;
	if (!reclaim)
		return;
	dek_blocks_free(reclaim->blocks);
	while ((a = reclaim->associations)) {
		reclaim->associations = a->dropped;
		dek_association_put(a);
	}
	dek_free((char *)reclaim - offsetof(struct dek_snapshot, reclaim));
}
