/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Decoding: the header, then one function for each body. docs/protocol.md has the order of the checks. */
#include <dek/codec.h>
#include <dek/lunmap.h>

/* A part of the block that an offset of Associate or Update points at: [first, end). */
struct extent {
	__u32 first;
	__u32 end;
};

enum { PART_BLOB, PART_KEY_ID, PART_APP_INFO, PART_MAP, PART_COUNT };

static enum dek_status decode_header(const __u8 *block, struct dek_command *out)
{
	const struct dek_wire_header *h = (const struct dek_wire_header *)block;

	if (dek_get_le64(h->signature) != DEK_SIGNATURE)
		return DEK_BAD_SIGNATURE;
	if (dek_get_le64(&h->checksum) != dek_crc32c(block + 16, DEK_BLOCK_SIZE - 16))
		return DEK_BAD_CHECKSUM;
	out->version = dek_get_le32(&h->version);
	out->opcode = dek_get_le32(&h->opcode);
	out->status = dek_get_le32(&h->status);
	out->endpoint_id = dek_get_le64(&h->endpoint_id);
	out->controller_handle = dek_get_le64(&h->controller_handle);
	/* Handshake negotiates the version down; nothing else may be newer than this code. */
	if (!out->version || (out->opcode != DEK_OP_HANDSHAKE && out->version > DEK_PROTO_VERSION))
		return DEK_BAD_VERSION;
	return DEK_OK;
}

static enum dek_status decode_handshake(const __u8 *block, struct dek_command *out)
{
	const struct dek_wire_handshake *w = (const struct dek_wire_handshake *)block;
	__u32 i;

	for (i = 0; i < DEK_CLASS_NAME_SIZE && w->class_name[i]; i++)
		;
	if (i == DEK_CLASS_NAME_SIZE)
		return DEK_MALFORMED;
	out->class_name = (const char *)w->class_name;
	return DEK_OK;
}

static enum dek_status check_map(const struct dek_command *cmd, __u32 unit)
{
	__u64 end = 0;
	__u32 i;

	for (i = 0; i < cmd->map_count; i++) {
		struct dek_range r = dek_command_range(cmd, i);

		if (r.first < end || dek_map_validate(&r, 1, 0, unit) != DEK_OK)
			return DEK_INVALID_RANGE;
		end = r.first + r.count;
	}
	return DEK_OK;
}

static enum dek_status decode_query(const __u8 *block, struct dek_command *out)
{
	const struct dek_wire_query *w = (const struct dek_wire_query *)block;
	__u32 count = dek_get_le32(&w->map_count);

	if (!count || count > DEK_MAX_RANGES)
		return DEK_MALFORMED;
	out->map_count = count;
	out->map = (const __u8 *)w->map;
	return check_map(out, 0);
}

/* True when n bytes from `first` lie in the body. */
static bool in_body(__u32 first, __u32 n)
{
	return first >= DEK_BODY_FIRST && first <= DEK_BLOCK_SIZE && n <= DEK_BLOCK_SIZE - first;
}

/* Sets an extent of `size` bytes from `offset`; false if it leaves the body. */
static bool place(struct extent *e, __u32 offset, __u32 size)
{
	e->first = offset;
	e->end = offset + size;
	return in_body(offset, size);
}

static bool blob_length_right(const struct dek_wire_blob *w, __u32 length)
{
	const struct dek_wire_wrapping *wrap = (const struct dek_wire_wrapping *)(w + 1);
	const __u32 wrapped = DEK_BLOB_LENGTH + (__u32)sizeof(*wrap);

	if (w->type == DEK_BLOB_WRAPPED)
		return length >= wrapped && length == wrapped + wrap->kek_name_length;
	if (w->type == DEK_BLOB_UNWRAPPED || w->type == DEK_BLOB_KEYRING)
		return length == DEK_BLOB_LENGTH;
	return true;
}

static bool place_blob(const __u8 *block, __u32 offset, struct extent *e)
{
	const struct dek_wire_blob *w;
	__u32 length;

	if (!in_body(offset, sizeof(*w)))
		return false;
	w = (const struct dek_wire_blob *)(block + offset);
	length = dek_get_le32(&w->length);
	if (length < DEK_BLOB_LENGTH || length > DEK_BLOCK_SIZE)
		return false;
	if (!place(e, offset, 4 + length))
		return false;
	return w->app_info_size == DEK_APP_INFO_SIZE && blob_length_right(w, length);
}

