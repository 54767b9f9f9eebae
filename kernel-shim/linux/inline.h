/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The `inline` engine: blk-crypto of the device beneath (inline.c). Without the kernel's exports no endpoint has it,
 * and all of this compiles to nothing.
 */
#ifndef DEK_INLINE_H
#define DEK_INLINE_H

#include "shim.h"

struct dek_inline;     /* the engine of an endpoint; NULL: it has none */
struct dek_inline_key; /* NULL: the CPU's cipher serves this key */

#ifdef DEK_INLINE
struct dek_inline_key *dek_engine_inline(const struct dek_association *a); /* engine.c */
/* *out: NULL where the device has no inline encryption. 0 or -errno. Sleeps. */
int dek_inline_open(const struct dek_place *place, struct dek_inline **out);
/* Keys that are still set keep the device. */
void dek_inline_close(struct dek_inline *e);
/* May a key be taken now? With the command lock; the first call compares what the engine reads with what it should. */
enum dek_status dek_inline_ready(struct dek_inline *e, const struct dek_geometry *geometry);
enum dek_status dek_inline_key_make(struct dek_inline *e, const struct dek_association *a, struct dek_inline_key **out);
void dek_inline_key_free(struct dek_inline_key *k);
/* Whether the engine takes the first *count LBAs of the bio, or fewer: *count shrinks to where the tweak jumps. */
bool dek_inline_takes(struct dek_io *io, const struct bio *bio, u64 *count);
/* The bio, cut to what was taken, carries key and tweak from here. Sleeps. */
void dek_inline_set(struct dek_io *io, struct bio *bio, const struct dek_inline_key *k);
#else
static inline struct dek_inline_key *dek_engine_inline(const struct dek_association *a)
{
	return NULL;
}

static inline int dek_inline_open(const struct dek_place *place, struct dek_inline **out)
{
	*out = NULL;
	return 0;
}

static inline void dek_inline_close(struct dek_inline *e)
{
}

static inline enum dek_status dek_inline_ready(struct dek_inline *e, const struct dek_geometry *geometry)
{
	return DEK_OK;
}

static inline enum dek_status dek_inline_key_make(struct dek_inline *e, const struct dek_association *a,
						  struct dek_inline_key **out)
{
	*out = NULL;
	return DEK_OK;
}

static inline void dek_inline_key_free(struct dek_inline_key *k)
{
}

static inline bool dek_inline_takes(struct dek_io *io, const struct bio *bio, u64 *count)
{
	return false;
}

static inline void dek_inline_set(struct dek_io *io, struct bio *bio, const struct dek_inline_key *k)
{
}
#endif

#endif
