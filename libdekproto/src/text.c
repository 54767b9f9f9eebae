/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* The names of statuses and opcodes, as the protocol's documentation writes them. */
#include <dek/codec.h>

static const char *const status_texts[DEK_STATUS_COUNT] = {
	[DEK_OK] = "Success",
	[DEK_INVALID_HW_STATE] = "Invalid HW State",
	[DEK_NO_MEMORY] = "No Memory",
	[DEK_BUSY] = "Busy",
	[DEK_INVALID_RANGE] = "Invalid Range",
	[DEK_INVALID_KEY] = "Invalid Key",
	[DEK_ASSOCIATION_EXISTS] = "Association Exists",
	[DEK_ASSOCIATION_OVERFLOW] = "Association Overflow",
	[DEK_BAD_CHECKSUM] = "Bad Checksum",
	[DEK_BAD_SIGNATURE] = "Bad Signature",
	[DEK_BAD_VERSION] = "Bad Version",
	[DEK_BAD_OPCODE] = "Bad Opcode",
	[DEK_UNKNOWN_ENDPOINT] = "Unknown Endpoint",
	[DEK_UNKNOWN_HANDLE] = "Unknown Handle",
	[DEK_NOT_CAPABLE] = "Not Capable",
	[DEK_MALFORMED] = "Malformed",
};

static const char *const opcode_texts[] = {
	[DEK_OP_HANDSHAKE] = "Handshake",
	[DEK_OP_QUERY] = "Query",
	[DEK_OP_ASSOCIATE] = "Associate",
	[DEK_OP_UPDATE] = "Update",
	[DEK_OP_DISASSOCIATE] = "Disassociate",
};

const char *dek_status_text(__u32 status)
{
	return status < DEK_STATUS_COUNT ? status_texts[status] : "Unknown Status";
}

const char *dek_opcode_text(__u32 opcode)
{
	if (opcode < DEK_OP_HANDSHAKE || opcode > DEK_OP_DISASSOCIATE)
		return "Unknown Opcode";
	return opcode_texts[opcode];
}
