/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Packing of tree nodes. The layout and its reasons are in node.h.
 */
#include "node.h"

DEK_STATIC_ASSERT(sizeof(struct dek_inner) + DEK_INNER_CUTS * (sizeof(__u64) + sizeof(void *)) +
		  DEK_WINDOW * sizeof(__u64) <= 4096, "an inner node is a page");
DEK_STATIC_ASSERT(DEK_LEAF_CUTS <= 255 && DEK_INNER_CUTS <= 255, "ranks are bytes");
DEK_STATIC_ASSERT(DEK_WINDOW == 4, "dek_rank*() compare four");

/* The least shift that brings `span` into `stretches` - 1 stretches. */
static unsigned int hint_shift(__u64 span, unsigned int stretches)
{
	unsigned int shift = 0;

	while (span >> shift >= stretches - 1)
		shift++;
	return shift;
}

/*
 * hint[s] = keys before stretch s, so a search in it starts there and ends at hint[s + 1]. The first key is at
 * or before whatever is searched; the last stretch has no end.
 */
static void hint_fill(__u8 *hint, unsigned int stretches, unsigned int shift, const struct dek_cut *cut,
		      unsigned int n, unsigned int unit_shift)
{
	unsigned int s, before = 0;

	for (s = 0; s < stretches; s++) {
		while (before < n && (cut[before].key - cut[0].key) >> unit_shift >> shift < s)
			before++;
		hint[s] = (__u8)before;
	}
	hint[stretches] = (__u8)n;
}

struct dek_block *dek_inner_create(const struct dek_cut *cut, unsigned int n)
{
	size_t size = sizeof(struct dek_inner) + n * (sizeof(__u64) + sizeof(void *)) + DEK_WINDOW * sizeof(__u64);
	struct dek_inner *inner = dek_alloc(size);
	struct dek_block **child;
	unsigned int i;

	if (!inner)
		return NULL;
	inner->base = cut[0].key;
	inner->count = (__u8)n;
	inner->hint_shift = (__u8)hint_shift(cut[n - 1].key - cut[0].key, DEK_INNER_HINTS);
	hint_fill(inner->hint, DEK_INNER_HINTS, inner->hint_shift, cut, n, 0);
	child = (struct dek_block **)(inner->key + n + DEK_WINDOW);
	for (i = 0; i < n; i++) {
		inner->key[i] = cut[i].key;
		child[i] = (struct dek_block *)cut[i].value;
	}
	for (i = n; i < n + DEK_WINDOW; i++)
		inner->key[i] = ~0ull;
	return &inner->block;
}

/* The values of the cuts without repetition; index[i] is where cut i's is. Returns how many. */
static unsigned int palette_collect(const struct dek_cut *cut, unsigned int n, uintptr_t *value, __u8 *index)
{
	unsigned int i, k, used = 0;

	for (i = 0; i < n; i++) {
		for (k = 0; k < used && value[k] != cut[i].value; k++)
			;
		if (k == used)
			value[used++] = cut[i].value;
		index[i] = (__u8)k;
	}
	return used;
}

/* The narrowest entries for these keys. All ones is left to the padding. */
static unsigned int entry_width(__u64 span, unsigned int bits)
{
	if (span < 0xffffu >> bits)
		return 2;
	return span < 0xffffffffu >> bits ? 4 : 8;
}

static void entry_put(void *e, unsigned int width, unsigned int i, __u64 entry)
{
	if (width == 2)
		((__u16 *)e)[i] = (__u16)entry;
	else if (width == 4)
		((__u32 *)e)[i] = (__u32)entry;
	else
		((__u64 *)e)[i] = entry;
}

struct dek_block *dek_leaf_create(const struct dek_cut *cut, unsigned int n, unsigned int shift)
{
	__u64 span = (cut[n - 1].key - cut[0].key) >> shift;
	uintptr_t value[DEK_LEAF_CUTS];
	__u8 index[DEK_LEAF_CUTS];
	unsigned int used = palette_collect(cut, n, value, index);
	unsigned int bits = used == 1 ? 0 : 32 - (unsigned int)__builtin_clz(used - 1);
	unsigned int width = entry_width(span, bits);
	struct dek_leaf *leaf = dek_alloc(sizeof(*leaf) + used * sizeof(*value) + (n + DEK_WINDOW) * width);
	void *e;
	unsigned int i;

	if (!leaf)
		return NULL;
	leaf->base = cut[0].key;
	leaf->count = (__u8)n;
	leaf->width = (__u8)width;
	leaf->bits = (__u8)bits;
	leaf->palette = (__u8)used;
	leaf->hint_shift = (__u8)hint_shift(span, DEK_LEAF_HINTS);
	hint_fill(leaf->hint, DEK_LEAF_HINTS, leaf->hint_shift, cut, n, shift);
	memcpy(leaf->value, value, used * sizeof(*value));
	e = leaf->value + used;
	for (i = 0; i < n; i++)
		entry_put(e, width, i, (cut[i].key - cut[0].key) >> shift << bits | index[i]);
	for (; i < n + DEK_WINDOW; i++)
		entry_put(e, width, i, ~0ull);
	return &leaf->block;
}
