/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * LUN-map algebra: maps are arrays of struct dek_range, sorted, non-empty, non-overlapping, without
 * 64-bit overflow: first + count is at most 2^64 - 1, so a range that ends exactly at 2^64 is not valid and
 * the last LBA there can be is 2^64 - 2. Neighbours may touch. All LBAs are 512-byte sectors.
 *
 * Pure functions over valid maps; output arrays are the caller's and not one of the inputs. A function that
 * would write more than `room` entries returns the count it needs and writes none (so `out` may be NULL with
 * room 0). Time is linear, but for contains and overlaps: logarithmic.
 */
#ifndef DEK_LUNMAP_H
#define DEK_LUNMAP_H

#include <dek/codec.h>

#ifdef __cplusplus
extern "C" {
#endif

/* OK or INVALID_RANGE. `size` in LBAs; 0: any size. `unit` in bytes, a power of two >= 512; 0: any alignment. */
enum dek_status dek_map_validate(const struct dek_range *map, size_t n, __u64 size, __u32 unit);
/* The LBAs in both. */
size_t dek_map_intersect(const struct dek_range *a, size_t na, const struct dek_range *b, size_t nb,
			 struct dek_range *out, size_t room);
/* The LBAs of a that are not in b. */
size_t dek_map_subtract(const struct dek_range *a, size_t na, const struct dek_range *b, size_t nb,
			struct dek_range *out, size_t room);
/* The LBAs in either, adjacent ranges joined. */
size_t dek_map_union(const struct dek_range *a, size_t na, const struct dek_range *b, size_t nb,
		     struct dek_range *out, size_t room);
/* In place: joins adjacent ranges; returns the new count. */
size_t dek_map_merge(struct dek_range *map, size_t n);
/* In place: moves every range from origin `from` to origin `to`. INVALID_RANGE, nothing moved, if one would leave 0..2^64. */
enum dek_status dek_map_shift(struct dek_range *map, size_t n, __u64 from, __u64 to);
/* All of `what`, touching ranges counting as one. False for an empty or overflowing one. */
bool dek_map_contains(const struct dek_range *map, size_t n, struct dek_range what);
/* Any of `what`. False for an empty one. */
bool dek_map_overlaps(const struct dek_range *map, size_t n, struct dek_range what);
/* LBAs in all; cannot overflow. */
__u64 dek_map_total(const struct dek_range *map, size_t n);

#ifdef __cplusplus
}
#endif

#endif
