/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Reading a snapshot: the verdict on a piece of I/O, and what lists show.
 */
#include "snapshot_private.h"

DEK_STATIC_ASSERT(offsetof(struct dek_snapshot, few_cut) <= 64, "a lookup reads little of the snapshot");

void dek_snapshot_judge(struct dek_snapshot *s)
{
	__u8 wait_or = s->recovering ? DEK_WAIT : DEK_FENCED;

	if (s->generation) {
		s->verdict[DEK_RANGE_PLAIN][0] = s->verdict[DEK_RANGE_PLAIN][1] = DEK_PASS;
	} else if (s->had_map) {
		s->verdict[DEK_RANGE_PLAIN][0] = s->verdict[DEK_RANGE_PLAIN][1] = wait_or;
	} else {
		s->verdict[DEK_RANGE_PLAIN][0] = DEK_PASS;
		s->verdict[DEK_RANGE_PLAIN][1] = DEK_REFUSE;
	}
	s->verdict[DEK_RANGE_KEYED][0] = s->verdict[DEK_RANGE_KEYED][1] = DEK_CRYPT;
	s->verdict[DEK_RANGE_FENCED][0] = s->verdict[DEK_RANGE_FENCED][1] = wait_or;
	s->verdict[DEK_RANGE_YIELDED][0] = s->verdict[DEK_RANGE_YIELDED][1] = DEK_PASS;
	s->verdict[DEK_RANGE_RESERVED][0] = DEK_PASS;
	s->verdict[DEK_RANGE_RESERVED][1] = DEK_REFUSE;
}

void dek_snapshot_shorten(struct dek_snapshot *s)
{
	const struct dek_leaf *leaf = (const struct dek_leaf *)s->tree.root;
	__u64 lba = 0;
	unsigned int i;

	s->few = !s->tree.height && leaf->count <= DEK_FEW;
	for (i = 0; s->few && i <= DEK_FEW; i++) {
		struct dek_stretch at;

		if (i >= leaf->count) {
			s->few_cut[i].key = s->end;
			continue;
		}
		at = dek_leaf_at(leaf, lba);
		s->few_cut[i].key = at.first;
		s->few_cut[i].value = at.value;
		lba = at.end;
	}
}

/* The first range of the hold that ends beyond lba, or hold->count. */
static __u32 hold_find(const struct dek_hold *hold, __u64 lba)
{
	__u32 lo = 0, hi = hold->count;

	while (lo < hi) {
		__u32 middle = lo + (hi - lo) / 2;

		if (hold->range[middle].first + hold->range[middle].count <= lba)
			lo = middle + 1;
		else
			hi = middle;
	}
	return lo;
}

bool dek_hold_overlaps(const struct dek_hold *hold, __u64 first, __u64 count)
{
	__u32 i = hold_find(hold, first);

	return i < hold->count && hold->range[i].first < first + count;
}

/* Is lba held? *end shrinks to where that changes; it is greater than lba and stays so. */
static bool held(const struct dek_snapshot *s, __u64 lba, __u64 *end)
{
	bool answer = false;
	__u32 h;

	for (h = 0; h < s->holds && !answer; h++) {
		const struct dek_hold *hold = s->hold[h];
		__u32 i = hold_find(hold, lba);
		__u64 border;

		if (i == hold->count)
			continue;
		answer = hold->range[i].first <= lba;
		border = answer ? hold->range[i].first + hold->range[i].count : hold->range[i].first;
		*end = border < *end ? border : *end;
	}
	return answer;
}

static inline void piece_judge(const struct dek_snapshot *s, __u64 count, uintptr_t value, bool write,
			       struct dek_piece *piece)
{
	piece->count = count;
	piece->verdict = (enum dek_verdict)s->verdict[dek_value_state(value)][write];
	piece->association = dek_value_association(value);
}

static void piece_give(struct dek_piece *piece, __u64 count, enum dek_verdict verdict)
{
	piece->count = count;
	piece->verdict = verdict;
	piece->association = NULL;
}

/* Whatever the short way is not made for. Not inline: the short way needs neither stack nor saved registers. */
static __attribute__((__noinline__)) void lookup_any(const struct dek_snapshot *s, __u64 lba, __u64 count, bool write,
						 struct dek_piece *piece)
{
	struct dek_stretch at;
	__u64 end;

