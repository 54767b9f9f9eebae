/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Streaming one range tree into the next. What it costs and why it is right is in tree.h; the order of things:
 * walk() goes through the old tree, feed() applies the edits to its cuts, put() leaves out what changes nothing,
 * push() and flush() pack what is left into nodes, level by level.
 */
#include "tree.h"

#define LEAF 0u
#define VALUE_UNKNOWN (~(uintptr_t)0)
#define LBA_END (~0ull)

struct dek_stretch dek_tree_find(const struct dek_tree *tree, __u64 lba, __u64 end)
{
	const struct dek_block *node = tree->root;
	struct dek_stretch at = { .end = end };
	struct dek_stretch inside;
	unsigned int height;

	for (height = tree->height; height; height--) {
		const struct dek_cut *next = dek_inner_find((const struct dek_inner *)node, lba);

		at.end = next->key < at.end ? next->key : at.end;
		node = (const struct dek_block *)next[-1].value;
	}
	inside = dek_leaf_at((const struct dek_leaf *)node, lba);
	at.first = inside.first;
	at.end = inside.end < at.end ? inside.end : at.end;
	at.value = inside.value;
	return at;
}

/* Of an inner node, or the leaf that takes the fewest. */
static unsigned int capacity(unsigned int level)
{
	return level == LEAF ? DEK_LEAF_CUTS : DEK_INNER_CUTS;
}

/* Nodes with fewer cuts are merged with what follows. */
static unsigned int small(unsigned int level)
{
	return capacity(level) / 4;
}

static void drop(struct dek_block **list, const struct dek_block *node)
{
	/* Readers do not look at the link: the one member that may change. */
	struct dek_block *block = (struct dek_block *)(uintptr_t)node;

	block->next = *list;
	*list = block;
}

static struct dek_pack *pack_of(struct dek_weave *w, unsigned int level)
{
	if (!w->pack[level])
		w->pack[level] = dek_alloc(sizeof(struct dek_pack));
	return w->pack[level];
}

/* How many of the waiting cuts go into one node. */
static unsigned int fit(unsigned int level, const struct dek_pack *p)
{
	if (level == LEAF)
		return dek_leaf_fit(p->cut, p->count);
	return p->count < DEK_INNER_CUTS ? p->count : DEK_INNER_CUTS;
}

static void push(struct dek_weave *w, unsigned int level, __u64 key, uintptr_t value);

/* The first n cuts of a level become a node. */
static void emit(struct dek_weave *w, unsigned int level, unsigned int n)
{
	struct dek_pack *p = w->pack[level];
	__u64 key = p->cut[0].key;
	struct dek_block *node = level == LEAF ? dek_leaf_create(p->cut, n) : dek_inner_create(p->cut, n);

	if (!node) {
		w->failed = true;
		return;
	}
	drop(&w->fresh, node);
	p->count -= n;
	memmove(p->cut, p->cut + n, p->count * sizeof(p->cut[0]));
	push(w, level + 1, key, (uintptr_t)node);
}

static void push(struct dek_weave *w, unsigned int level, __u64 key, uintptr_t value)
{
	struct dek_pack *p;

	if (w->failed)
		return;
	p = level > DEK_TREE_LEVELS ? NULL : pack_of(w, level);
	if (!p) {
		w->failed = true;
		return;
	}
	p->cut[p->count].key = key;
	p->cut[p->count++].value = value;
	if (p->count == DEK_PACK_CUTS)
		emit(w, level, fit(level, p));
}

/*
 * A level's cuts become nodes. Equal ones where there is too much for one, as more will be put between them;
 * but at the end of the map, where ranges are mostly added in order, full ones and the rest.
 */
static void flush(struct dek_weave *w, unsigned int level)
{
	struct dek_pack *p = w->pack[level];

	while (p && p->count && !w->failed) {
		unsigned int most = fit(level, p), parts = (p->count + most - 1) / most;

		emit(w, level, w->closing ? most : (p->count + parts - 1) / parts);
	}
}

static unsigned int waiting(const struct dek_weave *w, unsigned int level)
{
	return level <= DEK_TREE_LEVELS && w->pack[level] ? w->pack[level]->count : 0;
}

/* A cut of the new tree. */
static void put(struct dek_weave *w, __u64 key, uintptr_t value)
{
	if (value == w->last)
		return;
	w->last = value;
	w->ranges[dek_value_state(value)]++;
	push(w, LEAF, key, value);
}

/*
 * Goes on to LBA `to` of the old tree: begins the edits that start before it, ends those that end before it. At
 * `to` itself is a cut of the old tree (at_cut) or just the first LBA of another leaf.
 */
static void advance(struct dek_weave *w, __u64 to, bool at_cut)
{
	while (w->next < w->edits) {
		const struct dek_edit *e = &w->edit[w->next];
		bool joined = w->next + 1 < w->edits && e[1].first == e->end;

		if (at_cut ? e->first > to : e->first >= to)
			return;
		if (!w->inside)
			put(w, e->first, e->value);
		w->inside = true;
		if (at_cut ? e->end > to : e->end >= to)
			return;
		if (e->end < to && !joined)
			put(w, e->end, w->under);
		w->inside = false;
		w->next++;
	}
}

