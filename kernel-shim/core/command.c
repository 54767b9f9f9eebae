/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The protocol's five commands. Each is checked to the end before it alters anything; what may fail comes before
 * what cannot.
 */
#include "endpoint_private.h"

#include <dek/lunmap.h>

/* What a checked command is about to do. The edits are in ep->edit, the drain in ep->drain. */
struct plan {
	enum dek_task_kind kind;
	struct dek_association *add;	       /* NULL: Disassociate */
	struct dek_association **replaces;     /* its place in the table; NULL: Associate */
	__u32 edits;
	__u32 drains;
};

static enum dek_status ready(struct dek_endpoint *ep, const struct dek_geometry *g)
{
	const struct dek_endpoint_config *c = &ep->config;

	return c->ops->ready ? c->ops->ready(c->shim, g) : DEK_OK;
}

/* Commands on this association that ended untold are no longer asked about. */
static void untold_forget(struct dek_endpoint *ep, __u64 handle)
{
	struct dek_task *task = ep->tasks, *next;

	for (; task; task = next) {
		next = task->next;
		if (task->kind != DEK_TASK_QUIESCE && !task->hold && task->handle == handle)
			dek_task_free(ep, task);
	}
}

static void plan_commit(struct dek_endpoint *ep, const struct plan *plan, struct dek_draft *draft,
			struct dek_change *change)
{
	__u64 handle = plan->replaces ? (*plan->replaces)->handle : ep->next_handle++;

	dek_draft_weave(ep);
	if (plan->replaces)
		dek_draft_unshow(ep, *plan->replaces);
	if (plan->add)
		dek_association_get(plan->add);
	if (plan->add && plan->replaces) {
		struct dek_association *old = *plan->replaces;

		*plan->replaces = plan->add;
		dek_association_put(old);
	} else if (plan->add) {
		dek_table_append(&ep->table, plan->add);
	}
	untold_forget(ep, handle);
	if (draft->task) {
		draft->task->kind = plan->kind;
		draft->task->handle = handle;
	} else {
		change->event = plan->replaces ? DEK_EVENT_ASSOCIATION_CHANGED : DEK_EVENT_ASSOCIATION_MADE;
	}
	change->handle = handle;
	dek_draft_finish(ep, draft, change);
}

/* What of a plan may fail, once its memory is there. The tree's nodes are the weave's until it is committed. */
static enum dek_status plan_prepare(struct dek_endpoint *ep, const struct plan *plan, struct dek_snapshot *next)
{
	const struct dek_endpoint_config *c = &ep->config;
	enum dek_status status = DEK_OK;

	if (!dek_tree_edit(&ep->weave, &ep->newest->tree, ep->edit, plan->edits, &next->tree))
		return DEK_NO_MEMORY;
	if (dek_too_many(ep, next))
		status = DEK_ASSOCIATION_OVERFLOW;
	else if (plan->add && !plan->replaces && !dek_table_reserve(&ep->table))
		status = DEK_NO_MEMORY;
	else if (plan->add)
		status = dek_association_engage(plan->add, c->ops, c->shim);
	if (status != DEK_OK)
		dek_blocks_free(ep->weave.fresh);
	return status;
}

static enum dek_status plan_carry_out(struct dek_endpoint *ep, const struct plan *plan, struct dek_change *change)
{
	struct dek_draft draft;
	enum dek_status status;

	if (plan->drains && ep->newest->holds == DEK_HOLDS_MAX)
		return DEK_BUSY;
	if (!dek_draft_begin(ep, &draft, ep->drain, plan->drains))
		return DEK_NO_MEMORY;
	status = plan_prepare(ep, plan, draft.next);
	if (status == DEK_OK)
		plan_commit(ep, plan, &draft, change);
	else
		dek_draft_cancel(&draft);
	return status;
}

/* Edits: `gone` becomes fenced, the association's map keyed. Both are sorted, and disjoint. */
static __u32 edits_merge(struct dek_edit *edit, const struct dek_range *gone, __u32 n, struct dek_association *add)
{
	__u32 g = 0, k = 0, count = 0, keyed = add ? add->map_count : 0;

	while (g < n || k < keyed) {
		bool fence = k == keyed || (g < n && gone[g].first < add->map[k].first);
		const struct dek_range *r = fence ? &gone[g++] : &add->map[k++];

		edit[count].first = r->first;
		edit[count].end = r->first + r->count;
		edit[count++].value = fence ? DEK_RANGE_FENCED : dek_value_keyed(add);
	}
	return count;
}

