/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * LUN-map algebra. No range of a valid map reaches 2^64: the end of each, first + count, is a number that
 * fits, so ends can be compared without care.
 */
#include <dek/lunmap.h>

#define SECTOR 512u

static __u64 range_end(struct dek_range r)
{
	return r.first + r.count;
}

static __u64 min_lba(__u64 a, __u64 b)
{
	return a < b ? a : b;
}

static __u64 max_lba(__u64 a, __u64 b)
{
	return a > b ? a : b;
}

/* The end of any range; one that would overflow is taken to reach as far as there are numbers. */
static __u64 end_saturated(struct dek_range r)
{
	return r.count > ~0ull - r.first ? ~0ull : range_end(r);
}

/* Units are powers of two, a sector or more; LBAs of which these bits are set lie within a unit. */
static bool unit_mask(__u32 unit, __u64 *mask)
{
	*mask = 0;
	if (!unit)
		return true;
	if (unit < SECTOR || (unit & (unit - 1)))
		return false;
	*mask = unit / SECTOR - 1;
	return true;
}

enum dek_status dek_map_validate(const struct dek_range *map, size_t n, __u64 size, __u32 unit)
{
	__u64 mask, end = 0;
	size_t i;

	if (!unit_mask(unit, &mask))
		return DEK_INVALID_RANGE;
	for (i = 0; i < n; i++) {
		if (!map[i].count || map[i].count > ~0ull - map[i].first)
			return DEK_INVALID_RANGE;
		if (map[i].first < end || ((map[i].first | map[i].count) & mask))
			return DEK_INVALID_RANGE;
		end = range_end(map[i]);
		if (size && end > size)
			return DEK_INVALID_RANGE;
	}
	return DEK_OK;
}

/* Where a function's result goes: entries beyond the room are only counted, so `out` may be NULL. */
struct sink {
	struct dek_range *out;
	size_t room;
	size_t n;
};

static void sink_add(struct sink *s, __u64 first, __u64 end)
{
	if (s->n < s->room) {
		s->out[s->n].first = first;
		s->out[s->n].count = end - first;
	}
	s->n++;
}

static void walk_intersect(const struct dek_range *a, size_t na, const struct dek_range *b, size_t nb,
			   struct sink *s)
{
	size_t i = 0, j = 0;

	while (i < na && j < nb) {
		__u64 first = max_lba(a[i].first, b[j].first);
		__u64 end = min_lba(range_end(a[i]), range_end(b[j]));

		if (first < end)
			sink_add(s, first, end);
		if (range_end(a[i]) < range_end(b[j]))
			i++;
		else
			j++;
	}
}

static void walk_subtract(const struct dek_range *a, size_t na, const struct dek_range *b, size_t nb,
			  struct sink *s)
{
	size_t i, j = 0;

	for (i = 0; i < na; i++) {
		__u64 first = a[i].first, end = range_end(a[i]);

		while (j < nb && range_end(b[j]) <= first)
			j++;
		/* The last one met may reach into the next range of a, so it is not passed yet. */
		while (j < nb && b[j].first < end) {
			if (b[j].first > first)
				sink_add(s, first, b[j].first);
			first = range_end(b[j]);
			if (first >= end)
				break;
			j++;
		}
		if (first < end)
			sink_add(s, first, end);
	}
}

static void walk_union(const struct dek_range *a, size_t na, const struct dek_range *b, size_t nb, struct sink *s)
{
	size_t i = 0, j = 0;
	__u64 first = 0, end = 0;

	while (i < na || j < nb) {
		bool from_a = j == nb || (i < na && a[i].first <= b[j].first);
		struct dek_range r = from_a ? a[i++] : b[j++];

		if (first < end && r.first <= end) {
			end = max_lba(end, range_end(r));
			continue;
		}
		if (first < end)
			sink_add(s, first, end);
		first = r.first;
		end = range_end(r);
	}
	if (first < end)
		sink_add(s, first, end);
}

typedef void (*walk_fn)(const struct dek_range *a, size_t na, const struct dek_range *b, size_t nb, struct sink *s);

/* Twice over: once to learn the count, so that nothing is written when it would not all fit. */
static size_t walk_twice(walk_fn walk, const struct dek_range *a, size_t na, const struct dek_range *b, size_t nb,
			 struct dek_range *out, size_t room)
{
	struct sink counted = { .out = NULL, .room = 0, .n = 0 };
	struct sink written = { .out = out, .room = room, .n = 0 };

	walk(a, na, b, nb, &counted);
	if (counted.n <= room)
		walk(a, na, b, nb, &written);
	return counted.n;
}

size_t dek_map_intersect(const struct dek_range *a, size_t na, const struct dek_range *b, size_t nb,
			 struct dek_range *out, size_t room)
{
	return walk_twice(walk_intersect, a, na, b, nb, out, room);
}

size_t dek_map_subtract(const struct dek_range *a, size_t na, const struct dek_range *b, size_t nb,
			struct dek_range *out, size_t room)
{
	return walk_twice(walk_subtract, a, na, b, nb, out, room);
}

size_t dek_map_union(const struct dek_range *a, size_t na, const struct dek_range *b, size_t nb,
		     struct dek_range *out, size_t room)
{
	return walk_twice(walk_union, a, na, b, nb, out, room);
}

size_t dek_map_merge(struct dek_range *map, size_t n)
{
	size_t i, kept = 0;

	for (i = 0; i < n; i++) {
		if (kept && range_end(map[kept - 1]) == map[i].first)
			map[kept - 1].count += map[i].count;
		else
			map[kept++] = map[i];
	}
	return kept;
}

enum dek_status dek_map_shift(struct dek_range *map, size_t n, __u64 from, __u64 to)
{
	size_t i;

	if (!n)
		return DEK_OK;
	/* Sorted: the ends tell for all of them. */
	if (to < from && map[0].first < from - to)
		return DEK_INVALID_RANGE;
	if (to > from && range_end(map[n - 1]) > ~0ull - (to - from))
		return DEK_INVALID_RANGE;
	for (i = 0; i < n; i++)
		map[i].first += to - from;
	return DEK_OK;
}

/* Index of the first range that ends beyond lba; n if there is none. */
static size_t first_beyond(const struct dek_range *map, size_t n, __u64 lba)
{
	size_t low = 0, high = n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (range_end(map[mid]) > lba)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

bool dek_map_contains(const struct dek_range *map, size_t n, struct dek_range what)
{
	__u64 at = what.first;
	size_t i;

	if (!what.count || what.count > ~0ull - what.first)
		return false;
	for (i = first_beyond(map, n, at); i < n && map[i].first <= at; i++) {
		at = range_end(map[i]);
		if (at >= range_end(what))
			return true;
	}
	return false;
}

bool dek_map_overlaps(const struct dek_range *map, size_t n, struct dek_range what)
{
	size_t i;

	if (!what.count)
		return false;
	i = first_beyond(map, n, what.first);
	return i < n && map[i].first < end_saturated(what);
}

__u64 dek_map_total(const struct dek_range *map, size_t n)
{
	__u64 total = 0;
	size_t i;

	for (i = 0; i < n; i++)
		total += map[i].count;
	return total;
}
