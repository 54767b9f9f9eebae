// SPDX-License-Identifier: GPL-2.0
/* The device-mapper target `dek`. */
#include <linux/module.h>
#include <linux/uuid.h>

#include "shim.h"

static const char *const fences[] = {[DEK_FENCE_EIO] = "eio", [DEK_FENCE_TRANSPORT] = "transport", [DEK_FENCE_HOLD] = "hold"};

static int parse_options(struct dm_target *ti, struct dek_target *t, unsigned int argc, char **argv)
{
	static const struct dm_arg args[] = {{0, 4, "Invalid number of options"}};
	struct dm_arg_set as = {.argc = argc, .argv = argv};
	unsigned int count;
	char more;
	int ret;

	if (!argc)
		return 0;
	ret = dm_read_arg_group(args, &as, &count, &ti->error);
	if (ret)
		return ret;
	while (count--) {
		const char *option = dm_shift_arg(&as);
		int fence = !strncmp(option, "fence:", 6) ? match_string(fences, ARRAY_SIZE(fences), option + 6) : -1;

		if (sscanf(option, "block_size:%u%c", &t->block_size, &more) == 1)
			continue;
		if (fence >= 0) {
			t->fence = fence;
		} else if (!strcmp(option, "allow_discards")) {
			t->allow_discards = true;
		} else if (!strcmp(option, "engine:none") || !strcmp(option, "engine:auto")) {
			t->no_engine = option[7] == 'n';
		} else {
			ti->error = "Unknown option";
			return -EINVAL;
		}
	}
	if (as.argc) {
		ti->error = "Arguments behind the options";
		return -EINVAL;
	}
	return 0;
}

/* Tolerates a target that was only half built. */
static void dek_dtr(struct dm_target *ti)
{
	struct dek_target *t = ti->private;

	if (t->object)
		dek_object_put(t->object);
	if (t->dev)
		dm_put_device(ti, t->dev);
	kfree(t);
}

/* Beyond it a device would have 2^64 bytes. */
#define DEK_LBA_LIMIT (1ULL << 55)

static int parse_numbers(struct dm_target *ti, char **argv, u64 *offset, u32 *unit)
{
	if (kstrtou64(argv[2], 10, offset) || *offset > DEK_LBA_LIMIT || ti->len > DEK_LBA_LIMIT - *offset) {
		ti->error = "Invalid offset";
		return -EINVAL;
	}
	if (kstrtou32(argv[3], 10, unit) || *unit < SECTOR_SIZE || *unit > 4096 || !is_power_of_2(*unit)) {
		ti->error = "Invalid data unit: 512, 1024, 2048 or 4096 bytes";
		return -EINVAL;
	}
	if ((*offset | ti->len) & ((*unit >> SECTOR_SHIFT) - 1)) {
		ti->error = "Offset or length is not a multiple of the data unit";
		return -EINVAL;
	}
	return 0;
}

static int open_device(struct dm_target *ti, struct dek_target *t, const char *path, u64 offset, u32 unit)
{
	int ret = dm_get_device(ti, path, dm_table_get_mode(ti->table), &t->dev);

	if (ret) {
		ti->error = "Cannot open the device";
		return ret;
	}
	if (bdev_is_zoned(t->dev->bdev)) {
		ti->error = "Zoned devices are not served";
		return -EINVAL;
	}
	if (offset + ti->len > bdev_nr_sectors(t->dev->bdev)) {
		ti->error = "The device is too small";
		return -EINVAL;
	}
	return 0;
}

static int join_endpoint(struct dm_target *ti, struct dek_target *t, const u8 *uuid, u64 offset, u32 unit)
{
	u32 block = max_t(u32, unit, bdev_logical_block_size(t->dev->bdev));
	struct dek_place place = {
		.md = dm_table_get_md(ti->table),
		.device = t->dev->bdev->bd_dev,
		.first = offset,
		.count = ti->len,
		.data_unit = unit,
		.logical_block = block,
		.cut = block,
		.fence = t->fence,
		.no_engine = t->no_engine,
	};
	struct dek_object *o;

	if (t->block_size) {
		if (t->block_size < block || t->block_size > PAGE_SIZE || !is_power_of_2(t->block_size)) {
			ti->error = "Invalid block size";
			return -EINVAL;
		}
		place.logical_block = t->block_size;
	}
	memcpy(place.uuid, uuid, DEK_UUID_SIZE);
	o = dek_object_get(&place);
	if (!IS_ERR(o)) {
		t->object = o;
		return 0;
	}
	if (PTR_ERR(o) == -EBUSY)
		ti->error = "The endpoint belongs to another mapped device";
	else if (PTR_ERR(o) == -EINVAL)
		ti->error = "The endpoint lives already with another device, offset or data unit";
	else
		ti->error = "Cannot make the endpoint";
	return PTR_ERR(o);
}

/*
 * Table grammar:
 *
 *   START LENGTH dek UUID DEVICE OFFSET UNIT [N OPTION...]
 *
 * UUID      of the endpoint, as text with dashes; every table that names it shares one endpoint
 * DEVICE    path or MAJOR:MINOR of the device beneath
 * OFFSET    first sector of it; sector s of the target is LBA OFFSET + s to the endpoint
 * UNIT      data unit in bytes: 512, 1024, 2048 or 4096
 * options   fence:eio|transport|hold   what a fence answers, until it is changed by ioctl
 *           engine:auto|none           whether it encrypts or is a fence only, until it is changed by ioctl
 *           allow_discards             pass discards, of encrypted ranges too
 *           block_size:BYTES           the volume's logical block, where it is to be larger than the data
 *                                      unit and the device's: what it was when the volume was made
 *
 * A key is never part of it. START is 0: one target makes up the whole device.
 */
