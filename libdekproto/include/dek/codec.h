/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The one parser and the one builder of command blocks, for the kernel, the userspace shim and (through
 * dek/block.hpp) C++. Total: any 1536 bytes give a decoded command or a named rejection.
 *
 * Threading: pure functions over the caller's memory. Ownership: struct dek_command points into the
 * block it was decoded from and lives no longer than it; nothing is copied, so no key is.
 */
#ifndef DEK_CODEC_H
#define DEK_CODEC_H

#include <dek/proto.h>

#ifdef __cplusplus
extern "C" {
#endif

/* LBAs, 512-byte sectors. Host byte order. `first + count` never overflows in a validated range. */
struct dek_range {
	__u64 first;
	__u64 count;
};

/* Host-order form of the application info. */
struct dek_geometry {
	__u32 data_unit; /* bytes */
	__u8 tweak_rule;
	__u64 device_origin;
	__u64 logical_origin;
	__u32 chunk; /* LBAs */
	__u16 stripes;
	__u16 leg;
};

/* Host-order view of a key blob; pointers lead into the block. present = false: there was none. */
struct dek_blob {
	bool present;
	__u8 type;
	__u8 key_length;
	__u8 algorithm;
	__u8 mode;
	const __u8 *key_data; /* DEK_KEY_DATA_SIZE bytes */
	const __u8 *nonce;    /* wrapped only, as are the next three */
	const __u8 *tag;
	const char *kek_name; /* not terminated */
	__u8 kek_name_length;
};

/* A decoded command or response. Members beyond `association` are set only for the opcodes named. */
struct dek_command {
	__u32 version;
	__u32 opcode;
	__u32 status;
	__u64 endpoint_id;
	__u64 controller_handle;
	__u64 association;	  /* Associate, Update, Disassociate */
	const char *class_name;	  /* Handshake; NUL-terminated within its field */
	const __u8 *key_id;	  /* Associate, Update; not terminated */
	__u32 key_id_length;
	struct dek_blob blob;	  /* Associate, Update */
	struct dek_geometry geometry; /* Associate, Update */
	__u32 map_count;	  /* Query, Associate, Update */
	const __u8 *map;	  /* dek_wire_range[map_count]; read with dek_command_range() */
};

/* CRC-32C (Castagnoli, reflected, initial and final inversion) of n bytes. */
__u32 dek_crc32c(const void *data, size_t n);

/*
 * Decode and check everything that can be checked without knowing the endpoint: signature, checksum,
 * version (not 0; in commands other than Handshake not above DEK_PROTO_VERSION), opcode, offsets, sizes,
 * class name termination, blob version/type/lengths/zero padding, bare keys (dek_key_check), geometry, and
 * the LUN map's order, overlap, emptiness and overflow. The first failure in that order is the answer:
 * BAD_SIGNATURE, BAD_CHECKSUM, BAD_VERSION, BAD_OPCODE, then per body MALFORMED, INVALID_KEY or
 * INVALID_RANGE (geometry: MALFORMED, between the key and the map). Ranges not aligned to the data unit of
 * the same block are INVALID_RANGE, as are those before the device origin and those whose logical LBAs
 * would pass 2^64. docs/protocol.md numbers every check.
 *
 * Responses too: a refused command comes back as it was sent, so its body may fail here as it did at the
 * endpoint. `out` is always written: unless the answer is BAD_SIGNATURE or BAD_CHECKSUM, the header's
 * members (version to controller_handle) hold what the block says; the others count only after OK.
 */
enum dek_status dek_block_decode(const __u8 block[DEK_BLOCK_SIZE], struct dek_command *out);

/* Entry i < map_count. */
struct dek_range dek_command_range(const struct dek_command *cmd, __u32 i);

/* Zero the block and fill the header; status OK; no checksum yet. */
void dek_block_begin(__u8 block[DEK_BLOCK_SIZE], __u32 opcode, __u64 endpoint_id, __u64 controller_handle);

/* The sender's last step: computes and stores the checksum. */
void dek_block_seal(__u8 block[DEK_BLOCK_SIZE]);

/* Handshake: class name and 768 bytes of randomness (512 then 256). MALFORMED if the name is too long. */
enum dek_status dek_block_handshake(__u8 block[DEK_BLOCK_SIZE], const char *class_name, const __u8 random[768]);
/* Query: 1 to DEK_MAX_RANGES, MALFORMED otherwise. Like the next one it does not judge the ranges themselves. */
enum dek_status dek_block_query(__u8 block[DEK_BLOCK_SIZE], const struct dek_range *map, __u32 n);
/*
 * Associate or Update (by the block's opcode): blob may be NULL. Lays out blob, key ID, application
 * info and map from byte 72. MALFORMED when it does not fit or a length is out of bounds.
 */
enum dek_status dek_block_associate(__u8 block[DEK_BLOCK_SIZE], __u64 association, const struct dek_blob *blob,
				    const void *key_id, __u32 key_id_length, const struct dek_geometry *geometry,
				    const struct dek_range *map, __u32 n);
/* The application info alone, as it lies in the block. */
void dek_app_info_put(__u8 out[DEK_APP_INFO_SIZE], const struct dek_geometry *geometry);
void dek_block_disassociate(__u8 block[DEK_BLOCK_SIZE], __u64 association);

/* How many ranges fit in one Associate beside this key ID and blob (NULL: none); 0: no such key ID length. */
__u32 dek_associate_capacity(const struct dek_blob *blob, __u32 key_id_length);

/* Turn a command into its response in place: status, recomputed checksum. A key in it stays: wipe both. */
void dek_block_answer(__u8 block[DEK_BLOCK_SIZE], enum dek_status status);
/* The endpoint's side of Handshake: negotiated down to its version, ID filled in, both regions reversed, sealed. */
void dek_block_answer_handshake(__u8 block[DEK_BLOCK_SIZE], __u64 endpoint_id, __u32 version);
/*
 * True when `response` is what an endpoint of the class answers to `command`: a valid Handshake with status
 * Success, the same controller handle, a version no higher, and both regions reversed.
 */
bool dek_handshake_affirmative(const __u8 command[DEK_BLOCK_SIZE], const __u8 response[DEK_BLOCK_SIZE]);

/*
 * OK, or INVALID_KEY: a length other than 32 or 64, bytes beyond it that are not zero, equal halves (XTS
 * forbids them), or a 64-byte key whose second half is all zero. Takes the same time for every key of a length.
 * dek_block_decode() asks it of bare keys; whoever unwraps or looks up a key asks it again.
 */
enum dek_status dek_key_check(const __u8 key[DEK_KEY_DATA_SIZE], __u8 key_length);

/*
 * The bytes that wrapping binds: key ID length (1 byte), key ID, algorithm, mode, endpoint ID (8, little-
 * endian). Writes at most DEK_WRAP_AAD_MAX bytes and returns how many; 0: the key ID's length is not 1..64.
 */
#define DEK_WRAP_AAD_MAX (1u + DEK_KEY_ID_MAX + 2u + 8u)
size_t dek_wrap_aad(__u8 out[DEK_WRAP_AAD_MAX], const void *key_id, __u32 key_id_length, __u8 algorithm, __u8 mode,
		    __u64 endpoint_id);

/* "Invalid Range" and so on; never NULL. */
const char *dek_status_text(__u32 status);
const char *dek_opcode_text(__u32 opcode);

#ifdef __cplusplus
}
#endif

#endif
