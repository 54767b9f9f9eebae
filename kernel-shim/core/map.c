/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The must-encrypt map: taken in page by page, then in force at once.
 */
#include "endpoint_private.h"

#define MAP_FLAGS (DEK_MAP_BEGIN | DEK_MAP_ADD | DEK_MAP_COMMIT)

void dek_open_map_drop(struct dek_open_map *open)
{
	dek_free(open->entry);
	memset(open, 0, sizeof(*open));
}

/* Room for n more entries, doubled each time. */
static bool open_map_reserve(struct dek_open_map *open, __u32 n)
{
	__u32 room = open->room ? open->room : DEK_MAP_PAGE;
	struct dek_map_entry *entry;

	if (n <= open->room - open->count)
		return true;
	while (room - open->count < n)
		room *= 2;
	entry = dek_alloc((size_t)room * sizeof(*entry));
	if (!entry)
		return false;
	if (open->count)
		memcpy(entry, open->entry, (size_t)open->count * sizeof(*entry));
	dek_free(open->entry);
	open->entry = entry;
	open->room = room;
	return true;
}

static bool entry_valid(const struct dek_endpoint *ep, const struct dek_map_entry *e, __u64 from)
{
	return e->kind >= DEK_MAP_ENCRYPT && e->kind <= DEK_MAP_KEEP && !e->reserved && e->first >= from &&
	       dek_inside(ep, e->first, e->count) && dek_aligned(ep, e->first, e->count);
}

/* Where the last entry ends. */
static __u64 open_map_end(const struct dek_open_map *open)
{
	const struct dek_map_entry *last = open->entry + open->count - 1;

	return open->count ? last->first + last->count : 0;
}

/* Neighbours of one kind are joined, so that what counts against max_ranges is what there will be. */
static void open_map_append(struct dek_open_map *open, const struct dek_map_entry *e)
{
	if (open->count && open->entry[open->count - 1].kind == e->kind && open_map_end(open) == e->first)
		open->entry[open->count - 1].count += e->count;
	else
		open->entry[open->count++] = *e;
}

static int map_add(struct dek_endpoint *ep, const struct dek_ioc_map *page)
{
	struct dek_open_map *open = &ep->open;
	__u32 i;

	if (open->count > ep->config.max_ranges)
		return -E2BIG;
	if (!open_map_reserve(open, page->count))
		return -ENOMEM;
	for (i = 0; i < page->count; i++) {
		if (!entry_valid(ep, &page->entry[i], open_map_end(open)))
			return -EINVAL;
		open_map_append(open, &page->entry[i]);
	}
	return open->count > ep->config.max_ranges ? -E2BIG : 0;
}

/*
 * [first, end) of the new map is `base`, but for what is keyed now, which stays, and with `keep` what passes as it is:
 * yielded, or plain in a map. False: something keyed is not to be encrypted any more.
 */
static bool map_cut(struct dek_endpoint *ep, __u64 first, __u64 end, uintptr_t base, bool keep)
{
	while (first < end) {
		struct dek_stretch at = dek_tree_find(&ep->newest->tree, first, ep->newest->end);
		enum dek_range_state state = dek_value_state(at.value);
		bool passes = state == DEK_RANGE_YIELDED || (state == DEK_RANGE_PLAIN && ep->newest->generation);
		uintptr_t value = base;

		if (state == DEK_RANGE_KEYED && base != DEK_RANGE_FENCED)
			return false;
		if (state == DEK_RANGE_KEYED)
			value = at.value;
		else if (keep && passes)
			value = DEK_RANGE_YIELDED;
		dek_tree_cut(&ep->weave, first, value);
		first = at.end;
	}
	return true;
}