static bool place_key_id(const __u8 *block, __u32 offset, struct extent *e)
{
	__u32 length;

	if (!in_body(offset, 4))
		return false;
	length = dek_get_le32(block + offset);
	return length && length <= DEK_KEY_ID_MAX && place(e, offset, 4 + length);
}

static bool place_map(const __u8 *block, __u32 offset, struct extent *e)
{
	__u32 count;

	if (!in_body(offset, 4))
		return false;
	count = dek_get_le32(block + offset);
	return count && count <= DEK_MAX_RANGES &&
	       place(e, offset, 4 + count * (__u32)sizeof(struct dek_wire_range));
}

static bool disjoint(const struct extent *part)
{
	int i, j;

	for (i = 0; i < PART_COUNT; i++)
		for (j = i + 1; j < PART_COUNT; j++)
			if (part[i].first < part[j].end && part[j].first < part[i].end)
				return false;
	return true;
}

/* Follows the four offsets. A blob that is not there is the empty extent at 0. */
static bool place_parts(const __u8 *block, struct extent part[PART_COUNT])
{
	const struct dek_wire_associate *w = (const struct dek_wire_associate *)block;
	__u32 blob = dek_get_le32(&w->blob_offset);

	part[PART_BLOB].first = 0;
	part[PART_BLOB].end = 0;
	if (blob && !place_blob(block, blob, &part[PART_BLOB]))
		return false;
	return place_key_id(block, dek_get_le32(&w->key_id_offset), &part[PART_KEY_ID]) &&
	       place(&part[PART_APP_INFO], dek_get_le32(&w->app_info_offset), DEK_APP_INFO_SIZE) &&
	       place_map(block, dek_get_le32(&w->map_offset), &part[PART_MAP]) && disjoint(part);
}

static void read_blob(const __u8 *at, struct dek_blob *blob)
{
	const struct dek_wire_blob *w = (const struct dek_wire_blob *)at;
	const struct dek_wire_wrapping *wrap = (const struct dek_wire_wrapping *)(w + 1);

	blob->present = true;
	blob->type = w->type;
	blob->key_length = w->key_length;
	blob->algorithm = w->algorithm;
	blob->mode = w->mode;
	blob->key_data = w->key_data;
	if (w->type != DEK_BLOB_WRAPPED)
		return;
	blob->nonce = wrap->nonce;
	blob->tag = wrap->tag;
	blob->kek_name = (const char *)(wrap + 1);
	blob->kek_name_length = wrap->kek_name_length;
}

static bool printable(const void *text, __u32 n)
{
	const __u8 *p = (const __u8 *)text;

	while (n--) {
		if (*p < 0x20 || *p > 0x7e)
			return false;
		p++;
	}
	return true;
}

static bool keyring_name_right(const struct dek_blob *blob)
{
	__u32 i;

	if (!blob->key_length || blob->key_length > DEK_KEY_DATA_SIZE)
		return false;
	for (i = blob->key_length; i < DEK_KEY_DATA_SIZE; i++)
		if (blob->key_data[i])
			return false;
	return printable(blob->key_data, blob->key_length);
}

static enum dek_status check_blob(const struct dek_wire_blob *w, const struct dek_blob *blob)
{
	bool right = false;

	if (w->version != DEK_KEY_DATA_VERSION || blob->algorithm != DEK_ALG_AES || blob->mode != DEK_MODE_XTS)
		return DEK_INVALID_KEY;
	switch (blob->type) {
	case DEK_BLOB_UNWRAPPED:
		return dek_key_check(blob->key_data, blob->key_length);
	case DEK_BLOB_WRAPPED:
		right = (blob->key_length == 32 || blob->key_length == 64) && blob->kek_name_length &&
			printable(blob->kek_name, blob->kek_name_length);
		break;
	case DEK_BLOB_KEYRING:
		right = keyring_name_right(blob);
		break;
	}
	return right ? DEK_OK : DEK_INVALID_KEY;
}

static void read_geometry(const struct dek_wire_app_info *w, struct dek_geometry *g)
{
	g->data_unit = dek_get_le32(&w->data_unit);
	g->tweak_rule = w->tweak_rule;
	g->device_origin = dek_get_le64(&w->device_origin);
	g->logical_origin = dek_get_le64(&w->logical_origin);
	g->chunk = dek_get_le32(&w->chunk);
	g->stripes = dek_get_le16(&w->stripes);
	g->leg = dek_get_le16(&w->leg);
}

