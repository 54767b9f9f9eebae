/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Packing of tree nodes. The layout and its reasons are in node.h.
 */
#include "node.h"

DEK_STATIC_ASSERT(sizeof(struct dek_inner) + (DEK_INNER_CUTS + DEK_WINDOW) * sizeof(struct dek_cut) <= 4096,
		  "an inner node is a page");
DEK_STATIC_ASSERT(DEK_LEAF_CUTS <= 255 && DEK_INNER_CUTS <= 255, "counts are bytes");
DEK_STATIC_ASSERT(DEK_WINDOW == 4, "dek_inner_find() compares four");
DEK_STATIC_ASSERT(DEK_LEAF_BLOCKS == 9 && DEK_LEAF_BLOCK == 16, "two words of starts, two of steps");
DEK_STATIC_ASSERT(offsetof(struct dek_narrow_leaf, of) == 64 && sizeof(struct dek_narrow_leaf) == 256,
		  "four cache lines, the first with all but the blocks");

/*
 * before[s] = cuts before stretch s: a search in it starts there. The last stretch has no end. Returns false if
 * cuts cluster.
 */
static bool stretches_fill(struct dek_inner *inner, const struct dek_cut *cut, unsigned int n)
{
	__u64 span = cut[n - 1].key - cut[0].key;
	unsigned int s, i = 0, most = 0;

	while (span >> inner->shift >= DEK_INNER_STRETCHES - 1)
		inner->shift++;
	for (s = 0; s < DEK_INNER_STRETCHES; s++) {
		unsigned int first = i;

		inner->before[s] = (__u8)i;
		while (i < n && (cut[i].key - cut[0].key) >> inner->shift == s)
			i++;
		most = i - first > most ? i - first : most;
	}
	return most <= DEK_WINDOW;
}

struct dek_block *dek_inner_create(const struct dek_cut *cut, unsigned int n)
{
	struct dek_inner *inner = dek_alloc(sizeof(*inner) + (n + DEK_WINDOW) * sizeof(*cut));
	unsigned int i;

	if (!inner)
		return NULL;
	inner->base = cut[0].key;
	inner->count = (__u8)n;
	inner->clustered = !stretches_fill(inner, cut, n);
	memcpy(inner->cut, cut, n * sizeof(*cut));
	for (i = n; i < n + DEK_WINDOW; i++)
		inner->cut[i].key = ~0ull;
	return &inner->block;
}

unsigned int dek_leaf_rank(const struct dek_leaf *leaf, __u64 lba)
{
	const __u64 *first = ((const struct dek_wide_leaf *)leaf)->entry, *e = first;
	__u64 off = (lba - leaf->base) >> leaf->shift;
	unsigned int n = leaf->count;

	if (!leaf->wide)
		return dek_narrow_rank((const struct dek_narrow_leaf *)leaf, lba);
	while (n > 1) {
		e += e[n / 2] >> leaf->bits <= off ? n / 2 : 0;
		n -= n / 2;
	}
	return (unsigned int)(e - first) + 1;
}

struct dek_cut dek_leaf_cut(const struct dek_leaf *leaf, unsigned int i)
{
	const struct dek_narrow_leaf *narrow = (const struct dek_narrow_leaf *)leaf;
	const struct dek_wide_leaf *wide = (const struct dek_wide_leaf *)leaf;
	struct dek_cut cut;

	if (!leaf->wide) {
		cut.key = dek_narrow_key(narrow, i);
		cut.value = dek_narrow_value(narrow, i);
	} else {
		cut.key = leaf->base + (wide->entry[i] >> leaf->bits << leaf->shift);
		cut.value = wide->value[wide->entry[i] & ((1u << leaf->bits) - 1)];
	}
	return cut;
}

