/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The range map of a snapshot: a persistent B+-tree of cuts (node.h), and how the next one is made from it.
 * Private to the core.
 *
 * A new tree is streamed: the old one is walked in order, subtrees that no edit touches are taken over as they
 * are, the rest is taken apart, edited and packed again. So m edits cost O(m log n), a whole new map O(n), and
 * every node that is replaced is replaced once. History is one line: what a new tree does not use is used by
 * nobody but readers of older ones.
 *
 * Threading: lookups any time; everything else under the command lock.
 */
#ifndef DEK_CORE_TREE_H
#define DEK_CORE_TREE_H

#include "node.h"

#include <dek/ioctl.h>

struct dek_association;

/* What a cut says: enum dek_range_state in the low bits; keyed: the association's address in the others. */
#define DEK_VALUE_STATE 7u
#define DEK_STATES 5u
static inline unsigned int dek_value_state(uintptr_t value)
{
	return (unsigned int)(value & DEK_VALUE_STATE);
}
static inline struct dek_association *dek_value_association(uintptr_t value)
{
	return (struct dek_association *)(value & ~(uintptr_t)DEK_VALUE_STATE);
}
static inline uintptr_t dek_value_keyed(struct dek_association *a)
{
	return (uintptr_t)a | DEK_RANGE_KEYED;
}

struct dek_tree {
	const struct dek_block *root;
	__u8 height; /* levels above the leaves */
	__u32 ranges[DEK_STATES]; /* how many there are in each state but plain */
};

/* The leaf lba lies in. */
DEK_ALWAYS_INLINE const struct dek_leaf *dek_tree_leaf(const struct dek_tree *tree, __u64 lba)
{
	const struct dek_block *node = tree->root;
	unsigned int height;

	for (height = tree->height; height; height--)
		node = (const struct dek_block *)dek_inner_find((const struct dek_inner *)node, lba)[-1].value;
	return (const struct dek_leaf *)node;
}

/* The stretch lba lies in, cut off at `end`, beyond which no LBA may be asked for. */
struct dek_stretch dek_tree_find(const struct dek_tree *tree, __u64 lba, __u64 end);

/* The LBAs [first, end) become `value`. */
struct dek_edit {
	__u64 first;
	__u64 end;
	uintptr_t value;
};

#define DEK_TREE_LEVELS 8u

/* Cuts waiting to become nodes of one level: enough that what is left of them when one is made makes another. */
#define DEK_PACK_CUTS 510u
struct dek_pack {
	unsigned int count;
	struct dek_cut cut[DEK_PACK_CUTS];
};

/* A tree being made. Starts zeroed; the packs are kept from one to the next. */
struct dek_weave {
	struct dek_pack *pack[DEK_TREE_LEVELS + 1];
	const struct dek_edit *edit; /* ascending, not overlapping */
	unsigned int edits, next;    /* edit[next] is the first that is not over */
	bool inside;		     /* edit[next] has begun */
	bool closing;		     /* nothing follows what is in the packs */
	bool failed;		     /* out of memory: nothing is made from here on */
	uintptr_t under;	     /* the old tree's value at this point */
	uintptr_t last;		     /* value of the last cut put out; ~0: not known */
	__u32 ranges[DEK_STATES];
	struct dek_block *fresh;   /* nodes made */
	struct dek_block *dropped; /* nodes of the old tree no longer used */
};

/*
 * Each returns false when out of memory; then nothing has happened and nothing needs to be freed. Otherwise *out
 * is the new tree, weave->dropped the nodes of `old` it does not use, and weave->fresh those to be given to
 * dek_blocks_free() if the new tree is given up after all (the lists share links: only one of them may be used).
 */
bool dek_tree_edit(struct dek_weave *weave, const struct dek_tree *old, const struct dek_edit *edit,
		   unsigned int n, struct dek_tree *out);
/* A tree that is plain all over. */
bool dek_tree_plain(struct dek_weave *weave, struct dek_tree *out);

/* A whole new tree, cut by cut (ascending; the first at LBA 0), between begin and end. */
void dek_tree_begin(struct dek_weave *weave);
void dek_tree_cut(struct dek_weave *weave, __u64 key, uintptr_t value);
bool dek_tree_end(struct dek_weave *weave, struct dek_tree *out);
/* Puts every node of the tree on the list. */
void dek_tree_drop(const struct dek_tree *tree, struct dek_block **list);

void dek_blocks_free(struct dek_block *list);
void dek_weave_clear(struct dek_weave *weave);

#endif