static enum dek_status check_geometry(const struct dek_wire_app_info *w, const struct dek_geometry *g)
{
	if (g->data_unit < 512 || g->data_unit > 4096 || (g->data_unit & (g->data_unit - 1)))
		return DEK_MALFORMED;
	if (g->tweak_rule > DEK_TWEAK_LBA512 || w->zero[0] || w->zero[1] || w->zero[2])
		return DEK_MALFORMED;
	if (!g->chunk)
		return g->stripes || g->leg ? DEK_MALFORMED : DEK_OK;
	return g->leg < g->stripes ? DEK_OK : DEK_MALFORMED;
}

/*
 * No two LBAs of a map may have the same number, so none may wrap around: the map begins at the device
 * origin or beyond, and the logical LBAs, striping included, stay under 2^64.
 */
static enum dek_status check_numbering(const struct dek_command *cmd)
{
	const struct dek_geometry *g = &cmd->geometry;
	struct dek_range last = dek_command_range(cmd, cmd->map_count - 1);
	__u64 reach = last.first + last.count - g->device_origin;

	if (dek_command_range(cmd, 0).first < g->device_origin)
		return DEK_INVALID_RANGE;
	if (g->chunk && (__builtin_add_overflow(reach, (__u64)g->chunk, &reach) ||
			 __builtin_mul_overflow(reach, (__u64)g->stripes, &reach)))
		return DEK_INVALID_RANGE;
	return reach > ~0ull - g->logical_origin ? DEK_INVALID_RANGE : DEK_OK;
}

static enum dek_status check_parts(const __u8 *block, const struct extent *part, const struct dek_command *cmd)
{
	enum dek_status status = DEK_OK;

	if (cmd->blob.present)
		status = check_blob((const struct dek_wire_blob *)(block + part[PART_BLOB].first), &cmd->blob);
	if (status == DEK_OK)
		status = check_geometry((const struct dek_wire_app_info *)(block + part[PART_APP_INFO].first),
					&cmd->geometry);
	if (status == DEK_OK)
		status = check_map(cmd, cmd->geometry.data_unit);
	if (status == DEK_OK)
		status = check_numbering(cmd);
	return status;
}

static enum dek_status decode_associate(const __u8 *block, struct dek_command *out)
{
	struct extent part[PART_COUNT];

	if (!place_parts(block, part))
		return DEK_MALFORMED;
	if (part[PART_BLOB].first)
		read_blob(block + part[PART_BLOB].first, &out->blob);
	out->key_id_length = dek_get_le32(block + part[PART_KEY_ID].first);
	out->key_id = block + part[PART_KEY_ID].first + 4;
	read_geometry((const struct dek_wire_app_info *)(block + part[PART_APP_INFO].first), &out->geometry);
	out->map_count = dek_get_le32(block + part[PART_MAP].first);
	out->map = block + part[PART_MAP].first + 4;
	return check_parts(block, part, out);
}

enum dek_status dek_block_decode(const __u8 block[DEK_BLOCK_SIZE], struct dek_command *out)
{
	enum dek_status status;

	memset(out, 0, sizeof(*out));
	status = decode_header(block, out);
	if (status != DEK_OK)
		return status;
	switch (out->opcode) {
	case DEK_OP_HANDSHAKE:
		return decode_handshake(block, out);
	case DEK_OP_QUERY:
		return decode_query(block, out);
	case DEK_OP_ASSOCIATE:
	case DEK_OP_UPDATE:
		out->association = dek_get_le64(&((const struct dek_wire_associate *)block)->association);
		return decode_associate(block, out);
	case DEK_OP_DISASSOCIATE:
		out->association = dek_get_le64(&((const struct dek_wire_disassociate *)block)->association);
		return DEK_OK;
	}
	return DEK_BAD_OPCODE;
}

struct dek_range dek_command_range(const struct dek_command *cmd, __u32 i)
{
	const struct dek_wire_range *w = (const struct dek_wire_range *)cmd->map + i;
	struct dek_range r = { .first = dek_get_le64(&w->first), .count = dek_get_le64(&w->count) };

	return r;
}
