/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The nodes of the range tree. Private to the core.
 *
 * The tree is a B+-tree of cuts: a cut says "from this LBA up to the next cut, this value holds". The first
 * cut is at LBA 0, neighbours differ in value.
 *
 * Once there are many ranges, a lookup costs what its cache misses cost, less what the processor overlaps. So a
 * leaf is small: where it can be, a cut is a number of 2 bytes, its upper bits the distance from the leaf's first
 * LBA, its lower bits the index of its value in the leaf's palette; 64 cuts mostly take three cache lines. And
 * searching is free of branches that depend on the data, a mispredicted one would wait for the miss:
 *  - such a leaf compares eight samples, then the eight cuts after one of them, four to a word;
 *  - an inner node has a byte table over equal stretches of its LBAs that says where to start; at most
 *    DEK_WINDOW cuts lie in one stretch;
 *  - leaves of far distances, and inner nodes whose cuts cluster, are halved until found.
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
#define DEK_LEAF_BLOCK 8u /* cuts from one sample to the next */
#define DEK_INNER_CUTS 234u /* with its table just under a page */
#define DEK_INNER_STRETCHES 255u
#define DEK_WINDOW 4u /* cuts of one stretch, and padding behind the last one */

#define DEK_ALWAYS_INLINE static __attribute__((always_inline)) inline

/* Four 2-byte entries; their top bits are free. */
typedef __u64 __attribute__((may_alias)) dek_word;
#define DEK_LANES 0x0001000100010001ull
#define DEK_LANE_TOP 0x8000u
#define DEK_LANE_MOST 0x7fffu

/* What narrow and wide leaves have in common. */
struct dek_leaf {
	struct dek_block block;
	__u64 base;  /* LBA of the first cut */
	__u16 last;  /* narrow: the greatest distance searched for; none is greater */
	__u16 low;   /* the lower bits of an entry, all ones, and DEK_LANE_TOP */
	__u8 bits;   /* how many those are */
	__u8 shift;  /* log2 of the LBAs that distances are counted in: what all of them are multiples of */
	__u8 count;
	bool wide;
};

/* Distances are small. Behind the last entry stands DEK_LANE_MOST, greater than any. */
struct dek_narrow_leaf {
	struct dek_leaf leaf;
	__u16 sample[DEK_LEAF_CUTS / DEK_LEAF_BLOCK]; /* entries 8, 16, .. */
	__u16 entry[DEK_LEAF_CUTS + 4];
	uintptr_t value[]; /* the palette */
};

/* Distances may have any size an LBA has. */
struct dek_wide_leaf {
	struct dek_leaf leaf;
	__u64 entry[DEK_LEAF_CUTS];
	uintptr_t value[];
};

struct dek_inner {
	struct dek_block block;
	__u64 base; /* LBA of the first cut */
	__u8 shift; /* log2 of the LBAs of one stretch */
	bool clustered; /* more than DEK_WINDOW cuts in one stretch: the table is of no use */
	__u8 count;
	__u8 before[DEK_INNER_STRETCHES]; /* cuts before the stretch */
	struct dek_cut cut[]; /* count, and DEK_WINDOW with a key of all ones */
};

DEK_ALWAYS_INLINE __u64 dek_leaf_key(const struct dek_leaf *leaf, __u64 entry)
{
	return leaf->base + (entry >> leaf->bits << leaf->shift);
}

/* Each lane of the product's top is a sum. Compilers would rather shift and add, twice as many instructions. */
DEK_ALWAYS_INLINE __u64 dek_times_lanes(__u64 x)
{
	__u64 lanes = DEK_LANES;

	__asm__("" : "+r"(lanes));
	return x * lanes;
}

/* How many of the eight entries in two words are <= x, which is in every lane of `wanted`, with its top bit. */
DEK_ALWAYS_INLINE unsigned int dek_lanes_rank(const dek_word *two, __u64 wanted)
{
	__u64 hits = ((wanted - two[0]) >> 15 & DEK_LANES) + ((wanted - two[1]) >> 15 & DEK_LANES);

	return (unsigned int)(dek_times_lanes(hits) >> 48);
}

/* How many of the leaf's cuts are at or before lba. */
DEK_ALWAYS_INLINE unsigned int dek_narrow_rank(const struct dek_narrow_leaf *narrow, __u64 lba)
{
	const struct dek_leaf *leaf = &narrow->leaf;
	__u64 off = (lba - leaf->base) >> leaf->shift;
	__u64 wanted = dek_times_lanes((off < leaf->last ? off : leaf->last) << leaf->bits | leaf->low);
	unsigned int rank = DEK_LEAF_BLOCK * dek_lanes_rank((const dek_word *)narrow->sample, wanted);

	return rank + dek_lanes_rank((const dek_word *)(narrow->entry + rank), wanted);
}

/* Halving: how many of the cuts' keys are <= lba; the first one is. */
static inline unsigned int dek_cuts_rank(const struct dek_cut *cut, unsigned int n, __u64 lba)
{
	const struct dek_cut *first = cut;

	while (n > 1) {
		cut += cut[n / 2].key <= lba ? n / 2 : 0;
		n -= n / 2;
	}
	return (unsigned int)(cut - first) + 1;
}

/* The cut behind that of the child which covers lba >= inner->base; behind the last: one of all ones. */
DEK_ALWAYS_INLINE const struct dek_cut *dek_inner_find(const struct dek_inner *inner, __u64 lba)
{
	__u64 stretch = (lba - inner->base) >> inner->shift;
	const struct dek_cut *cut;

	if (__builtin_expect(inner->clustered, 0))
		return inner->cut + dek_cuts_rank(inner->cut, inner->count, lba);
	cut = inner->cut + inner->before[stretch < DEK_INNER_STRETCHES ? stretch : DEK_INNER_STRETCHES - 1];
	return cut + (cut[0].key <= lba) + (cut[1].key <= lba) + (cut[2].key <= lba) + (cut[3].key <= lba);
}

/* In any leaf. */
unsigned int dek_leaf_rank(const struct dek_leaf *leaf, __u64 lba);
struct dek_cut dek_leaf_cut(const struct dek_leaf *leaf, unsigned int i);

/* Made from 1..DEK_LEAF_CUTS or 1..DEK_INNER_CUTS ascending cuts; NULL: out of memory. Freed by dek_free(). */
struct dek_block *dek_leaf_create(const struct dek_cut *cut, unsigned int n);
struct dek_block *dek_inner_create(const struct dek_cut *cut, unsigned int n);

#endif
