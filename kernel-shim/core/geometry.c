/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Tweak geometry: which number a data unit is encrypted under, from where it lies on this device.
 */
#include "snapshot.h"

bool dek_geometry_valid(const struct dek_geometry *g)
{
	__u64 unit = g->data_unit / 512;

	if (g->data_unit < 512 || g->data_unit > 4096 || g->data_unit & (g->data_unit - 1))
		return false;
	if (g->tweak_rule != DEK_TWEAK_UNIT && g->tweak_rule != DEK_TWEAK_LBA512)
		return false;
	if (!g->chunk)
		return !g->stripes && !g->leg && g->device_origin % unit == g->logical_origin % unit;
	return g->stripes && g->leg < g->stripes && g->chunk % unit == 0 && g->device_origin % unit == 0 &&
	       g->logical_origin % unit == 0;
}

/* Does not overflow: the codec takes no map that would (docs/protocol.md). */
static __u64 logical_lba(const struct dek_geometry *g, __u64 lba)
{
	__u64 p = lba - g->device_origin;

	if (!g->chunk)
		return g->logical_origin + p;
	return g->logical_origin + (p / g->chunk * g->stripes + g->leg) * g->chunk + p % g->chunk;
}

void dek_tweak_run(const struct dek_geometry *g, __u64 lba, __u64 count, struct dek_tweak_run *run)
{
	__u32 unit = g->data_unit / 512;
	__u64 logical = logical_lba(g, lba);

	run->count = count;
	if (g->chunk) {
		__u64 left = g->chunk - (lba - g->device_origin) % g->chunk;

		run->count = left < count ? left : count;
	}
	run->tweak = g->tweak_rule == DEK_TWEAK_UNIT ? logical / unit : logical;
	run->step = g->tweak_rule == DEK_TWEAK_UNIT ? 1 : unit;
}
