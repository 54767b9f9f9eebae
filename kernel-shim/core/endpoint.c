/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The endpoint object: its life, its size and settings, and what lists say of it.
 */
#include "endpoint_private.h"

#include <dek/lunmap.h>

/* Beyond this many LBAs a device would have 2^64 bytes. */
#define LBA_LIMIT (1ull << 55)

bool dek_inside(const struct dek_endpoint *ep, __u64 first, __u64 count)
{
	const struct dek_snapshot *s = ep->newest;

	return count && first >= s->first && first < s->end && count <= s->end - first;
}

bool dek_aligned(const struct dek_endpoint *ep, __u64 first, __u64 count)
{
	return !((first | count) & ((1u << ep->shift) - 1));
}

bool dek_too_many(const struct dek_endpoint *ep, const struct dek_snapshot *s)
{
	return dek_snapshot_ranges(s) > ep->config.max_ranges;
}

void dek_survey(const struct dek_endpoint *ep, struct dek_range range, const struct dek_association *own,
		struct dek_survey *out)
{
	__u64 lba = range.first, end = range.first + range.count;

	out->states = 0;
	out->foreign = false;
	out->growth = 1;
	while (lba < end) {
		struct dek_stretch at = dek_tree_find(&ep->newest->tree, lba, ep->newest->end);
		unsigned int state = dek_value_state(at.value);

		out->states |= 1u << state;
		out->foreign |= state == DEK_RANGE_KEYED && dek_value_association(at.value) != own;
		if (state != DEK_RANGE_PLAIN)
			out->growth += (at.first < range.first) + (at.end > end) - 1;
		lba = at.end;
	}
}

static bool config_valid(const struct dek_endpoint_config *c)
{
	if (c->data_unit < 512 || c->data_unit > 4096 || c->data_unit & (c->data_unit - 1))
		return false;
	if (c->block && (c->block < c->data_unit || c->block & (c->block - 1)))
		return false;
	if (!c->count || c->first > LBA_LIMIT || c->count > LBA_LIMIT - c->first)
		return false;
	return (__u32)c->fence <= DEK_FENCE_HOLD && c->class_name && c->ops && c->ops->key_set && c->ops->key_drop &&
	       c->ops->random;
}

/* Where handles or tokens begin: never 0, and too low to come round in any life. */
static __u64 draw(const struct dek_endpoint_config *c)
{
	__u64 n;

	c->ops->random(c->shim, &n, sizeof(n));
	return (n >> 1) + 1;
}

static bool first_snapshot(struct dek_endpoint *ep)
{
	struct dek_snapshot *s = dek_alloc(sizeof(*s));

	ep->newest = s;
	if (!s || !dek_tree_plain(&ep->weave, &s->tree))
		return false;
	s->first = ep->config.first;
	s->end = ep->config.first + ep->config.count;
	s->fence = ep->config.fence;
	s->recovering = s->had_map = ep->config.recovering;
	dek_snapshot_judge(s);
	dek_snapshot_shorten(s);
	return true;
}

struct dek_endpoint *dek_endpoint_create(const struct dek_endpoint_config *config)
{
	struct dek_endpoint *ep;

	if (!config_valid(config))
		return NULL;
	ep = dek_alloc(sizeof(*ep));
	if (!ep)
		return NULL;
	ep->config = *config;
	ep->on_host = dek_same_text(config->class_name, DEK_CLASS_EHBA);
	ep->shift = (unsigned int)__builtin_ctz(config->block ? config->block : config->data_unit) - 9;
	if (!first_snapshot(ep)) {
		dek_free(ep->newest);
		dek_weave_clear(&ep->weave);
		dek_free(ep);
		return NULL;
	}
	ep->mapped_end = ep->newest->end;
	ep->id = draw(config);
	ep->next_handle = draw(config);
	ep->next_hold = draw(config);
	return ep;
}

/* One hold for the table; another for the map, which a disassociated one is no longer in. */
static void associations_drop(struct dek_endpoint *ep)
{
	__u32 i;

	for (i = 0; i < ep->table.count; i++) {
		struct dek_association *a = ep->table.slot[i];
		const struct dek_task *task = dek_task_of(ep, a->handle);

		if (!task || task->kind != DEK_TASK_DISASSOCIATE)
			dek_association_put(a);
		dek_association_put(a);
	}
	dek_free(ep->table.slot);
}

void dek_endpoint_destroy(struct dek_endpoint *ep)
{
	struct dek_block *nodes = NULL;

	if (!ep)
		return;
	associations_drop(ep);
	while (ep->tasks)
		dek_task_free(ep, ep->tasks);
	dek_tree_drop(&ep->newest->tree, &nodes);
	dek_blocks_free(nodes);
	dek_free(ep->newest);
	dek_open_map_drop(&ep->open);
	dek_weave_clear(&ep->weave);
	dek_free(ep);
}

struct dek_snapshot *dek_endpoint_current(struct dek_endpoint *ep)
{
	return ep->newest;
}

__u64 dek_endpoint_id(const struct dek_endpoint *ep)
{
	return ep->id;
}

int dek_endpoint_set_fence(struct dek_endpoint *ep, enum dek_fence fence, struct dek_change *change)
{
	struct dek_draft draft;

	memset(change, 0, sizeof(*change));
	if ((__u32)fence > DEK_FENCE_HOLD)
		return -EINVAL;
	if (fence == ep->newest->fence)
		return 0;
	if (!dek_draft_begin(ep, &draft, NULL, 0))
		return -ENOMEM;
	draft.next->fence = fence;
	dek_draft_finish(ep, &draft, change);
	return 0;
}