/* What the endpoint can do at all, before any key is looked at. */
static enum dek_status check_capable(const struct dek_endpoint *ep, const struct dek_command *cmd)
{
	if (!ep->config.engine || (cmd->blob.present && cmd->blob.type == DEK_BLOB_UNWRAPPED && !ep->on_host))
		return DEK_NOT_CAPABLE;
	if (cmd->geometry.data_unit != ep->config.data_unit || !dek_geometry_valid(&cmd->geometry))
		return DEK_NOT_CAPABLE;
	return DEK_OK;
}

static enum dek_status check_inside(const struct dek_endpoint *ep, const struct dek_command *cmd)
{
	__u32 i;

	for (i = 0; i < cmd->map_count; i++) {
		struct dek_range r = dek_command_range(cmd, i);

		if (!dek_inside(ep, r.first, r.count) || !dek_aligned(ep, r.first, r.count))
			return DEK_INVALID_RANGE;
	}
	return DEK_OK;
}

/*
 * The association that a command describes, its key included. Without a blob an Update of `old` keeps its key, and
 * a refresh does not ask for one.
 */
static enum dek_status candidate(struct dek_endpoint *ep, const struct dek_command *cmd,
				 const struct dek_association *old, struct dek_association **out)
{
	enum dek_status status = check_capable(ep, cmd);
	struct dek_association *a;

	if (status == DEK_OK)
		status = check_inside(ep, cmd);
	if (status != DEK_OK)
		return status;
	a = dek_association_create(cmd);
	if (!a)
		return DEK_NO_MEMORY;
	if (old && !cmd->blob.present && (cmd->opcode == DEK_OP_ASSOCIATE || dek_association_same_id(a, old)))
		dek_association_inherit(a, old);
	else
		status = dek_association_resolve(a, cmd, ep->config.ops, ep->config.shim);
	if (status == DEK_OK)
		*out = a;
	else
		dek_association_put(a);
	return status;
}

static bool same(const struct dek_association *a, const struct dek_association *b)
{
	return dek_association_same_kind(a, b) && dek_association_same_map(a, b) && dek_association_same_key(a, b);
}

/* May these ranges become `old`'s, or (NULL) a new association's? */
static enum dek_status check_ranges(struct dek_endpoint *ep, const struct dek_range *map, __u32 n,
				    const struct dek_association *old)
{
	struct dek_survey survey;
	__u32 i;

	if (ep->map_drain || dek_tasks_hold(ep, map, n, old ? old->handle : 0))
		return DEK_BUSY;
	for (i = 0; i < n; i++) {
		dek_survey(ep, map[i], old, &survey);
		if (survey.foreign || survey.states & 1u << DEK_RANGE_RESERVED)
			return DEK_INVALID_RANGE;
	}
	return DEK_OK;
}

/* Of n ranges in place, those where I/O that passed may be under way: also from before a shrinking. */
static __u32 keep_passing(const struct dek_endpoint *ep, struct dek_range *map, __u32 n)
{
	struct dek_survey survey;
	__u32 i, kept = 0;

	for (i = 0; i < n; i++) {
		dek_survey(ep, map[i], NULL, &survey);
		if (survey.states & (1u << DEK_RANGE_PLAIN | 1u << DEK_RANGE_YIELDED) ||
		    map[i].first + map[i].count > ep->mapped_end)
			map[kept++] = map[i];
	}
	return kept;
}

/* The same Associate, sent again: unfinished, or ended untold. NULL: there is none. */
static struct dek_task *task_resent(struct dek_endpoint *ep, const struct dek_association *a)
{
	struct dek_task *task;

	for (task = ep->tasks; task; task = task->next) {
		if (task->kind == DEK_TASK_ASSOCIATE && same(a, *dek_table_find(&ep->table, task->handle)))
			return task;
	}
	return NULL;
}

/* Goes on waiting, or says that all is done. */
static enum dek_status task_resume(struct dek_endpoint *ep, struct dek_task *task, struct dek_change *change)
{
	change->handle = task->handle;
	if (task->hold)
		dek_task_await(task, change);
	else
		dek_task_free(ep, task);
	return DEK_OK;
}

