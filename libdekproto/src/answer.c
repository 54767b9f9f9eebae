/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Answering: a response is the command itself with a status, an endpoint's fields and a new checksum. */
#include <dek/codec.h>

void dek_block_answer(__u8 block[DEK_BLOCK_SIZE], enum dek_status status)
{
	dek_put_le32(&((struct dek_wire_header *)block)->status, (__u32)status);
	dek_block_seal(block);
}

static void reverse(__u8 *p, __u32 n)
{
	__u32 i;

	for (i = 0; i < n / 2; i++) {
		__u8 held = p[i];

		p[i] = p[n - 1 - i];
		p[n - 1 - i] = held;
	}
}

void dek_block_answer_handshake(__u8 block[DEK_BLOCK_SIZE], __u64 endpoint_id, __u32 version)
{
	struct dek_wire_handshake *w = (struct dek_wire_handshake *)block;

	if (dek_get_le32(&w->head.version) > version)
		dek_put_le32(&w->head.version, version);
	dek_put_le64(&w->head.endpoint_id, endpoint_id);
	reverse(w->random1, DEK_RANDOM1_SIZE);
	reverse(w->random2, DEK_RANDOM2_SIZE);
	dek_block_answer(block, DEK_OK);
}

static bool reversed(const __u8 *a, const __u8 *b, __u32 n)
{
	__u32 i;

	for (i = 0; i < n; i++)
		if (a[i] != b[n - 1 - i])
			return false;
	return true;
}

bool dek_handshake_affirmative(const __u8 command[DEK_BLOCK_SIZE], const __u8 response[DEK_BLOCK_SIZE])
{
	const struct dek_wire_handshake *sent = (const struct dek_wire_handshake *)command;
	const struct dek_wire_handshake *got = (const struct dek_wire_handshake *)response;
	struct dek_command answer;

	if (dek_block_decode(response, &answer) != DEK_OK || answer.opcode != DEK_OP_HANDSHAKE)
		return false;
	if (answer.status != DEK_OK || answer.version > dek_get_le32(&sent->head.version) ||
	    answer.controller_handle != dek_get_le64(&sent->head.controller_handle))
		return false;
	return reversed(sent->random1, got->random1, DEK_RANDOM1_SIZE) &&
	       reversed(sent->random2, got->random2, DEK_RANDOM2_SIZE);
}
