/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The one place where kernel and userspace differ for code that is built in both: libdekproto's C
 * and kernel-shim/core. Nothing else in those folders may include a system header.
 *
 * Memory: dek_alloc() may sleep and returns zeroed memory or NULL, which starts with a cache line if its size is
 * a power of two; dek_free() takes NULL. Secrets are
 * wiped with dek_wipe() before they are freed, and compared with dek_equal_ct() only.
 */
#ifndef DEK_PLATFORM_H
#define DEK_PLATFORM_H

#include <linux/types.h>

#ifdef __KERNEL__

#include <crypto/algapi.h>
#include <linux/build_bug.h>
#include <linux/bug.h>
#include <linux/errno.h>
#include <linux/mm.h>
#include <linux/refcount.h>
#include <linux/slab.h>
#include <linux/string.h>

typedef refcount_t dek_ref_t;

static inline void *dek_alloc(size_t size) { return kvzalloc(size, GFP_KERNEL); }
static inline void dek_free(void *p) { kvfree(p); }
static inline void dek_wipe(void *p, size_t n) { memzero_explicit(p, n); }
static inline bool dek_equal_ct(const void *a, const void *b, size_t n) { return !crypto_memneq(a, b, n); }
static inline void dek_ref_init(dek_ref_t *r) { refcount_set(r, 1); }
static inline void dek_ref_get(dek_ref_t *r) { refcount_inc(r); }
/* True when this was the last reference. */
static inline bool dek_ref_put(dek_ref_t *r) { return refcount_dec_and_test(r); }

#else /* userspace */

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
	int n;
} dek_ref_t;

static inline void *dek_alloc(size_t size)
{
	void *p = aligned_alloc(64, (size + 63) / 64 * 64);

	if (p)
		memset(p, 0, size);
	return p;
}
static inline void dek_free(void *p) { free(p); }
static inline void dek_wipe(void *p, size_t n)
{
	memset(p, 0, n);
	__asm__ __volatile__("" : : "r"(p) : "memory");
}
static inline bool dek_equal_ct(const void *a, const void *b, size_t n)
{
	const volatile unsigned char *x = (const volatile unsigned char *)a;
	const volatile unsigned char *y = (const volatile unsigned char *)b;
	unsigned char diff = 0;

	while (n--)
		diff |= (unsigned char)(*x++ ^ *y++);
	return diff == 0;
}
static inline void dek_ref_init(dek_ref_t *r) { __atomic_store_n(&r->n, 1, __ATOMIC_RELAXED); }
static inline void dek_ref_get(dek_ref_t *r) { __atomic_fetch_add(&r->n, 1, __ATOMIC_RELAXED); }
/* True when this was the last reference. */
static inline bool dek_ref_put(dek_ref_t *r)
{
	return __atomic_sub_fetch(&r->n, 1, __ATOMIC_ACQ_REL) == 0;
}

#endif

#ifdef __cplusplus
#define DEK_STATIC_ASSERT(cond, why) static_assert(cond, why)
#else
#define DEK_STATIC_ASSERT(cond, why) _Static_assert(cond, why)
#endif

/* Little-endian loads and stores at any alignment; the only way wire fields are read or written. */
static inline __u32 dek_get_le32(const void *p)
{
	const __u8 *b = (const __u8 *)p;

	return (__u32)b[0] | (__u32)b[1] << 8 | (__u32)b[2] << 16 | (__u32)b[3] << 24;
}
static inline __u64 dek_get_le64(const void *p)
{
	return (__u64)dek_get_le32(p) | (__u64)dek_get_le32((const __u8 *)p + 4) << 32;
}
static inline __u16 dek_get_le16(const void *p)
{
	const __u8 *b = (const __u8 *)p;

	return (__u16)(b[0] | b[1] << 8);
}
static inline void dek_put_le16(void *p, __u16 v)
{
	__u8 *b = (__u8 *)p;

	b[0] = (__u8)(v & 0xff);
	b[1] = (__u8)(v >> 8 & 0xff);
}
static inline void dek_put_le32(void *p, __u32 v)
{
	dek_put_le16(p, (__u16)(v & 0xffff));
	dek_put_le16((__u8 *)p + 2, (__u16)(v >> 16));
}
static inline void dek_put_le64(void *p, __u64 v)
{
	dek_put_le32(p, (__u32)(v & 0xffffffff));
	dek_put_le32((__u8 *)p + 4, (__u32)(v >> 32));
}

#endif