static enum dek_status associate_candidate(struct dek_endpoint *ep, struct dek_association *a,
					   struct dek_change *change)
{
	struct plan plan = { .kind = DEK_TASK_ASSOCIATE, .add = a };
	enum dek_status status = check_ranges(ep, a->map, a->map_count, NULL);

	if (status != DEK_OK)
		return status;
	if (ep->table.count >= ep->config.max_associations)
		return DEK_ASSOCIATION_OVERFLOW;
	status = ready(ep, &a->geometry);
	if (status != DEK_OK)
		return status;
	a->handle = ep->next_handle;
	memcpy(ep->drain, a->map, a->map_count * sizeof(a->map[0]));
	plan.drains = keep_passing(ep, ep->drain, a->map_count);
	plan.edits = edits_merge(ep->edit, NULL, 0, a);
	return plan_carry_out(ep, &plan, change);
}

static enum dek_status associate_new(struct dek_endpoint *ep, const struct dek_command *cmd, struct dek_change *change)
{
	struct dek_association *a;
	struct dek_task *task;
	enum dek_status status = candidate(ep, cmd, NULL, &a);

	if (status != DEK_OK)
		return status;
	task = task_resent(ep, a);
	if (task) {
		dek_association_put(a);
		return task_resume(ep, task, change);
	}
	status = associate_candidate(ep, a, change);
	if (status != DEK_OK)
		dek_association_put(a);
	return status;
}

static enum dek_status associate_refresh(struct dek_endpoint *ep, const struct dek_command *cmd,
					 struct dek_change *change)
{
	struct dek_association **slot = dek_table_find(&ep->table, cmd->association);
	const struct dek_task *task = dek_task_of(ep, cmd->association);
	struct dek_association *a;
	enum dek_status status;

	if (!slot)
		return DEK_UNKNOWN_HANDLE;
	if (task && task->hold)
		return DEK_BUSY;
	status = candidate(ep, cmd, *slot, &a);
	if (status != DEK_OK)
		return status;
	if (!same(a, *slot))
		status = DEK_ASSOCIATION_EXISTS;
	change->handle = cmd->association;
	dek_association_put(a);
	return status;
}

/* LBAs whose I/O under `old` must end before `a` serves them, or theirs is over: into ep->drain. */
static __u32 update_drain(struct dek_endpoint *ep, const struct dek_association *old, const struct dek_association *a)
{
	bool rekeyed = !dek_association_same_kind(a, old) || !dek_association_same_key(a, old);
	size_t leaving = old->map_count, arriving;

	memcpy(ep->leaving, old->map, leaving * sizeof(old->map[0]));
	if (!rekeyed)
		leaving = dek_map_subtract(old->map, old->map_count, a->map, a->map_count, ep->leaving,
					   DEK_SCRATCH_RANGES);
	arriving = dek_map_subtract(a->map, a->map_count, old->map, old->map_count, ep->arriving, DEK_SCRATCH_RANGES);
	arriving = keep_passing(ep, ep->arriving, (__u32)arriving);
	return (__u32)dek_map_union(ep->leaving, leaving, ep->arriving, arriving, ep->drain, DEK_SCRATCH_RANGES);
}

static enum dek_status update_candidate(struct dek_endpoint *ep, struct dek_association *a,
					struct dek_association **slot, struct dek_change *change)
{
	struct plan plan = { .kind = DEK_TASK_UPDATE, .add = a, .replaces = slot };
	const struct dek_association *old = *slot;
	enum dek_status status = check_ranges(ep, a->map, a->map_count, old);
	size_t gone;

	if (status != DEK_OK)
		return status;
	a->handle = old->handle;
	plan.drains = update_drain(ep, old, a);
	gone = dek_map_subtract(old->map, old->map_count, a->map, a->map_count, ep->leaving, DEK_SCRATCH_RANGES);
	plan.edits = edits_merge(ep->edit, ep->leaving, (__u32)gone, a);
	return plan_carry_out(ep, &plan, change);
}

static enum dek_status update(struct dek_endpoint *ep, const struct dek_command *cmd, struct dek_change *change)
{
	struct dek_association **slot = dek_table_find(&ep->table, cmd->association);
	struct dek_task *task = dek_task_of(ep, cmd->association);
	struct dek_association *a;
	enum dek_status status;
	bool again;