static bool map_weave(struct dek_endpoint *ep)
{
	__u64 lba = 0;
	__u32 i;

	for (i = 0; i < ep->open.count; i++) {
		const struct dek_map_entry *e = &ep->open.entry[i];

		if (!map_cut(ep, lba, e->first, DEK_RANGE_PLAIN, false))
			return false;
		lba = e->first + e->count;
		if (!map_cut(ep, e->first, lba, e->kind == DEK_MAP_RESERVED ? DEK_RANGE_RESERVED : DEK_RANGE_FENCED,
			     e->kind == DEK_MAP_KEEP))
			return false;
	}
	if (!map_cut(ep, lba, ep->newest->end, DEK_RANGE_PLAIN, false))
		return false;
	dek_tree_cut(&ep->weave, ep->newest->end, DEK_RANGE_PLAIN);
	return true;
}

/* The tree of the open map. 0 or -errno; then nothing is left of it. */
static int map_tree(struct dek_endpoint *ep, struct dek_snapshot *next)
{
	int err = 0;

	dek_tree_begin(&ep->weave);
	if (!map_weave(ep)) {
		dek_blocks_free(ep->weave.fresh);
		return -EBUSY;
	}
	if (!dek_tree_end(&ep->weave, &next->tree))
		return -ENOMEM;
	if (dek_too_many(ep, next)) {
		dek_blocks_free(ep->weave.fresh);
		err = -E2BIG;
	}
	return err;
}

/* Tells the shim to wait for all I/O that began under older maps. */
static void map_await(const struct dek_endpoint *ep, struct dek_change *change)
{
	change->hold = ep->map_drain;
	change->drain_count = DEK_DRAIN_ALL;
}

static int map_commit(struct dek_endpoint *ep, struct dek_change *change)
{
	struct dek_draft draft;
	int err;

	if (!dek_draft_begin(ep, &draft, NULL, 0))
		return -ENOMEM;
	err = map_tree(ep, draft.next);
	if (err) {
		dek_draft_cancel(&draft);
		return err;
	}
	dek_tree_drop(&ep->newest->tree, &ep->newest->reclaim.blocks);
	draft.next->generation = ep->open.generation;
	ep->mapped_end = draft.next->end;
	dek_snapshot_judge(draft.next);
	dek_open_map_drop(&ep->open);
	ep->map_drain = ep->next_hold++;
	dek_draft_finish(ep, &draft, change);
	map_await(ep, change);
	return 0;
}

static bool page_valid(const struct dek_ioc_map *page)
{
	static const struct dek_map_entry unused;
	__u32 i;

	if (!page->generation || !page->flags || page->flags & ~MAP_FLAGS || page->count > DEK_MAP_PAGE)
		return false;
	if (page->count && !(page->flags & DEK_MAP_ADD))
		return false;
	for (i = page->count; i < DEK_MAP_PAGE; i++) {
		if (memcmp(&page->entry[i], &unused, sizeof(unused)))
			return false;
	}
	return true;
}

/* The newest map's COMMIT, sent again: waits on if its drain was given up. */
static bool committed(const struct dek_endpoint *ep, const struct dek_ioc_map *page)
{
	return page->flags == DEK_MAP_COMMIT && page->generation == ep->newest->generation;
}

int dek_endpoint_map(struct dek_endpoint *ep, const struct dek_ioc_map *page, struct dek_change *change)
{
	int err = 0;

	memset(change, 0, sizeof(*change));
	if (!page_valid(page))
		return -EINVAL;
	if (committed(ep, page)) {
		if (ep->map_drain)
			map_await(ep, change);
		return 0;
	}
	if (page->flags & DEK_MAP_BEGIN) {
		if (page->generation <= ep->newest->generation)
			return -ESTALE;
		dek_open_map_drop(&ep->open);
		ep->open.generation = page->generation;
	}
	if (ep->open.generation != page->generation)
		return -EBADF;
	if (page->flags & DEK_MAP_ADD)
		err = map_add(ep, page);
	if (!err && page->flags & DEK_MAP_COMMIT)
		err = map_commit(ep, change);
	/* What fails for want of memory, or because a range is still keyed, may be sent again. */
	if (err && err != -EBUSY && (err != -ENOMEM || page->flags & DEK_MAP_ADD))
		dek_open_map_drop(&ep->open);
	return err;
}