int dek_endpoint_set_engine(struct dek_endpoint *ep, __u32 engine)
{
	if (engine != ep->config.engine && ep->table.count)
		return -EBUSY;
	ep->config.engine = engine;
	return 0;
}

__u32 dek_endpoint_engine(const struct dek_endpoint *ep)
{
	return ep->config.engine;
}

/* Is there anything at or beyond `end` that must not be cut off? What growing has fenced may go. */
static bool would_cut(const struct dek_endpoint *ep, __u64 end)
{
	const struct dek_snapshot *s = ep->newest;
	struct dek_range_entry range;
	__u64 lba = end;
	__u32 h;

	if (end >= s->end)
		return false;
	for (h = 0; h < s->holds; h++) {
		if (dek_hold_overlaps(s->hold[h], end, s->end - end))
			return true;
	}
	while (dek_snapshot_next(s, lba, &range)) {
		__u64 from = range.first > end ? range.first : end;

		if (range.state != DEK_RANGE_FENCED || from < ep->mapped_end)
			return true;
		lba = range.first + range.count;
	}
	return false;
}

/* The next tree: what comes is fenced, of what goes nothing is left. 0 or -errno; then the weave is as it was. */
static int resize_tree(struct dek_endpoint *ep, __u64 end, struct dek_snapshot *next)
{
	struct dek_edit edit = { .first = end, .end = ep->newest->end, .value = DEK_RANGE_PLAIN };

	if (end > ep->newest->end)
		edit = (struct dek_edit){ .first = ep->newest->end, .end = end, .value = DEK_RANGE_FENCED };
	if (!dek_tree_edit(&ep->weave, &ep->newest->tree, &edit, 1, &next->tree))
		return -ENOMEM;
	if (!dek_too_many(ep, next))
		return 0;
	dek_blocks_free(ep->weave.fresh);
	return -E2BIG;
}

int dek_endpoint_resize(struct dek_endpoint *ep, __u64 count, struct dek_change *change)
{
	bool mapped = ep->newest->generation;
	__u64 end = ep->config.first + count;
	struct dek_draft draft;
	int err;

	memset(change, 0, sizeof(*change));
	if (!count || count > LBA_LIMIT - ep->config.first)
		return -EINVAL;
	if (end == ep->newest->end)
		return 0;
	if (would_cut(ep, end))
		return -EBUSY;
	if (!dek_draft_begin(ep, &draft, NULL, 0))
		return -ENOMEM;
	err = mapped ? resize_tree(ep, end, draft.next) : 0;
	if (err) {
		dek_draft_cancel(&draft);
		return err;
	}
	if (mapped)
		dek_draft_weave(ep);
	draft.next->end = end;
	if (!mapped || end < ep->mapped_end)
		ep->mapped_end = end;
	/* A map half sent was checked against the old size. */
	dek_open_map_drop(&ep->open);
	dek_draft_finish(ep, &draft, change);
	return 0;
}

int dek_endpoint_recovered(struct dek_endpoint *ep, struct dek_change *change)
{
	struct dek_draft draft;

	memset(change, 0, sizeof(*change));
	if (!ep->newest->recovering)
		return 0;
	if (!dek_draft_begin(ep, &draft, NULL, 0))
		return -ENOMEM;
	draft.next->recovering = false;
	dek_snapshot_judge(draft.next);
	dek_draft_finish(ep, &draft, change);
	return 0;
}

bool dek_endpoint_next_association(struct dek_endpoint *ep, __u64 above, struct dek_association_entry *out)
{
	__u32 i = dek_table_above(&ep->table, above);
	const struct dek_association *a;
	const struct dek_task *task;

	if (i == ep->table.count)
		return false;
	a = ep->table.slot[i];
	task = dek_task_of(ep, a->handle);
	memset(out, 0, sizeof(*out));
	out->handle = a->handle;
	out->ranges = a->map_count;
	out->blocks = dek_map_total(a->map, a->map_count);
	dek_app_info_put(out->app_info, &a->geometry);
	memcpy(out->key_id, a->key_id, a->key_id_length);
	out->key_id_length = a->key_id_length;
	out->algorithm = a->algorithm;
	out->mode = a->mode;
	out->key_length = a->key_length;
	out->draining = task && task->draining;
	return true;
}

bool dek_endpoint_next_token(struct dek_endpoint *ep, __u64 above, struct dek_token_entry *out)
{
	const struct dek_task *task, *best = NULL;

	for (task = ep->tasks; task; task = task->next) {
		if (task->kind == DEK_TASK_QUIESCE && task->id > above && (!best || task->id < best->id))
			best = task;
	}
	if (!best)
		return false;
	out->token = best->id;
	out->first = best->hold->range[0].first;
	out->count = best->hold->range[0].count;
	return true;
}

void dek_endpoint_describe(struct dek_endpoint *ep, struct dek_list_entry *out)
{
	const struct dek_snapshot *s = ep->newest;
	const struct dek_task *task;

	memcpy(out->uuid, ep->config.uuid, DEK_UUID_SIZE);
	out->endpoint_id = ep->id;
	out->first = s->first;
	out->count = s->end - s->first;
	out->map_generation = s->generation;
	out->ranges = dek_snapshot_ranges(s);
	out->associations = ep->table.count;
	out->tokens = 0;
	for (task = ep->tasks; task; task = task->next)
		out->tokens += task->kind == DEK_TASK_QUIESCE;
	out->data_unit = ep->config.data_unit;
	out->fence = s->fence;
	out->engine = ep->config.engine;
	out->flags = s->recovering ? DEK_ENDPOINT_RECOVERING : 0;
}
