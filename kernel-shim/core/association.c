/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Associations: made from a command, compared with another, let go of with their key wiped.
 */
#include "association.h"

#include <dek/lunmap.h>

void dek_association_free(struct dek_association *a)
{
	if (a->ops)
		a->ops->key_drop(a->shim, a);
	dek_wipe(a->key, sizeof(a->key));
	dek_free(a);
}

struct dek_association *dek_association_create(const struct dek_command *cmd)
{
	struct dek_association *a = dek_alloc(sizeof(*a));
	__u32 i;

	if (!a)
		return NULL;
	dek_ref_init(&a->refs);
	a->geometry = cmd->geometry;
	a->algorithm = cmd->blob.present ? cmd->blob.algorithm : DEK_ALG_AES;
	a->mode = cmd->blob.present ? cmd->blob.mode : DEK_MODE_XTS;
	a->key_id_length = (__u8)cmd->key_id_length;
	memcpy(a->key_id, cmd->key_id, cmd->key_id_length);
	for (i = 0; i < cmd->map_count; i++)
		a->map[i] = dek_command_range(cmd, i);
	a->map_count = (__u32)dek_map_merge(a->map, cmd->map_count);
	return a;
}

enum dek_status dek_association_resolve(struct dek_association *a, const struct dek_command *cmd,
					const struct dek_engine_ops *ops, void *shim)
{
	enum dek_status status;

	if (cmd->blob.present && cmd->blob.type == DEK_BLOB_UNWRAPPED) {
		a->key_length = cmd->blob.key_length;
		memcpy(a->key, cmd->blob.key_data, DEK_KEY_DATA_SIZE);
	} else {
		if (!ops->key_resolve)
			return DEK_NOT_CAPABLE;
		status = ops->key_resolve(shim, cmd, a->key, &a->key_length);
		if (status != DEK_OK)
			return status;
	}
	return dek_key_check(a->key, a->key_length);
}

enum dek_status dek_association_engage(struct dek_association *a, const struct dek_engine_ops *ops, void *shim)
{
	enum dek_status status = ops->key_set(shim, a);

	if (status == DEK_OK) {
		a->shim = shim;
		a->ops = ops;
	}
	return status;
}

void dek_association_inherit(struct dek_association *a, const struct dek_association *from)
{
	a->algorithm = from->algorithm;
	a->mode = from->mode;
	a->key_length = from->key_length;
	memcpy(a->key, from->key, DEK_KEY_DATA_SIZE);
}

bool dek_association_same_id(const struct dek_association *a, const struct dek_association *b)
{
	return a->key_id_length == b->key_id_length && !memcmp(a->key_id, b->key_id, a->key_id_length);
}

static bool same_geometry(const struct dek_geometry *a, const struct dek_geometry *b)
{
	return a->data_unit == b->data_unit && a->tweak_rule == b->tweak_rule &&
	       a->device_origin == b->device_origin && a->logical_origin == b->logical_origin &&
	       a->chunk == b->chunk && a->stripes == b->stripes && a->leg == b->leg;
}

bool dek_association_same_kind(const struct dek_association *a, const struct dek_association *b)
{
	return a->algorithm == b->algorithm && a->mode == b->mode && dek_association_same_id(a, b) &&
	       same_geometry(&a->geometry, &b->geometry);
}

bool dek_association_same_map(const struct dek_association *a, const struct dek_association *b)
{
	return a->map_count == b->map_count && !memcmp(a->map, b->map, a->map_count * sizeof(a->map[0]));
}

bool dek_association_same_key(const struct dek_association *a, const struct dek_association *b)
{
	if (!a->key_length || !b->key_length)
		return true;
	return a->key_length == b->key_length && dek_equal_ct(a->key, b->key, DEK_KEY_DATA_SIZE);
}

bool dek_table_reserve(struct dek_table *t)
{
	__u32 room = t->room ? 2 * t->room : 8;
	struct dek_association **slot;

	if (t->count < t->room)
		return true;
	slot = dek_alloc((size_t)room * sizeof(*slot));
	if (!slot)
		return false;
	if (t->count)
		memcpy(slot, t->slot, t->count * sizeof(*slot));
	dek_free(t->slot);
	t->slot = slot;
	t->room = room;
	return true;
}

void dek_table_append(struct dek_table *t, struct dek_association *a)
{
	t->slot[t->count++] = a;
}

__u32 dek_table_above(const struct dek_table *t, __u64 above)
{
	__u32 lo = 0, hi = t->count;

	while (lo < hi) {
		__u32 middle = lo + (hi - lo) / 2;

		if (t->slot[middle]->handle <= above)
			lo = middle + 1;
		else
			hi = middle;
	}
	return lo;
}

struct dek_association **dek_table_find(const struct dek_table *t, __u64 handle)
{
	__u32 i = handle ? dek_table_above(t, handle - 1) : t->count;

	return i < t->count && t->slot[i]->handle == handle ? &t->slot[i] : NULL;
}

void dek_table_remove(struct dek_table *t, struct dek_association **slot)
{
	memmove(slot, slot + 1, (size_t)(t->slot + t->count - (slot + 1)) * sizeof(*slot));
	t->count--;
}