	if (!slot)
		return DEK_UNKNOWN_HANDLE;
	status = candidate(ep, cmd, *slot, &a);
	if (status != DEK_OK)
		return status;
	again = same(a, *slot);
	if (task && task->hold) {
		dek_association_put(a);
		return task->kind == DEK_TASK_UPDATE && again ? task_resume(ep, task, change) : DEK_BUSY;
	}
	change->handle = cmd->association;
	if (!again)
		status = update_candidate(ep, a, slot, change);
	if (again || status != DEK_OK)
		dek_association_put(a);
	return status;
}

static enum dek_status disassociate(struct dek_endpoint *ep, const struct dek_command *cmd, struct dek_change *change)
{
	struct plan plan = { .kind = DEK_TASK_DISASSOCIATE };
	struct dek_task *task = dek_task_of(ep, cmd->association);
	const struct dek_association *a;

	if (task && task->kind == DEK_TASK_DISASSOCIATE)
		return task_resume(ep, task, change);
	if (task && task->hold)
		return DEK_BUSY;
	plan.replaces = dek_table_find(&ep->table, cmd->association);
	if (!plan.replaces)
		return DEK_UNKNOWN_HANDLE;
	a = *plan.replaces;
	plan.edits = edits_merge(ep->edit, a->map, a->map_count, NULL);
	plan.drains = a->map_count;
	memcpy(ep->drain, a->map, a->map_count * sizeof(a->map[0]));
	return plan_carry_out(ep, &plan, change);
}

/* Would an Associate of these ranges be taken now? Those that are keyed already would need nothing new. */
static enum dek_status query(struct dek_endpoint *ep, const struct dek_command *cmd)
{
	struct dek_geometry geometry = { .data_unit = ep->config.data_unit };
	__s64 ranges = (__s64)dek_snapshot_ranges(ep->newest);
	bool added = false;
	struct dek_survey survey;
	__u32 i;

	if (check_inside(ep, cmd) != DEK_OK)
		return DEK_INVALID_RANGE;
	if (!ep->config.engine)
		return DEK_NOT_CAPABLE;
	for (i = 0; i < cmd->map_count; i++) {
		struct dek_range r = dek_command_range(cmd, i);

		if (ep->map_drain || dek_tasks_hold(ep, &r, 1, 0))
			return DEK_BUSY;
		dek_survey(ep, r, NULL, &survey);
		if (survey.states & 1u << DEK_RANGE_RESERVED)
			return DEK_INVALID_RANGE;
		if (survey.states == 1u << DEK_RANGE_KEYED)
			continue;
		added = true;
		ranges += survey.growth;
	}
	if (added && (ranges > ep->config.max_ranges || ep->table.count >= ep->config.max_associations))
		return DEK_ASSOCIATION_OVERFLOW;
	return ready(ep, &geometry);
}

static enum dek_status addressed(struct dek_endpoint *ep, const struct dek_command *cmd, struct dek_change *change)
{
	if (cmd->endpoint_id != ep->id)
		return DEK_UNKNOWN_ENDPOINT;
	switch (cmd->opcode) {
	case DEK_OP_QUERY:
		return query(ep, cmd);
	case DEK_OP_ASSOCIATE:
		return cmd->association ? associate_refresh(ep, cmd, change) : associate_new(ep, cmd, change);
	case DEK_OP_UPDATE:
		return update(ep, cmd, change);
	}
	return disassociate(ep, cmd, change);
}

void dek_endpoint_command(struct dek_endpoint *ep, __u8 block[DEK_BLOCK_SIZE], struct dek_change *change)
{
	struct dek_command cmd;
	enum dek_status status = dek_block_decode(block, &cmd);

	memset(change, 0, sizeof(*change));
	if (status == DEK_OK && cmd.opcode == DEK_OP_HANDSHAKE) {
		if (dek_same_text(cmd.class_name, ep->config.class_name))
			dek_block_answer_handshake(block, ep->id,
						   ep->config.version ? ep->config.version : DEK_PROTO_VERSION);
		else
			dek_block_answer(block, DEK_UNKNOWN_ENDPOINT);
		return;
	}
	if (status == DEK_OK)
		status = addressed(ep, &cmd, change);
	if (change->hold)
		return;
	if (status == DEK_OK && cmd.opcode == DEK_OP_ASSOCIATE)
		dek_put_le64(&((struct dek_wire_associate *)block)->association, change->handle);
	dek_block_answer(block, status);
}
