/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Quiesce tokens, and what is done under them: yielding a range to an encryptor above.
 */
#include "endpoint_private.h"

static bool token_overlaps(const struct dek_endpoint *ep, __u64 first, __u64 count)
{
	const struct dek_task *task;

	for (task = ep->tasks; task; task = task->next) {
		if (task->kind == DEK_TASK_QUIESCE && dek_hold_overlaps(task->hold, first, count))
			return true;
	}
	return false;
}

int dek_endpoint_quiesce(struct dek_endpoint *ep, __u64 first, __u64 count, __u64 *token, struct dek_change *change)
{
	struct dek_range range = { .first = first, .count = count };
	struct dek_draft draft;

	memset(change, 0, sizeof(*change));
	if (!dek_inside(ep, first, count))
		return -EINVAL;
	if (token_overlaps(ep, first, count))
		return -EBUSY;
	if (ep->newest->holds == DEK_HOLDS_MAX)
		return -ENOSPC;
	if (!dek_draft_begin(ep, &draft, &range, 1))
		return -ENOMEM;
	draft.task->kind = DEK_TASK_QUIESCE;
	*token = draft.task->id;
	dek_draft_finish(ep, &draft, change);
	return 0;
}

static struct dek_task *token_find(struct dek_endpoint *ep, __u64 token)
{
	struct dek_task *task = dek_task_find(ep, token);

	return task && task->kind == DEK_TASK_QUIESCE ? task : NULL;
}

int dek_endpoint_release(struct dek_endpoint *ep, __u64 token, struct dek_change *change)
{
	struct dek_task *task = token_find(ep, token);

	memset(change, 0, sizeof(*change));
	if (!task)
		return -ENOKEY;
	dek_task_lift(ep, task, change);
	dek_task_free(ep, task);
	return 0;
}

/* May the range be yielded? 0 or -errno. */
static int yield_check(struct dek_endpoint *ep, __u64 token, struct dek_range range, struct dek_survey *survey)
{
	const struct dek_task *task = token_find(ep, token);

	if (!dek_inside(ep, range.first, range.count) || !dek_aligned(ep, range.first, range.count))
		return -EINVAL;
	if (!task || range.first < task->hold->range[0].first ||
	    range.first + range.count > task->hold->range[0].first + task->hold->range[0].count)
		return -ENOKEY;
	if (task->draining || dek_tasks_hold(ep, &range, 1, 0))
		return -EBUSY;
	dek_survey(ep, range, NULL, survey);
	if (survey->states & (1u << DEK_RANGE_KEYED))
		return -EBUSY;
	if (survey->states & (1u << DEK_RANGE_PLAIN | 1u << DEK_RANGE_RESERVED))
		return -EINVAL;
	return 0;
}

int dek_endpoint_yield(struct dek_endpoint *ep, __u64 token, __u64 first, __u64 count, struct dek_change *change)
{
	struct dek_range range = { .first = first, .count = count };
	struct dek_edit edit = { .first = first, .end = first + count, .value = DEK_RANGE_YIELDED };
	struct dek_survey survey;
	struct dek_draft draft;
	int err;

	memset(change, 0, sizeof(*change));
	err = yield_check(ep, token, range, &survey);
	if (err || survey.states == 1u << DEK_RANGE_YIELDED)
		return err;
	if (!dek_draft_begin(ep, &draft, NULL, 0))
		return -ENOMEM;
	if (!dek_tree_edit(&ep->weave, &ep->newest->tree, &edit, 1, &draft.next->tree)) {
		dek_draft_cancel(&draft);
		return -ENOMEM;
	}
	if (dek_too_many(ep, draft.next)) {
		dek_blocks_free(ep->weave.fresh);
		dek_draft_cancel(&draft);
		return -E2BIG;
	}
	dek_draft_weave(ep);
	dek_draft_finish(ep, &draft, change);
	return 0;
}
