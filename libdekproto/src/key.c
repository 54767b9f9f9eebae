/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* What the protocol says of keys themselves: which may be used, and what wrapping binds them to. */
#include <dek/codec.h>

static const __u8 zeros[DEK_KEY_DATA_SIZE / 2];

/*
 * The last test of the 64-byte case is for wrapped keys: the length lies outside what the tag protects,
 * and a 32-byte key whose length was changed on the way shows as one with an empty second half.
 */
enum dek_status dek_key_check(const __u8 key[DEK_KEY_DATA_SIZE], __u8 key_length)
{
	const __u8 *second = key + DEK_KEY_DATA_SIZE / 2;
	bool empty = dek_equal_ct(second, zeros, sizeof(zeros));

	if (key_length == 32)
		return empty && !dek_equal_ct(key, key + 16, 16) ? DEK_OK : DEK_INVALID_KEY;
	if (key_length == 64)
		return !empty && !dek_equal_ct(key, second, 32) ? DEK_OK : DEK_INVALID_KEY;
	return DEK_INVALID_KEY;
}

size_t dek_wrap_aad(__u8 out[DEK_WRAP_AAD_MAX], const void *key_id, __u32 key_id_length, __u8 algorithm, __u8 mode,
		    __u64 endpoint_id)
{
	__u8 *p = out;

	if (!key_id_length || key_id_length > DEK_KEY_ID_MAX)
		return 0;
	*p++ = (__u8)key_id_length;
	memcpy(p, key_id, key_id_length);
	p += key_id_length;
	*p++ = algorithm;
	*p++ = mode;
	dek_put_le64(p, endpoint_id);
	return (size_t)(p + 8 - out);
}
