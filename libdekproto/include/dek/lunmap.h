/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * LUN-map algebra: maps are arrays of struct dek_range, sorted, non-empty, non-overlapping, without
 * 64-bit overflow. All LBAs are 512-byte sectors. Pure functions; output arrays are the caller's, and a
 * function that would write more than `room` entries returns the count it needs and writes none.
 */
#ifndef DEK_LUNMAP_H
#define DEK_LUNMAP_H

#include <dek/codec.h>

#ifdef __cplusplus
extern "C" {
#endif

/* OK or INVALID_RANGE. `size` in LBAs; 0: any size. `unit` in bytes; 0: any alignment. */
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
bool dek_map_contains(const struct dek_range *map, size_t n, struct dek_range what);
bool dek_map_overlaps(const struct dek_range *map, size_t n, struct dek_range what);
__u64 dek_map_total(const struct dek_range *map, size_t n);

#ifdef __cplusplus
}
#endif

#endif
