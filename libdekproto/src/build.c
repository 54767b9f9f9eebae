/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Building commands. Only lengths are judged here: what a block says is for its receiver to judge. */
#include <dek/codec.h>

void dek_block_begin(__u8 block[DEK_BLOCK_SIZE], __u32 opcode, __u64 endpoint_id, __u64 controller_handle)
{
	struct dek_wire_header *h = (struct dek_wire_header *)block;

	memset(block, 0, DEK_BLOCK_SIZE);
	dek_put_le64(h->signature, DEK_SIGNATURE);
	dek_put_le32(&h->version, DEK_PROTO_VERSION);
	dek_put_le32(&h->opcode, opcode);
	dek_put_le64(&h->endpoint_id, endpoint_id);
	dek_put_le64(&h->controller_handle, controller_handle);
}

void dek_block_seal(__u8 block[DEK_BLOCK_SIZE])
{
	struct dek_wire_header *h = (struct dek_wire_header *)block;

	dek_put_le64(&h->checksum, dek_crc32c(block + 16, DEK_BLOCK_SIZE - 16));
}

enum dek_status dek_block_handshake(__u8 block[DEK_BLOCK_SIZE], const char *class_name, const __u8 random[768])
{
	struct dek_wire_handshake *w = (struct dek_wire_handshake *)block;
	__u32 n = 0;

	while (n < DEK_CLASS_NAME_SIZE && class_name[n])
		n++;
	if (n == DEK_CLASS_NAME_SIZE)
		return DEK_MALFORMED;
	memcpy(w->class_name, class_name, n);
	memcpy(w->random1, random, DEK_RANDOM1_SIZE);
	memcpy(w->random2, random + DEK_RANDOM1_SIZE, DEK_RANDOM2_SIZE);
	return DEK_OK;
}

static void put_ranges(struct dek_wire_range *out, const struct dek_range *map, __u32 n)
{
	__u32 i;

	for (i = 0; i < n; i++) {
		dek_put_le64(&out[i].first, map[i].first);
		dek_put_le64(&out[i].count, map[i].count);
	}
}

enum dek_status dek_block_query(__u8 block[DEK_BLOCK_SIZE], const struct dek_range *map, __u32 n)
{
	struct dek_wire_query *w = (struct dek_wire_query *)block;

	if (!n || n > DEK_MAX_RANGES)
		return DEK_MALFORMED;
	dek_put_le32(&w->map_count, n);
	put_ranges(w->map, map, n);
	return DEK_OK;
}

/* Bytes of a blob with its length field; 0: none. */
static __u32 blob_size(const struct dek_blob *blob)
{
	if (!blob || !blob->present)
		return 0;
	if (blob->type != DEK_BLOB_WRAPPED)
		return (__u32)sizeof(struct dek_wire_blob);
	return (__u32)(sizeof(struct dek_wire_blob) + sizeof(struct dek_wire_wrapping)) + blob->kek_name_length;
}

__u32 dek_associate_capacity(const struct dek_blob *blob, __u32 key_id_length)
{
	__u32 used = DEK_BODY_FIRST + blob_size(blob) + 4 + key_id_length + DEK_APP_INFO_SIZE + 4;
	__u32 fit;

	if (!key_id_length || key_id_length > DEK_KEY_ID_MAX)
		return 0;
	fit = (DEK_BLOCK_SIZE - used) / (__u32)sizeof(struct dek_wire_range);
	return fit < DEK_MAX_RANGES ? fit : DEK_MAX_RANGES;
}

static void put_blob(__u8 *at, const struct dek_blob *blob)
{
	struct dek_wire_blob *w = (struct dek_wire_blob *)at;
	struct dek_wire_wrapping *wrap = (struct dek_wire_wrapping *)(w + 1);

	dek_put_le32(&w->length, blob_size(blob) - 4);
	w->type = blob->type;
	w->version = DEK_KEY_DATA_VERSION;
	w->key_length = blob->key_length;
	w->algorithm = blob->algorithm;
	w->mode = blob->mode;
	memcpy(w->key_data, blob->key_data, DEK_KEY_DATA_SIZE);
	w->app_info_size = DEK_APP_INFO_SIZE;
	if (blob->type != DEK_BLOB_WRAPPED)
		return;
	memcpy(wrap->nonce, blob->nonce, DEK_WRAP_NONCE_SIZE);
	memcpy(wrap->tag, blob->tag, DEK_WRAP_TAG_SIZE);
	wrap->kek_name_length = blob->kek_name_length;
	memcpy(wrap + 1, blob->kek_name, blob->kek_name_length);
}

void dek_app_info_put(__u8 out[DEK_APP_INFO_SIZE], const struct dek_geometry *g)
{
	struct dek_wire_app_info *w = (struct dek_wire_app_info *)out;

	memset(w->zero, 0, sizeof(w->zero));
	dek_put_le32(&w->data_unit, g->data_unit);
	w->tweak_rule = g->tweak_rule;
	dek_put_le64(&w->device_origin, g->device_origin);
	dek_put_le64(&w->logical_origin, g->logical_origin);
	dek_put_le32(&w->chunk, g->chunk);
	dek_put_le16(&w->stripes, g->stripes);
	dek_put_le16(&w->leg, g->leg);
}

enum dek_status dek_block_associate(__u8 block[DEK_BLOCK_SIZE], __u64 association, const struct dek_blob *blob,
				    const void *key_id, __u32 key_id_length, const struct dek_geometry *geometry,
				    const struct dek_range *map, __u32 n)
{
	struct dek_wire_associate *w = (struct dek_wire_associate *)block;
	__u32 blob_bytes = blob_size(blob);
	__u32 key_id_at = DEK_BODY_FIRST + blob_bytes;
	__u32 app_info_at = key_id_at + 4 + key_id_length;
	__u32 map_at = app_info_at + DEK_APP_INFO_SIZE;

	if (!n || n > dek_associate_capacity(blob, key_id_length))
		return DEK_MALFORMED;
	dek_put_le64(&w->association, association);
	dek_put_le32(&w->blob_offset, blob_bytes ? DEK_BODY_FIRST : 0);
	dek_put_le32(&w->key_id_offset, key_id_at);
	dek_put_le32(&w->app_info_offset, app_info_at);
	dek_put_le32(&w->map_offset, map_at);
	if (blob_bytes)
		put_blob(block + DEK_BODY_FIRST, blob);
	dek_put_le32(block + key_id_at, key_id_length);
	memcpy(block + key_id_at + 4, key_id, key_id_length);
	dek_app_info_put(block + app_info_at, geometry);
	dek_put_le32(block + map_at, n);
	put_ranges((struct dek_wire_range *)(block + map_at + 4), map, n);
	return DEK_OK;
}

void dek_block_disassociate(__u8 block[DEK_BLOCK_SIZE], __u64 association)
{
	dek_put_le64(&((struct dek_wire_disassociate *)block)->association, association);
}