/* Numbers the values of the cuts, 0 for the value 0; index[i] is that of cut i. Returns the greatest. */
static unsigned int palette_collect(const struct dek_cut *cut, unsigned int n, __u8 *index)
{
	__u8 first[DEK_LEAF_CUTS + 1]; /* the cut with which a value first appears */
	unsigned int i, k, most = 0;

	for (i = 0; i < n; i++) {
		for (k = 1; k <= most && cut[first[k]].value != cut[i].value; k++)
			;
		if (!cut[i].value)
			k = 0;
		else if (k > most)
			first[++most] = (__u8)i;
		index[i] = (__u8)k;
	}
	return most;
}

/* The power of two that all distances from the first cut are multiples of, as a shift. */
static unsigned int common_shift(const struct dek_cut *cut, unsigned int n)
{
	__u64 all = 0;
	unsigned int i;

	for (i = 1; i < n; i++)
		all |= cut[i].key - cut[0].key;
	return all ? (unsigned int)__builtin_ctzll(all) : 0;
}

/* The distance of cut i from cut `from`. */
static __u64 distance(const struct dek_cut *cut, unsigned int from, unsigned int i, unsigned int shift)
{
	return (cut[i].key - cut[from].key) >> shift;
}

/* Are all distances what a narrow leaf can express, and a search cannot exceed? */
static bool fits_narrow(const struct dek_cut *cut, unsigned int n, unsigned int values, unsigned int shift)
{
	unsigned int i;

	if (values >= DEK_LEAF_VALUES || distance(cut, 0, n - 1, shift) >= DEK_START_MOST)
		return false;
	for (i = 0; i < n; i++) {
		if (distance(cut, i - i % DEK_LEAF_BLOCK, i, shift) >= DEK_STEP_MOST)
			return false;
	}
	return true;
}

static struct dek_leaf *narrow_create(const struct dek_cut *cut, const __u8 *index, unsigned int n, unsigned int shift)
{
	struct dek_narrow_leaf *narrow = dek_alloc(sizeof(*narrow));
	unsigned int i, block;

	if (!narrow)
		return NULL;
	for (block = 0; block < DEK_LEAF_BLOCKS; block++) {
		if (block)
			narrow->start[block - 1] = DEK_START_MOST;
		memset(narrow->of[block].step, DEK_STEP_MOST, DEK_LEAF_BLOCK);
	}
	for (i = 0; i < n; i++) {
		unsigned int at = i % DEK_LEAF_BLOCK;

		block = i / DEK_LEAF_BLOCK;
		if (block && !at)
			narrow->start[block - 1] = (__u16)distance(cut, 0, i, shift);
		narrow->of[block].step[at] = (__u8)distance(cut, i - at, i, shift);
		narrow->of[block].index |= (__u32)index[i] << (2 * at);
		if (index[i])
			narrow->value[index[i] - 1] = cut[i].value;
	}
	return &narrow->leaf;
}

static struct dek_leaf *wide_create(const struct dek_cut *cut, const __u8 *index, unsigned int n, unsigned int values,
				    unsigned int shift)
{
	struct dek_wide_leaf *wide = dek_alloc(sizeof(*wide) + (values + 1) * sizeof(wide->value[0]));
	unsigned int i;

	if (!wide)
		return NULL;
	wide->leaf.wide = true;
	wide->leaf.bits = values ? (__u8)(32 - __builtin_clz(values)) : 0;
	for (i = 0; i < n; i++) {
		wide->entry[i] = distance(cut, 0, i, shift) << wide->leaf.bits | index[i];
		wide->value[index[i]] = cut[i].value;
	}
	return &wide->leaf;
}

struct dek_block *dek_leaf_create(const struct dek_cut *cut, unsigned int n)
{
	__u8 index[DEK_LEAF_CUTS];
	unsigned int values = palette_collect(cut, n, index);
	unsigned int shift = common_shift(cut, n);
	struct dek_leaf *leaf = fits_narrow(cut, n, values, shift) ? narrow_create(cut, index, n, shift) :
								     wide_create(cut, index, n, values, shift);

	if (!leaf)
		return NULL;
	leaf->base = cut[0].key;
	leaf->shift = (__u8)shift;
	leaf->count = (__u8)n;
	return &leaf->block;
}
