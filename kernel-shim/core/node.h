/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The nodes of the range tree. Private to the core.
 *
 * The tree is a B+-tree of cuts: a cut says "from this LBA up to the next cut, this value holds". The first
 * cut is at LBA 0, neighbours differ in value.
 *
 * Once there are many ranges, a lookup costs what its cache misses cost, and a map that stays in the cache costs a
 * tenth of one that does not. So where cuts lie close together a leaf is dense: a bit for each granule of LBAs, a
 * granule being what all distances of the leaf are multiples of. The bit says whether the value there is other than
 * 0, and as ranges of one value mostly follow one another, which value it is takes a few borders. Extents of a file
 * system, 4 to 32 KiB long and as far apart, need six bits a cut and a lookup two cache lines of their leaf. And
 * where a search could take one of several ways the branches do not depend on the data, a mispredicted one would
 * wait for the miss:
 *  - the granule of a dense leaf follows from the LBA, and the next cut is the next bit that differs;
 *  - an inner node has a byte table over equal stretches of its LBAs that says where to start; at most
 *    DEK_WINDOW cuts lie in one stretch;
 *  - leaves of far distances or values that alternate, and inner nodes whose cuts cluster, are halved until found.
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

#define DEK_LEAF_CUTS 120u /* of a wide leaf: with a few values just under a KiB */
#define DEK_DENSE_CUTS 400u
#define DEK_DENSE_LEAST 48u /* rather a wide leaf than a dense one of fewer, if there are more */
#define DEK_DENSE_VALUES 4u /* other than 0 */
#define DEK_DENSE_WORDS 24u
#define DEK_DENSE_GRANULES (DEK_DENSE_WORDS * 64u)
#define DEK_NO_BORDER 0xffffu /* behind every granule */
#define DEK_INNER_CUTS 234u /* with its table just under a page */
#define DEK_INNER_STRETCHES 255u
#define DEK_WINDOW 4u /* cuts of one stretch, and padding behind the last one */

#define DEK_ALWAYS_INLINE static __attribute__((always_inline)) inline

/* What dense and wide leaves have in common. */
struct dek_leaf {
	struct dek_block block;
	__u64 base;  /* LBA of the first cut */
	__u8 shift;  /* log2 of the LBAs that distances are counted in: what all of them are multiples of */
	__u8 bits;   /* wide: of an entry, those that are the index of the value */
	bool wide;
	__u16 count; /* of cuts */
	__u16 last;  /* dense: the last granule that has a bit; what holds there holds up to the next leaf */
};

/* Distances are small; values other than 0 follow one another, each from the border of the one before to its own. */
struct dek_dense_leaf {
	struct dek_leaf leaf;
	__u16 border[DEK_DENSE_VALUES]; /* granules; the last value has DEK_NO_BORDER */
	uintptr_t value[DEK_DENSE_VALUES];
	__u64 set[]; /* granule 0 is the lowest bit */
};

/* Distances may have any size an LBA has. */
struct dek_wide_leaf {
	struct dek_leaf leaf;
	__u64 entry[]; /* the distance, and below it the index of the value; behind the last one: the values */
};

/* One stretch without a cut in it: LBAs [first, end). */
struct dek_stretch {
	__u64 first;
	__u64 end;
	uintptr_t value;
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

/* The granule of the leaf that lba >= leaf->base lies in, or the last one. */
DEK_ALWAYS_INLINE unsigned int dek_dense_granule(const struct dek_dense_leaf *dense, __u64 lba)
{
	__u64 granule = (lba - dense->leaf.base) >> dense->leaf.shift;

	return granule < dense->leaf.last ? (unsigned int)granule : dense->leaf.last;
}

/* Which of the values it is, where the bit is set. */
DEK_ALWAYS_INLINE unsigned int dek_dense_index(const struct dek_dense_leaf *dense, unsigned int granule)
{
	return (granule >= dense->border[0]) + (granule >= dense->border[1]) + (granule >= dense->border[2]);
}

DEK_ALWAYS_INLINE bool dek_dense_set(const struct dek_dense_leaf *dense, unsigned int granule)
{
	return dense->set[granule / 64] >> granule % 64 & 1;
}

/* The first granule behind this one where another value holds; more than leaf.last: none does. */
DEK_ALWAYS_INLINE unsigned int dek_dense_end(const struct dek_dense_leaf *dense, unsigned int granule)
{
	bool set = dek_dense_set(dense, granule);
	unsigned int border = set ? dense->border[dek_dense_index(dense, granule)] : DEK_NO_BORDER;
	unsigned int word = granule / 64, end;
	__u64 differ = (dense->set[word] ^ (0 - (__u64)set)) >> granule % 64;

	end = granule;
	while (!differ) {
		if (++word > dense->leaf.last / 64u)
			return border;
		differ = dense->set[word] ^ (0 - (__u64)set);
		end = word * 64;
	}
	end += (unsigned int)__builtin_ctzll(differ);
	return end < border ? end : border;
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

/* What holds at lba >= leaf->base; the end of a leaf's last stretch is all ones. */
struct dek_stretch dek_leaf_at(const struct dek_leaf *leaf, __u64 lba);

/* How many of these cuts, one at least, go into a leaf. */
unsigned int dek_leaf_fit(const struct dek_cut *cut, unsigned int n);

/* Made from that many cuts or fewer, or from 1..DEK_INNER_CUTS; NULL: out of memory. Freed by dek_free(). */
struct dek_block *dek_leaf_create(const struct dek_cut *cut, unsigned int n);
struct dek_block *dek_inner_create(const struct dek_cut *cut, unsigned int n);

#endif