static int dek_ctr(struct dm_target *ti, unsigned int argc, char **argv)
{
	struct dek_target *t;
	uuid_t uuid;
	u64 offset;
	u32 unit;
	int ret = -EINVAL;

	if (argc < 4) {
		ti->error = "Need UUID, device, offset and data unit";
		return -EINVAL;
	}
	if (uuid_parse(argv[0], &uuid)) {
		ti->error = "Invalid UUID";
		return -EINVAL;
	}
	t = kzalloc(sizeof(*t), GFP_KERNEL);
	if (!t) {
		ti->error = "Out of memory";
		return -ENOMEM;
	}
	ti->private = t;
	ret = parse_numbers(ti, argv, &offset, &unit);
	if (!ret)
		ret = parse_options(ti, t, argc - 4, argv + 4);
	if (!ret)
		ret = open_device(ti, t, argv[1], offset, unit);
	if (ret)
		goto bad;
	ret = join_endpoint(ti, t, uuid.b, offset, unit);
	if (ret)
		goto bad;
	ti->num_flush_bios = 1;
	ti->num_discard_bios = t->allow_discards;
	ti->limit_swap_bios = true;
	ti->accounts_remapped_io = true;
	ti->per_io_data_size = sizeof(struct dek_io);
	return 0;
bad:
	dek_dtr(ti);
	return ret;
}

static void dek_presuspend(struct dm_target *ti)
{
	struct dek_target *t = ti->private;

	dek_io_suspend(t->object, dm_noflush_suspending(ti));
}

static void dek_may_wait(struct dm_target *ti)
{
	struct dek_target *t = ti->private;

	dek_io_may_wait(t->object);
}

/* The length is the table's that comes live now. */
static int dek_preresume(struct dm_target *ti)
{
	struct dek_target *t = ti->private;
	struct dek_object *o = t->object;
	int ret;

	dek_command_lock(o);
	ret = dek_endpoint_resize(o->core, ti->len, &o->change);
	ret = dek_object_finish(o, ret, DEK_WAIT_COMMAND, NULL, HZ);
	dek_command_unlock(o);
	if (ret)
		DMERR("the new length would cut a range or an association: %d", ret);
	return ret;
}

static void status_info(struct dek_object *o, char *result, unsigned int maxlen)
{
	struct dek_list_entry entry = {};
	unsigned int sz = 0;

	dek_command_lock(o);
	dek_endpoint_describe(o->core, &entry);
	dek_command_unlock(o);
	DMEMIT("%016llx %llu %llu %u %u %s", entry.endpoint_id, entry.map_generation, entry.ranges, entry.associations,
	       entry.tokens, entry.engine ? dek_engine_driver(entry.engine) : "none");
}

static void dek_status(struct dm_target *ti, status_type_t type, unsigned int status_flags, char *result,
		       unsigned int maxlen)
{
	struct dek_target *t = ti->private;
	unsigned int sz = 0, options = (t->fence != DEK_FENCE_EIO) + t->no_engine + t->allow_discards + !!t->block_size;

	switch (type) {
	case STATUSTYPE_INFO:
		status_info(t->object, result, maxlen);
		break;
	case STATUSTYPE_TABLE:
		DMEMIT("%pUb %s %llu %u", t->object->uuid, t->dev->name, t->object->first, t->object->data_unit);
		if (options)
			DMEMIT(" %u", options);
		if (t->fence != DEK_FENCE_EIO)
			DMEMIT(" fence:%s", fences[t->fence]);
		if (t->no_engine)
			DMEMIT(" engine:none");
		if (t->allow_discards)
			DMEMIT(" allow_discards");
		if (t->block_size)
			DMEMIT(" block_size:%u", t->block_size);
		break;
	case STATUSTYPE_IMA:
		DMEMIT_TARGET_NAME_VERSION(ti->type);
		DMEMIT(",uuid=%pUb,device=%s,offset=%llu,data_unit=%u;", t->object->uuid, t->dev->name, t->object->first,
		       t->object->data_unit);
		break;
	}
}

static int dek_iterate_devices(struct dm_target *ti, iterate_devices_callout_fn fn, void *data)
{
	struct dek_target *t = ti->private;

	return fn(ti, t->dev, t->object->first, ti->len, data);
}

static void dek_io_hints(struct dm_target *ti, struct queue_limits *limits)
{
	struct dek_target *t = ti->private;
	u32 block = max(t->object->logical_block, t->object->data_unit);

	/* No data unit is ever cut, nor scattered over unaligned memory by direct I/O. */
	limits->logical_block_size = max_t(u32, limits->logical_block_size, block);
	limits->physical_block_size = max_t(u32, limits->physical_block_size, block);
	limits->io_min = max_t(u32, limits->io_min, block);
	limits->dma_alignment = limits->logical_block_size - 1;
}

static struct target_type dek_target_type = {
	.name = "dek",
	.version = {1, 0, 0},
	.features = DM_TARGET_SINGLETON,
	.module = THIS_MODULE,
	.ctr = dek_ctr,
	.dtr = dek_dtr,
	.map = dek_io_map,
	.end_io = dek_io_end,
	.presuspend = dek_presuspend,
	.presuspend_undo = dek_may_wait,
	.preresume = dek_preresume,
	.resume = dek_may_wait,
	.status = dek_status,
	.iterate_devices = dek_iterate_devices,
	.io_hints = dek_io_hints,
};

int dek_target_init(void)
{
	return dm_register_target(&dek_target_type);
}

void dek_target_exit(void)
{
	dm_unregister_target(&dek_target_type);
}
