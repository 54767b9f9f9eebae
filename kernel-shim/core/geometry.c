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
__u64 dek_tweak_chunk(const struct dek_geometry *g, __u64 lba, __u64 *count)
{
	__u64 p = lba - g->device_origin;
	__u64 left = g->chunk - p % g->chunk;

	if (left < *count)
		*count = left;
	return g->logical_origin + (p / g->chunk * g->stripes + g->leg) * g->chunk + p % g->chunk;
}
