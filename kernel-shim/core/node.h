/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The nodes of the range tree. Private to the core.
 *
 * The tree is a B+-tree of cuts: a cut says "from this LBA up to the next cut, this value holds". The first
 * cut is at LBA 0, neighbours differ in value.
 *
 * Once there are many ranges, a lookup costs what its cache misses cost, less what the processor overlaps, and a
 * map that stays in the cache costs a tenth of one that does not. So a leaf is small: where it can be, a cut is a
 * byte and two bits, its distance from the first cut of its block of sixteen and the index of its value in the
 * leaf's palette; with all else, 144 cuts are four cache lines, of which a search needs the first and, mostly, one
 * more. And searching is free of branches that depend on the data, a mispredicted one would wait for the miss:
 *  - such a leaf compares the starts of its nine blocks, four to a word, then the sixteen cuts of one of them,
 *    eight to a word;
 *  - an inner node has a byte table over equal stretches of its LBAs that says where to start; at most
 *    DEK_WINDOW cuts lie in one stretch;
 *  - leaves of far distances or many values, and inner nodes whose cuts cluster, are halved until found.
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

#define DEK_LEAF_CUTS 144u
#define DEK_LEAF_BLOCK 16u
#define DEK_LEAF_BLOCKS (DEK_LEAF_CUTS / DEK_LEAF_BLOCK)
#define DEK_LEAF_VALUES 4u /* of a narrow leaf, 0 among them: an index has two bits */
#define DEK_INNER_CUTS 234u /* with its table just under a page */
#define DEK_INNER_STRETCHES 255u
#define DEK_WINDOW 4u /* cuts of one stretch, and padding behind the last one */

#define DEK_ALWAYS_INLINE static __attribute__((always_inline)) inline

/* A word holds four or eight numbers; their top bits are free. */
#define DEK_LANES16 0x0001000100010001ull
#define DEK_LANES8 0x0101010101010101ull
#define DEK_START_MOST 0x7fffu /* greater than any distance searched for */
#define DEK_STEP_MOST 0x7fu

/* What narrow and wide leaves have in common. */
struct dek_leaf {
	struct dek_block block;
	__u64 base;  /* LBA of the first cut */
	__u8 shift;  /* log2 of the LBAs that distances are counted in: what all of them are multiples of */
	__u8 bits;   /* wide: of an entry, those that are the index of the value */
	__u8 count;
	bool wide;
};

struct dek_leaf_block {
	__u32 index; /* two bits a cut, the first one's lowest; 0 stands for the value 0 */
	__u8 step[DEK_LEAF_BLOCK]; /* behind the last cut: DEK_STEP_MOST */
};

/* Distances are small, values few. Cut i is a step from the start of its block, and that from the first cut. */
struct dek_narrow_leaf {
	struct dek_leaf leaf;
	uintptr_t value[DEK_LEAF_VALUES - 1]; /* the palette */
	__u16 start[DEK_LEAF_BLOCKS - 1];     /* of the blocks but the first; of those not there: DEK_START_MOST */
	struct dek_leaf_block of[DEK_LEAF_BLOCKS];
	__u8 spare[12];
};

/* Distances may have any size an LBA has. */
struct dek_wide_leaf {
	struct dek_leaf leaf;
	__u64 entry[DEK_LEAF_CUTS]; /* the distance, and below it the index */
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

/* The sum of all lanes is in the product's top one. Compilers would rather shift and add, twice as many instructions. */
DEK_ALWAYS_INLINE __u64 dek_times(__u64 x, __u64 lanes)
{
	__asm__("" : "+r"(lanes));
	return x * lanes;
}

DEK_ALWAYS_INLINE __u64 dek_word_at(const void *p)
{
	__u64 word;

	memcpy(&word, p, sizeof(word));
	return word;
}

/* How many of the blocks behind the first start at or before the distance. */
DEK_ALWAYS_INLINE unsigned int dek_starts_rank(const __u16 *start, __u64 distance)
{
	__u64 wanted = dek_times(distance | (DEK_START_MOST + 1), DEK_LANES16);
	__u64 hits = ((wanted - dek_word_at(start)) >> 15 & DEK_LANES16) +
		     ((wanted - dek_word_at(start + 4)) >> 15 & DEK_LANES16);

	return (unsigned int)(dek_times(hits, DEK_LANES16) >> 48);
}

/* How many of the cuts of one block lie at or before the distance from its start. */
DEK_ALWAYS_INLINE unsigned int dek_steps_rank(const __u8 *step, __u64 distance)
{
	__u64 wanted = dek_times(distance | (DEK_STEP_MOST + 1), DEK_LANES8);
	__u64 hits = ((wanted - dek_word_at(step)) >> 7 & DEK_LANES8) +
		     ((wanted - dek_word_at(step + 8)) >> 7 & DEK_LANES8);

	return (unsigned int)(dek_times(hits, DEK_LANES8) >> 56);
}

/* The distance of a block's first cut from the leaf's. start[-1] would be of the first block. */
DEK_ALWAYS_INLINE __u64 dek_block_start(const struct dek_narrow_leaf *narrow, unsigned int block)
{
	return block ? narrow->start[block - 1] : 0;
}

/* How many of the leaf's cuts are at or before lba >= leaf->base. */
DEK_ALWAYS_INLINE unsigned int dek_narrow_rank(const struct dek_narrow_leaf *narrow, __u64 lba)
{
	__u64 off = (lba - narrow->leaf.base) >> narrow->leaf.shift;
	unsigned int block;

	off = off < DEK_START_MOST ? off : DEK_START_MOST - 1;
	block = dek_starts_rank(narrow->start, off);
	off -= dek_block_start(narrow, block);
	off = off < DEK_STEP_MOST ? off : DEK_STEP_MOST - 1;
	return block * DEK_LEAF_BLOCK + dek_steps_rank(narrow->of[block].step, off);
}

DEK_ALWAYS_INLINE __u64 dek_narrow_key(const struct dek_narrow_leaf *narrow, unsigned int i)
{
	unsigned int block = i / DEK_LEAF_BLOCK;
	__u64 distance = dek_block_start(narrow, block) + narrow->of[block].step[i % DEK_LEAF_BLOCK];

	return narrow->leaf.base + (distance << narrow->leaf.shift);
}

DEK_ALWAYS_INLINE uintptr_t dek_narrow_value(const struct dek_narrow_leaf *narrow, unsigned int i)
{
	unsigned int index = narrow->of[i / DEK_LEAF_BLOCK].index >> (2 * (i % DEK_LEAF_BLOCK)) & (DEK_LEAF_VALUES - 1);

	return index ? narrow->value[index - 1] : 0;
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
	/* Leaves of similar size: about there. Meanwhile the table is asked. */
	__builtin_prefetch(inner->cut + (stretch * inner->count >> 8));
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
