/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Making and comparing associations, and the endpoint's table of them. Private to the core; under the command
 * lock.
 */
#ifndef DEK_CORE_ASSOCIATION_H
#define DEK_CORE_ASSOCIATION_H

#include "snapshot.h"

/* What Associate or Update asks for, without handle, key or engine; one hold. NULL: out of memory. */
struct dek_association *dek_association_create(const struct dek_command *cmd);
/* The key, from the blob or by ops->key_resolve. */
enum dek_status dek_association_resolve(struct dek_association *a, const struct dek_command *cmd,
					const struct dek_engine_ops *ops, void *shim);
/* Hands the key to the engine; from then on the last put takes it back. */
enum dek_status dek_association_engage(struct dek_association *a, const struct dek_engine_ops *ops, void *shim);

/* Takes over another's key, both of the same ID. */
void dek_association_inherit(struct dek_association *a, const struct dek_association *from);

bool dek_association_same_id(const struct dek_association *a, const struct dek_association *b);
/* The key's ID, form and geometry agree. */
bool dek_association_same_kind(const struct dek_association *a, const struct dek_association *b);
bool dek_association_same_map(const struct dek_association *a, const struct dek_association *b);
/* In constant time; a key not given agrees with any. */
bool dek_association_same_key(const struct dek_association *a, const struct dek_association *b);

/* By handle; holds one reference each. */
struct dek_table {
	struct dek_association **slot; /* ascending handles */
	__u32 count;
	__u32 room;
};
/* Room for one more; false: out of memory. */
bool dek_table_reserve(struct dek_table *t);
/* Room is reserved, and the handle is the highest yet. */
void dek_table_append(struct dek_table *t, struct dek_association *a);
/* The place of the first handle above `above`; t->count: none. */
__u32 dek_table_above(const struct dek_table *t, __u64 above);
/* Where this handle's association is, or NULL. */
struct dek_association **dek_table_find(const struct dek_table *t, __u64 handle);
void dek_table_remove(struct dek_table *t, struct dek_association **slot);

#endif
