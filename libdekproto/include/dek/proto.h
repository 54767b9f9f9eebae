/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The DEK management protocol on the wire, version 1. Source: US 9,160,526, Tables 1-3 and Fig. 7 ("the
 * document"); docs/protocol.md says what was decided where it is silent.
 *
 * Every command and every response is one block of exactly 1536 bytes, little-endian. Whoever sends a
 * block, in either direction, computes the checksum; whoever receives it rejects a mismatch. Reserved
 * bytes are zeroed by senders and preserved and ignored by everyone else.
 *
 * LBAs are 512-byte sectors of the device object the block is addressed to.
 *
 * The structs give the layout and nothing else: members are unaligned byte-order-tagged fields, to be
 * read with dek_get_le*() and written with dek_put_le*().
 */
#ifndef DEK_PROTO_H
#define DEK_PROTO_H

#include <dek/platform.h>

#define DEK_BLOCK_SIZE 1536u
#define DEK_PROTO_VERSION 1u

/* 0a 0b 0c 0d 0e 0f 10 11, read as a little-endian number. */
#define DEK_SIGNATURE 0x11100f0e0d0c0b0aull

/* Bytes 24-27. Numbers are never reused. */
enum dek_opcode {
	DEK_OP_HANDSHAKE = 1,
	DEK_OP_QUERY = 2,
	DEK_OP_ASSOCIATE = 3,
	DEK_OP_UPDATE = 4,
	DEK_OP_DISASSOCIATE = 5,
};

/* Bytes 28-31. Numbers are never reused. */
enum dek_status {
	DEK_OK = 0,
	/* Named by the document. */
	DEK_INVALID_HW_STATE = 1,     /* the engine failed, or failed its known answers */
	DEK_NO_MEMORY = 2,	      /* also: the engine's capacity for keys is used up */
	DEK_BUSY = 3,		      /* retry with back-off; sending the command again goes on with it */
	DEK_INVALID_RANGE = 4,	      /* outside the device, unsorted, empty, overlapping, unaligned to the unit */
	DEK_INVALID_KEY = 5,	      /* wrong length, equal XTS halves, unknown KEK or logon key, bad tag */
	DEK_ASSOCIATION_EXISTS = 6,   /* a refresh that differs from what it refreshes */
	DEK_ASSOCIATION_OVERFLOW = 7, /* more associations or ranges than the endpoint holds */
	/* Named by dekstack. */
	DEK_BAD_CHECKSUM = 8,
	DEK_BAD_SIGNATURE = 9,
	DEK_BAD_VERSION = 10,
	DEK_BAD_OPCODE = 11,
	DEK_UNKNOWN_ENDPOINT = 12, /* no endpoint of this stack has the ID, or is of the class */
	DEK_UNKNOWN_HANDLE = 13,
	DEK_NOT_CAPABLE = 14, /* a valid request that this endpoint or layer can never serve */
	DEK_MALFORMED = 15,   /* the block's own fields contradict each other */
	DEK_STATUS_COUNT
};

#define DEK_CLASS_EHBA "EHBA" /* on the host */
#define DEK_CLASS_DDM "DDM"   /* de-duplication module, off the host */
#define DEK_CLASS_RRM "RRM"   /* remote replication module, off the host */

/* Table 1: bytes 0-47 of every block. */
struct dek_wire_header {
	__u8 signature[8];
	__le64 checksum; /* CRC-32C of bytes 16..1535 in the low 4 bytes, the high 4 zero */
	__le32 version;
	__le32 reserved;
	__le32 opcode;
	__le32 status;
	__le64 endpoint_id;
	__le64 controller_handle; /* the initiator's own, echoed unchanged */
} __attribute__((packed));

/* Table 2. Both pseudo-random regions come back byte-reversed from an endpoint of the class named. */
#define DEK_CLASS_NAME_SIZE 256u
#define DEK_RANDOM1_SIZE 512u
#define DEK_RANDOM2_SIZE 256u
struct dek_wire_handshake {
	struct dek_wire_header head;
	__u8 class_name[DEK_CLASS_NAME_SIZE]; /* NUL-terminated ASCII */
	__u8 reserved1[208];
	__u8 random1[DEK_RANDOM1_SIZE];
	__u8 reserved2[128];
	__u8 random2[DEK_RANDOM2_SIZE];
	__u8 reserved3[128];
} __attribute__((packed));

/* One LUN map entry: `count` LBAs from `first`. */
struct dek_wire_range {
	__le64 first;
	__le64 count;
} __attribute__((packed));

/* Table 3. */
#define DEK_MAX_RANGES 60u
struct dek_wire_query {
	struct dek_wire_header head;
	__u8 undefined[24]; /* anything; under the checksum */
	__le32 map_count;   /* 1..60 */
	struct dek_wire_range map[DEK_MAX_RANGES];
	__u8 reserved[500];
} __attribute__((packed));

/*
 * Fig. 7: the fixed part of Associate and Update. The four offsets are from the start of the block, may
 * come in any order, must not overlap one another, and must lie in 72..1535 with all they point at.
 * blob_offset 0 means "no blob" (off the host).
 */
#define DEK_BODY_FIRST 72u
struct dek_wire_associate {
	struct dek_wire_header head;
	__le64 association; /* 0: a new one */
	__le32 blob_offset;
	__le32 key_id_offset;
	__le32 app_info_offset;
	__le32 map_offset; /* -> le32 count, then dek_wire_range[count] */
	__u8 body[1464];
} __attribute__((packed));

/* Disassociate: the handle at 48, the rest reserved. */
struct dek_wire_disassociate {
	struct dek_wire_header head;
	__le64 association;
	__u8 reserved[1480];
} __attribute__((packed));

/* Fig. 7: the key blob. `length` excludes itself: 73 for a bare key or a keyring reference. */
#define DEK_KEY_DATA_SIZE 64u
#define DEK_BLOB_LENGTH 73u
struct dek_wire_blob {
	__le32 length;
	__u8 type; /* enum dek_blob_type */
	__u8 reserved[3];
	__u8 version; /* of the key data: 1 */
	__u8 key_length; /* bytes of key_data in use: 32 or 64; for a keyring reference the name's length */
	__u8 algorithm; /* enum dek_algorithm */
	__u8 mode;	/* enum dek_mode */
	__u8 key_data[DEK_KEY_DATA_SIZE];
	__u8 app_info_size; /* 32 in version 1 */
} __attribute__((packed));

/* A wrapped blob goes on with this; length = 73 + 29 + kek_name_length. */
#define DEK_WRAP_NONCE_SIZE 12u
#define DEK_WRAP_TAG_SIZE 16u
struct dek_wire_wrapping {
	__u8 nonce[DEK_WRAP_NONCE_SIZE];
	__u8 tag[DEK_WRAP_TAG_SIZE];
	__u8 kek_name_length;
	/* kek_name_length bytes of ASCII, no NUL */
} __attribute__((packed));

enum dek_blob_type {
	DEK_BLOB_UNWRAPPED = 1, /* on the host only */
	DEK_BLOB_WRAPPED = 2,	/* AES-256-GCM; key_data holds the ciphertext of all 64 bytes */
	DEK_BLOB_KEYRING = 3,	/* key_data names a `logon` key of the kernel's keyring */
};

enum dek_algorithm { DEK_ALG_AES = 1 };
enum dek_mode { DEK_MODE_XTS = 1 };
#define DEK_KEY_DATA_VERSION 1u

/* Key ID: le32 length (1..64), then that many bytes of opaque text. */
#define DEK_KEY_ID_MAX 64u

/*
 * Application info, 32 bytes in version 1: the tweak geometry of one association. With
 * p = LBA - device_origin, the logical LBA (whose number the XTS tweak is made of) is
 *   chunk 0:   logical_origin + p
 *   otherwise: logical_origin + (p div chunk * stripes + leg) * chunk + p mod chunk
 */
#define DEK_APP_INFO_SIZE 32u
struct dek_wire_app_info {
	__le32 data_unit; /* bytes: 512, 1024, 2048 or 4096 */
	__u8 tweak_rule;  /* enum dek_tweak_rule */
	__u8 zero[3];
	__le64 device_origin;
	__le64 logical_origin;
	__le32 chunk; /* LBAs; 0: not striped */
	__le16 stripes;
	__le16 leg;
} __attribute__((packed));

enum dek_tweak_rule {
	DEK_TWEAK_UNIT = 0,   /* number of the data unit: logical LBA / (data_unit / 512) */
	DEK_TWEAK_LBA512 = 1, /* logical LBA of the unit's start */
};

#define DEK_AT(type, member, where)                                                                \
	DEK_STATIC_ASSERT(offsetof(struct type, member) == (where), #type "." #member)
#define DEK_SIZED(type, size) DEK_STATIC_ASSERT(sizeof(struct type) == (size), #type)

DEK_SIZED(dek_wire_header, 48);
DEK_AT(dek_wire_header, checksum, 8);
DEK_AT(dek_wire_header, version, 16);
DEK_AT(dek_wire_header, reserved, 20);
DEK_AT(dek_wire_header, opcode, 24);
DEK_AT(dek_wire_header, status, 28);
DEK_AT(dek_wire_header, endpoint_id, 32);
DEK_AT(dek_wire_header, controller_handle, 40);

DEK_SIZED(dek_wire_handshake, DEK_BLOCK_SIZE);
DEK_AT(dek_wire_handshake, class_name, 48);
DEK_AT(dek_wire_handshake, reserved1, 304);
DEK_AT(dek_wire_handshake, random1, 512);
DEK_AT(dek_wire_handshake, reserved2, 1024);
DEK_AT(dek_wire_handshake, random2, 1152);
DEK_AT(dek_wire_handshake, reserved3, 1408);

DEK_SIZED(dek_wire_range, 16);
DEK_SIZED(dek_wire_query, DEK_BLOCK_SIZE);
DEK_AT(dek_wire_query, undefined, 48);
DEK_AT(dek_wire_query, map_count, 72);
DEK_AT(dek_wire_query, map, 76);
DEK_AT(dek_wire_query, map[1], 92);
DEK_AT(dek_wire_query, map[59], 1020);
DEK_AT(dek_wire_query, reserved, 1036);

DEK_SIZED(dek_wire_associate, DEK_BLOCK_SIZE);
DEK_AT(dek_wire_associate, association, 48);
DEK_AT(dek_wire_associate, blob_offset, 56);
DEK_AT(dek_wire_associate, key_id_offset, 60);
DEK_AT(dek_wire_associate, app_info_offset, 64);
DEK_AT(dek_wire_associate, map_offset, 68);
DEK_AT(dek_wire_associate, body, DEK_BODY_FIRST);

DEK_SIZED(dek_wire_disassociate, DEK_BLOCK_SIZE);
DEK_AT(dek_wire_disassociate, association, 48);

DEK_SIZED(dek_wire_blob, 4 + DEK_BLOB_LENGTH);
DEK_AT(dek_wire_blob, type, 4);
DEK_AT(dek_wire_blob, reserved, 5);
DEK_AT(dek_wire_blob, version, 8);
DEK_AT(dek_wire_blob, key_length, 9);
DEK_AT(dek_wire_blob, algorithm, 10);
DEK_AT(dek_wire_blob, mode, 11);
DEK_AT(dek_wire_blob, key_data, 12);
DEK_AT(dek_wire_blob, app_info_size, 76);
DEK_SIZED(dek_wire_wrapping, 29);

DEK_SIZED(dek_wire_app_info, DEK_APP_INFO_SIZE);
DEK_AT(dek_wire_app_info, tweak_rule, 4);
DEK_AT(dek_wire_app_info, device_origin, 8);
DEK_AT(dek_wire_app_info, logical_origin, 16);
DEK_AT(dek_wire_app_info, chunk, 24);
DEK_AT(dek_wire_app_info, stripes, 28);
DEK_AT(dek_wire_app_info, leg, 30);

#endif