	if (lba < s->first || lba >= s->end) {
		bool before = lba < s->first && count > s->first - lba;

		piece_give(piece, before ? s->first - lba : count, DEK_REFUSE);
		return;
	}
	end = s->end - lba < count ? s->end : lba + count;
	if (held(s, lba, &end)) {
		piece_give(piece, end - lba, DEK_WAIT);
		return;
	}
	at = dek_tree_find(&s->tree, lba, end);
	piece_judge(s, at.end - lba, at.value, write, piece);
}

/* Not inline for the same reason. */
static __attribute__((__noinline__)) void lookup_tree(const struct dek_snapshot *s, __u64 lba, __u64 count, bool write,
						      struct dek_piece *piece)
{
	const struct dek_dense_leaf *dense = (const struct dek_dense_leaf *)dek_tree_leaf(&s->tree, lba);
	unsigned int granule, next;
	uintptr_t value;
	__u64 left;

	/* One miss, not two in a row. */
	__builtin_prefetch((const char *)dense + 64);
	__builtin_prefetch((const char *)dense + 128);
	__builtin_prefetch((const char *)dense + 192);
	if (__builtin_expect(dense->leaf.wide, 0)) {
		lookup_any(s, lba, count, write, piece);
		return;
	}
	granule = dek_dense_granule(dense, lba);
	next = dek_dense_end(dense, granule);
	/* In one of some hundred cases the stretch ends where another leaf begins. */
	if (__builtin_expect(next > dense->leaf.last, 0)) {
		lookup_any(s, lba, count, write, piece);
		return;
	}
	left = dense->leaf.base + ((__u64)next << dense->leaf.shift) - lba;
	value = dek_dense_set(dense, granule) ? dense->value[dek_dense_index(dense, granule)] : 0;
	piece_judge(s, left < count ? left : count, value, write, piece);
}

void dek_snapshot_lookup(const struct dek_snapshot *s, __u64 lba, __u64 count, bool write, struct dek_piece *piece)
{
	const struct dek_cut *cut = s->few_cut;
	__u64 left;

	if (__builtin_expect(lba < s->first || lba >= s->end || s->holds, 0)) {
		lookup_any(s, lba, count, write, piece);
		return;
	}
	if (!s->few) {
		lookup_tree(s, lba, count, write, piece);
		return;
	}
	cut += (cut[1].key <= lba) + (cut[2].key <= lba) + (cut[3].key <= lba);
	left = cut[1].key - lba;
	piece_judge(s, left < count ? left : count, cut->value, write, piece);
}

bool dek_snapshot_next(const struct dek_snapshot *s, __u64 lba, struct dek_range_entry *out)
{
	struct dek_stretch at;
	const struct dek_association *a;
	__u32 h;

	do {
		if (lba >= s->end)
			return false;
		at = dek_tree_find(&s->tree, lba, s->end);
		lba = at.end;
	} while (dek_value_state(at.value) == DEK_RANGE_PLAIN);
	a = dek_value_association(at.value);
	out->first = at.first;
	out->count = at.end - at.first;
	out->association = a ? a->handle : 0;
	out->state = dek_value_state(at.value);
	out->held = 0;
	for (h = 0; h < s->holds; h++)
		out->held |= dek_hold_overlaps(s->hold[h], out->first, out->count);
	return true;
}

__u64 dek_snapshot_generation(const struct dek_snapshot *s)
{
	return s->generation;
}

__u64 dek_snapshot_ranges(const struct dek_snapshot *s)
{
	const __u32 *n = s->tree.ranges;

	return (__u64)n[DEK_RANGE_KEYED] + n[DEK_RANGE_FENCED] + n[DEK_RANGE_YIELDED] + n[DEK_RANGE_RESERVED];
}

enum dek_fence dek_snapshot_fence(const struct dek_snapshot *s)
{
	return s->fence;
}

bool dek_snapshot_recovering(const struct dek_snapshot *s)
{
	return s->recovering;
}

bool dek_snapshot_has_fenced(const struct dek_snapshot *s)
{
	return s->tree.ranges[DEK_RANGE_FENCED] != 0;
}
