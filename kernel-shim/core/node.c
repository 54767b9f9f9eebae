/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Packing of tree nodes. The layout and its reasons are in node.h.
 */
#include "node.h"

DEK_STATIC_ASSERT(sizeof(struct dek_inner) + (DEK_INNER_CUTS + DEK_WINDOW) * sizeof(struct dek_cut) <= 4096,
		  "an inner node is a page");
DEK_STATIC_ASSERT(DEK_LEAF_CUTS <= 255 && DEK_INNER_CUTS <= 255, "counts are bytes");
DEK_STATIC_ASSERT(DEK_WINDOW == 4, "dek_inner_find() compares four");
DEK_STATIC_ASSERT(DEK_LEAF_CUTS == 64 && DEK_LEAF_BLOCK == 8, "dek_lanes_rank() compares eight");
DEK_STATIC_ASSERT(offsetof(struct dek_narrow_leaf, sample) % 8 == 0 &&
		  offsetof(struct dek_narrow_leaf, entry) % 8 == 0, "entries are read as words");

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
	__u64 entry = leaf->wide ? wide->entry[i] : narrow->entry[i];
	const uintptr_t *value = leaf->wide ? wide->value : narrow->value;
	struct dek_cut cut = { .key = dek_leaf_key(leaf, entry), .value = value[entry & leaf->low & DEK_LANE_MOST] };

	return cut;
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

/* The power of two that all distances from the first cut are multiples of, as a shift. */
static unsigned int common_shift(const struct dek_cut *cut, unsigned int n)
{
	__u64 all = 0;
	unsigned int i;

	for (i = 1; i < n; i++)
		all |= cut[i].key - cut[0].key;
	return all ? (unsigned int)__builtin_ctzll(all) : 0;
}

static __u64 entry_of(const struct dek_leaf *leaf, const struct dek_cut *cut, __u8 index)
{
	return (cut->key - leaf->base) >> leaf->shift << leaf->bits | index;
}

static void narrow_fill(struct dek_narrow_leaf *narrow, const struct dek_cut *cut, const __u8 *index)
{
	unsigned int i, count = narrow->leaf.count;

	for (i = 0; i < count; i++)
		narrow->entry[i] = (__u16)entry_of(&narrow->leaf, &cut[i], index[i]);
	for (; i < DEK_LEAF_CUTS + 4; i++)
		narrow->entry[i] = DEK_LANE_MOST;
	for (i = 0; i < DEK_LEAF_CUTS / DEK_LEAF_BLOCK; i++)
		narrow->sample[i] = narrow->entry[i + 1 < DEK_LEAF_CUTS / DEK_LEAF_BLOCK ? (i + 1) * DEK_LEAF_BLOCK :
											   DEK_LEAF_CUTS];
}

static void wide_fill(struct dek_wide_leaf *wide, const struct dek_cut *cut, const __u8 *index)
{
	unsigned int i;

	for (i = 0; i < wide->leaf.count; i++)
		wide->entry[i] = entry_of(&wide->leaf, &cut[i], index[i]);
}

struct dek_block *dek_leaf_create(const struct dek_cut *cut, unsigned int n)
{
	uintptr_t value[DEK_LEAF_CUTS];
	__u8 index[DEK_LEAF_CUTS];
	unsigned int used = palette_collect(cut, n, value, index);
	unsigned int bits = used == 1 ? 0 : 32 - (unsigned int)__builtin_clz(used - 1);
	unsigned int shift = common_shift(cut, n);
	unsigned int last = (DEK_LANE_MOST >> bits) - 1;
	/* Entries, and what searches look for, stay below DEK_LANE_MOST. */
	bool wide = (cut[n - 1].key - cut[0].key) >> shift > last;
	size_t head = wide ? sizeof(struct dek_wide_leaf) : sizeof(struct dek_narrow_leaf);
	struct dek_leaf *leaf = dek_alloc(head + used * sizeof(*value));

	if (!leaf)
		return NULL;
	leaf->base = cut[0].key;
	leaf->last = (__u16)last;
	leaf->low = (__u16)(((1u << bits) - 1) | DEK_LANE_TOP);
	leaf->bits = (__u8)bits;
	leaf->shift = (__u8)shift;
	leaf->count = (__u8)n;
	leaf->wide = wide;
	if (wide)
		wide_fill((struct dek_wide_leaf *)leaf, cut, index);
	else
		narrow_fill((struct dek_narrow_leaf *)leaf, cut, index);
	memcpy((char *)leaf + head, value, used * sizeof(*value));
	return &leaf->block;
}
