/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Packing of tree nodes. The layout and its reasons are in node.h.
 */
#include "node.h"

DEK_STATIC_ASSERT(sizeof(struct dek_inner) + (DEK_INNER_CUTS + DEK_WINDOW) * sizeof(struct dek_cut) <= 4096,
		  "an inner node is a page");
DEK_STATIC_ASSERT(DEK_INNER_CUTS <= 255, "counts are bytes");
DEK_STATIC_ASSERT(DEK_WINDOW == 4, "dek_inner_find() compares four");
DEK_STATIC_ASSERT(DEK_DENSE_VALUES == 4, "dek_dense_index() compares with three borders");
DEK_STATIC_ASSERT(DEK_DENSE_GRANULES < DEK_NO_BORDER && DEK_DENSE_CUTS < DEK_NO_BORDER, "both are counted in 16 bits");
DEK_STATIC_ASSERT(offsetof(struct dek_dense_leaf, set) == 64, "the first cache line has all but the bits");

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

/* The granule at which the value of this one begins to hold. */
static unsigned int dense_first(const struct dek_dense_leaf *dense, unsigned int granule)
{
	bool set = dek_dense_set(dense, granule);
	unsigned int index = set ? dek_dense_index(dense, granule) : 0;
	unsigned int border = index ? dense->border[index - 1] : 0;
	unsigned int word = granule / 64, first;
	__u64 differ = (dense->set[word] ^ (0 - (__u64)set)) << (63 - granule % 64);

	if (differ) {
		first = granule - (unsigned int)__builtin_clzll(differ) + 1;
	} else {
		while (word && !(differ = dense->set[word - 1] ^ (0 - (__u64)set)))
			word--;
		first = word ? word * 64 - (unsigned int)__builtin_clzll(differ) : 0;
	}
	return first > border ? first : border;
}

static struct dek_stretch dense_at(const struct dek_dense_leaf *dense, __u64 lba)
{
	unsigned int granule = dek_dense_granule(dense, lba), end = dek_dense_end(dense, granule);
	struct dek_stretch at = { .end = ~0ull };

	at.first = dense->leaf.base + ((__u64)dense_first(dense, granule) << dense->leaf.shift);
	if (end <= dense->leaf.last)
		at.end = dense->leaf.base + ((__u64)end << dense->leaf.shift);
	if (dek_dense_set(dense, granule))
		at.value = dense->value[dek_dense_index(dense, granule)];
	return at;
}

static __u64 wide_key(const struct dek_wide_leaf *wide, const __u64 *entry)
{
	return wide->leaf.base + (*entry >> wide->leaf.bits << wide->leaf.shift);
}

static struct dek_stretch wide_at(const struct dek_wide_leaf *wide, __u64 lba)
{
	__u64 off = (lba - wide->leaf.base) >> wide->leaf.shift;
	unsigned int n = wide->leaf.count;
	struct dek_stretch at = { .end = ~0ull };
	const __u64 *e = wide->entry;

	while (n > 1) {
		e += e[n / 2] >> wide->leaf.bits <= off ? n / 2 : 0;
		n -= n / 2;
	}
	at.first = wide_key(wide, e);
	if (e + 1 < wide->entry + wide->leaf.count)
		at.end = wide_key(wide, e + 1);
	at.value = (uintptr_t)wide->entry[wide->leaf.count + (*e & ((1u << wide->leaf.bits) - 1))];
	return at;
}

