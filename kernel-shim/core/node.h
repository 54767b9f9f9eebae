/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The nodes of the range tree. Private to the core.
 *
 * The tree is a B+-tree of cuts: a cut says "from this LBA up to the next cut, this value holds". The first
 * cut is at LBA 0, neighbours differ in value. A lookup is bound by cache misses once there are many
 * ranges, so a leaf is packed: a cut is one number of 2, 4 or 8 bytes (the narrowest that does for the whole
 * leaf), its upper bits the distance from the leaf's first LBA in data units, its lower bits the index of its
 * value in the leaf's palette. 64 cuts take some 200 bytes.
 *
 * Search: a byte table over equal stretches of the node's LBAs says where to start, which leaves a few
 * neighbouring cuts to compare, without a branch; where cuts cluster in one stretch, binary search comes first.
 *
 * A node is never modified once a snapshot shows it, but for block.next, which readers do not look at.
 */
#ifndef DEK_CORE_NODE_H
#define DEK_CORE_NODE_H

#include <dek/platform.h>

/* Heads everything that readers may still be looking at when it is dropped: one list links it all. */
struct dek_block {
	struct dek_block *next;
};

/* An entry in its wide form. Leaf level: `value` from `key` on. Above: the node whose first LBA is `key`. */
struct dek_cut {
	__u64 key;
	uintptr_t value;
};

#define DEK_LEAF_CUTS 64u
#define DEK_LEAF_HINTS 16u
#define DEK_INNER_CUTS 236u /* with its tables just under a page */
#define DEK_INNER_HINTS 255u
#define DEK_WINDOW 4u /* entries compared without a branch, and padding behind the last one */

struct dek_leaf {
	struct dek_block block;
	__u64 base; /* LBA of the first cut */
	__u8 count;
	__u8 width; /* bytes of an entry: 2, 4 or 8 */
	__u8 bits;  /* of an entry that index the palette */
	__u8 palette; /* values in use */
	__u8 hint_shift; /* data units of one stretch, as a power of two */
	__u8 hint[DEK_LEAF_HINTS + 1]; /* entries before the stretch */
	uintptr_t value[]; /* palette; then count entries and DEK_WINDOW of all ones */
};

struct dek_inner {
	struct dek_block block;
	__u64 base; /* LBA of the first key */
	__u8 count;
	__u8 hint_shift; /* LBAs of one stretch, as a power of two */
	__u8 hint[DEK_INNER_HINTS + 1];
	__u64 key[]; /* count keys and DEK_WINDOW of all ones; then count children */
};

static inline const void *dek_leaf_entries(const struct dek_leaf *leaf)
{
	return leaf->value + leaf->palette;
}
static inline struct dek_block *const *dek_inner_children(const struct dek_inner *inner)
{
	return (struct dek_block *const *)(inner->key + inner->count + DEK_WINDOW);
}

/*
 * How many of e[0..] are <= x, given that at least lo and at most hi are. e is padded with DEK_WINDOW
 * entries that are greater than any x.
 */
#define DEK_NODE_RANK(name, type)                                                                            \
	static inline unsigned int name(const type *e, unsigned int lo, unsigned int hi, type x)             \
	{                                                                                                    \
		while (__builtin_expect(hi - lo > DEK_WINDOW, 0)) {                                          \
			unsigned int middle = (lo + hi) / 2;                                                 \
                                                                                                             \
			if (e[middle] <= x)                                                                  \
				lo = middle + 1;                                                             \
			else                                                                                 \
				hi = middle;                                                                 \
		}                                                                                            \
		e += lo;                                                                                     \
		return lo + (e[0] <= x) + (e[1] <= x) + (e[2] <= x) + (e[3] <= x);                           \
	}
DEK_NODE_RANK(dek_rank16, __u16)
DEK_NODE_RANK(dek_rank32, __u32)
DEK_NODE_RANK(dek_rank64, __u64)

/* The child that covers lba >= inner->base; *end shrinks to where the next child begins. */
static inline const struct dek_block *dek_inner_find(const struct dek_inner *inner, __u64 lba, __u64 *end)
{
	__u64 stretch = (lba - inner->base) >> inner->hint_shift;
	unsigned int at = stretch < DEK_INNER_HINTS ? (unsigned int)stretch : DEK_INNER_HINTS - 1;
	unsigned int rank = dek_rank64(inner->key, inner->hint[at], inner->hint[at + 1], lba);

	*end = rank < inner->count ? inner->key[rank] : *end;
	return dek_inner_children(inner)[rank - 1];
}

/* Where the last cut at or before lba is: its place in the leaf. The leaf's units are 512 << shift bytes. */
static inline unsigned int dek_leaf_rank(const struct dek_leaf *leaf, unsigned int shift, __u64 lba)
{
	__u64 off = (lba - leaf->base) >> shift;
	__u64 stretch = off >> leaf->hint_shift;
	unsigned int at = stretch < DEK_LEAF_HINTS ? (unsigned int)stretch : DEK_LEAF_HINTS - 1;
	unsigned int lo = leaf->hint[at], hi = leaf->hint[at + 1];
	__u64 most = (~0ull >> (64 - 8 * leaf->width) >> leaf->bits) - 1;
	__u64 x = ((off < most ? off : most) + 1) << leaf->bits;

	x--;
	if (__builtin_expect(leaf->width == 2, 1))
		return dek_rank16(dek_leaf_entries(leaf), lo, hi, (__u16)x);
	if (leaf->width == 4)
		return dek_rank32(dek_leaf_entries(leaf), lo, hi, (__u32)x);
	return dek_rank64(dek_leaf_entries(leaf), lo, hi, x);
}

static inline __u64 dek_leaf_entry(const struct dek_leaf *leaf, unsigned int i)
{
	const void *e = dek_leaf_entries(leaf);

	if (__builtin_expect(leaf->width == 2, 1))
		return ((const __u16 *)e)[i];
	if (leaf->width == 4)
		return ((const __u32 *)e)[i];
	return ((const __u64 *)e)[i];
}

static inline __u64 dek_leaf_key(const struct dek_leaf *leaf, unsigned int shift, __u64 entry)
{
	return leaf->base + (entry >> leaf->bits << shift);
}
static inline uintptr_t dek_leaf_value(const struct dek_leaf *leaf, __u64 entry)
{
	return leaf->value[entry & ((1u << leaf->bits) - 1)];
}

/* Made from 1..DEK_LEAF_CUTS or 1..DEK_INNER_CUTS ascending cuts; NULL: out of memory. Freed by dek_free(). */
struct dek_block *dek_leaf_create(const struct dek_cut *cut, unsigned int n, unsigned int shift);
struct dek_block *dek_inner_create(const struct dek_cut *cut, unsigned int n);

#endif