/* A cut of the old tree. */
static void feed(struct dek_weave *w, __u64 key, uintptr_t value)
{
	w->ranges[dek_value_state(value)]--;
	advance(w, key, true);
	w->under = value;
	if (!w->inside)
		put(w, key, value);
}

static void feed_leaf(struct dek_weave *w, const struct dek_leaf *leaf, __u64 end)
{
	struct dek_stretch at = { .end = leaf->base };

	do {
		at = dek_leaf_at(leaf, at.end);
		feed(w, at.first, at.value);
	} while (at.end != ~0ull);
	advance(w, end, false);
}

/*
 * May the subtree of this level that covers [first, end) be taken over? Not if an edit reaches it, be it with
 * its border only: equal neighbours are joined. Not if small nodes would be left before it.
 */
static bool untouched(const struct dek_weave *w, unsigned int level, __u64 first, __u64 end)
{
	unsigned int l, carried = 0;

	if (w->next < w->edits && w->edit[w->next].first <= end && w->edit[w->next].end >= first)
		return false;
	for (l = LEAF; l <= level; l++) {
		unsigned int n = waiting(w, l) + carried;

		if (n && n < small(l))
			return false;
		carried = (n + capacity(l) - 1) / capacity(l);
	}
	return true;
}

static void take_over(struct dek_weave *w, unsigned int level, __u64 first, const struct dek_block *node)
{
	unsigned int l;

	for (l = LEAF; l <= level; l++)
		flush(w, l);
	push(w, level + 1, first, (uintptr_t)node);
	w->last = VALUE_UNKNOWN;
}

/* The old subtree over [first, end). As deep as the tree: DEK_TREE_LEVELS at most. */
static void walk(struct dek_weave *w, const struct dek_block *node, unsigned int level, __u64 first, __u64 end)
{
	const struct dek_inner *inner = (const struct dek_inner *)node;
	unsigned int i;

	if (w->failed)
		return;
	if (untouched(w, level, first, end)) {
		take_over(w, level, first, node);
		return;
	}
	if (level == LEAF) {
		feed_leaf(w, (const struct dek_leaf *)node, end);
	} else {
		for (i = 0; i < inner->count; i++)
			walk(w, (const struct dek_block *)inner->cut[i].value, level - 1, inner->cut[i].key,
			     i + 1 < inner->count ? inner->cut[i + 1].key : end);
	}
	drop(&w->dropped, node);
}

void dek_tree_begin(struct dek_weave *w)
{
	unsigned int l;

	for (l = 0; l <= DEK_TREE_LEVELS; l++) {
		if (w->pack[l])
			w->pack[l]->count = 0;
	}
	w->edit = NULL;
	w->edits = w->next = 0;
	w->inside = w->closing = w->failed = false;
	w->under = w->last = VALUE_UNKNOWN;
	memset(w->ranges, 0, sizeof(w->ranges));
	w->fresh = w->dropped = NULL;
}

void dek_tree_cut(struct dek_weave *w, __u64 key, uintptr_t value)
{
	put(w, key, value);
}

/* Is the only cut of this level the root? */
static bool topmost(const struct dek_weave *w, unsigned int level)
{
	unsigned int l;

	for (l = level + 1; l <= DEK_TREE_LEVELS; l++) {
		if (waiting(w, l))
			return false;
	}
	return waiting(w, level) == 1;
}

bool dek_tree_end(struct dek_weave *w, struct dek_tree *out)
{
	unsigned int level = LEAF;

	w->closing = true;
	do
		flush(w, level++);
	while (!w->failed && !topmost(w, level));
	if (w->failed) {
		dek_blocks_free(w->fresh);
		return false;
	}
	out->root = (const struct dek_block *)w->pack[level]->cut[0].value;
	out->height = (__u8)(level - 1);
	memcpy(out->ranges, w->ranges, sizeof(out->ranges));
	return true;
}

bool dek_tree_edit(struct dek_weave *w, const struct dek_tree *old, const struct dek_edit *edit, unsigned int n,
		   struct dek_tree *out)
{
	dek_tree_begin(w);
	w->edit = edit;
	w->edits = n;
	memcpy(w->ranges, old->ranges, sizeof(w->ranges));
	walk(w, old->root, old->height, 0, LBA_END);
	return dek_tree_end(w, out);
}

bool dek_tree_plain(struct dek_weave *w, struct dek_tree *out)
{
	dek_tree_begin(w);
	dek_tree_cut(w, 0, DEK_RANGE_PLAIN);
	return dek_tree_end(w, out);
}

static void drop_below(const struct dek_block *node, unsigned int level, struct dek_block **list)
{
	const struct dek_inner *inner = (const struct dek_inner *)node;
	unsigned int i;

	for (i = 0; level != LEAF && i < inner->count; i++)
		drop_below((const struct dek_block *)inner->cut[i].value, level - 1, list);
	drop(list, node);
}

void dek_tree_drop(const struct dek_tree *tree, struct dek_block **list)
{
	drop_below(tree->root, tree->height, list);
}

void dek_blocks_free(struct dek_block *list)
{
	while (list) {
		struct dek_block *next = list->next;

		dek_free(list);
		list = next;
	}
}

void dek_weave_clear(struct dek_weave *w)
{
	unsigned int l;

	for (l = 0; l <= DEK_TREE_LEVELS; l++)
		dek_free(w->pack[l]);
}