struct dek_stretch dek_leaf_at(const struct dek_leaf *leaf, __u64 lba)
{
	return leaf->wide ? wide_at((const struct dek_wide_leaf *)leaf, lba) :
			    dense_at((const struct dek_dense_leaf *)leaf, lba);
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
static unsigned int shift_of(__u64 distances)
{
	return distances ? (unsigned int)__builtin_ctzll(distances) : 0;
}

static unsigned int common_shift(const struct dek_cut *cut, unsigned int n)
{
	__u64 all = 0;
	unsigned int i;

	for (i = 1; i < n; i++)
		all |= cut[i].key - cut[0].key;
	return shift_of(all);
}

/* How many of the cuts a dense leaf can hold: with more of them distances only grow and granules shrink. */
static unsigned int dense_fit(const struct dek_cut *cut, unsigned int n)
{
	unsigned int i, values = 0;
	uintptr_t value = 0;
	__u64 all = 0;

	for (i = 0; i < n && i < DEK_DENSE_CUTS; i++) {
		__u64 distance = cut[i].key - cut[0].key;

		all |= distance;
		if (distance >> shift_of(all) >= DEK_DENSE_GRANULES)
			break;
		if (cut[i].value && cut[i].value != value) {
			if (++values > DEK_DENSE_VALUES)
				break;
			value = cut[i].value;
		}
	}
	return i;
}

unsigned int dek_leaf_fit(const struct dek_cut *cut, unsigned int n)
{
	unsigned int dense = dense_fit(cut, n);

	if (dense == n || dense >= DEK_DENSE_LEAST)
		return dense;
	return n < DEK_LEAF_CUTS ? n : DEK_LEAF_CUTS;
}

/* Sets the bits from this granule to the last one. */
static void set_behind(struct dek_dense_leaf *dense, unsigned int granule, bool set)
{
	unsigned int word = granule / 64;
	__u64 behind = ~0ull << granule % 64;

	dense->set[word] = set ? dense->set[word] | behind : dense->set[word] & ~behind;
	for (word++; word <= dense->leaf.last / 64u; word++)
		dense->set[word] = set ? ~0ull : 0;
}

static struct dek_leaf *dense_create(const struct dek_cut *cut, unsigned int n)
{
	unsigned int shift = common_shift(cut, n), i, values = 0;
	unsigned int words = (unsigned int)((cut[n - 1].key - cut[0].key) >> shift) / 64 + 1;
	struct dek_dense_leaf *dense = dek_alloc(sizeof(*dense) + words * sizeof(dense->set[0]));

	if (!dense)
		return NULL;
	dense->leaf.shift = (__u8)shift;
	dense->leaf.last = (__u16)(words * 64 - 1);
	for (i = 0; i < DEK_DENSE_VALUES; i++)
		dense->border[i] = DEK_NO_BORDER;
	for (i = 0; i < n; i++) {
		unsigned int granule = (unsigned int)((cut[i].key - cut[0].key) >> shift);

		if (cut[i].value && (!values || cut[i].value != dense->value[values - 1])) {
			if (values)
				dense->border[values - 1] = (__u16)granule;
			dense->value[values++] = cut[i].value;
		}
		set_behind(dense, granule, cut[i].value != 0);
	}
	return &dense->leaf;
}

static struct dek_leaf *wide_create(const struct dek_cut *cut, unsigned int n)
{
	__u8 index[DEK_LEAF_CUTS];
	unsigned int values, shift = common_shift(cut, n), i;
	struct dek_wide_leaf *wide;

	if (n > DEK_LEAF_CUTS) /* not what dek_leaf_fit() said */
		return NULL;
	values = palette_collect(cut, n, index);
	wide = dek_alloc(sizeof(*wide) + (n + values + 1) * sizeof(wide->entry[0]));
	if (!wide)
		return NULL;
	wide->leaf.wide = true;
	wide->leaf.shift = (__u8)shift;
	wide->leaf.bits = values ? (__u8)(32 - __builtin_clz(values)) : 0;
	for (i = 0; i < n; i++) {
		wide->entry[i] = (cut[i].key - cut[0].key) >> shift << wide->leaf.bits | index[i];
		wide->entry[n + index[i]] = cut[i].value;
	}
	return &wide->leaf;
}

struct dek_block *dek_leaf_create(const struct dek_cut *cut, unsigned int n)
{
	struct dek_leaf *leaf = dense_fit(cut, n) == n ? dense_create(cut, n) : wide_create(cut, n);

	if (!leaf)
		return NULL;
	leaf->base = cut[0].key;
	leaf->count = (__u16)n;
	return &leaf->block;
}
