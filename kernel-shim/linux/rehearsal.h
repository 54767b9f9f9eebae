/* SPDX-License-Identifier: GPL-2.0 */
/* Rehearsal mode (rehearsal.c): an engine that is full, busy, broken or of another version on command. */
#ifndef DEK_REHEARSAL_H
#define DEK_REHEARSAL_H

#include "shim.h"

extern bool dek_rehearsed_failure;

/* The mode is on. */
bool dek_rehearsal(void);
/* Broken: the cipher fails. */
static inline bool dek_rehearsal_fails(void)
{
	return unlikely(READ_ONCE(dek_rehearsed_failure));
}

/* One key more (1) or fewer (-1) is set. From any context. */
void dek_rehearsal_key(int by);
/* May a new key be taken now? */
enum dek_status dek_rehearsal_ready(void);
/* The protocol's version that a new endpoint answers a Handshake with; 0: its own. */
__u32 dek_rehearsal_version(void);

#endif
