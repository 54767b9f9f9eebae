// SPDX-License-Identifier: GPL-2.0
/* /dev/dek-control: the ioctl interface of dek/ioctl.h, one function a call. */
#include <linux/capability.h>
#include <linux/dm-ioctl.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/uaccess.h>

#include "shim.h"

#define DEK_DRAIN_TIMEOUT (10 * HZ)

static bool zero(const void *p, size_t n)
{
	return !memchr_inv(p, 0, n);
}

static int ioc_version(void *arg)
{
	struct dek_ioc_version *v = arg;

	memset(v, 0, sizeof(*v));
	v->abi = DEK_ABI_VERSION;
	v->kind = DEK_SHIM_KERNEL;
	v->engines = dek_engine_kind();
	v->blob_types = 1u << DEK_BLOB_UNWRAPPED | 1u << DEK_BLOB_WRAPPED | 1u << DEK_BLOB_KEYRING;
	v->max_associations = DEK_MAX_ASSOCIATIONS;
	v->max_ranges = DEK_MAX_MAP_RANGES;
	v->life = dek_life();
	strscpy(v->build, "dm-dek 1.0.0", sizeof(v->build));
	strscpy(v->engine_name, dek_engine_driver(v->engines), sizeof(v->engine_name));
	return 0;
}

static int ioc_command(void *arg)
{
	struct dek_ioc_command *c = arg;
	struct dek_object *o = dek_object_lock(c->uuid);
	int ret;

	if (IS_ERR(o))
		return PTR_ERR(o);
	dek_endpoint_command(o->core, c->block, &o->change);
	ret = dek_object_finish(o, 0, DEK_WAIT_COMMAND, c->block, DEK_DRAIN_TIMEOUT);
	dek_object_unlock(o);
	return ret == -EAGAIN ? 0 : ret; /* the block says Busy */
}

static int ioc_map(void *arg)
{
	struct dek_ioc_map *m = arg;
	struct dek_object *o = dek_object_lock(m->uuid);
	int ret;

	if (IS_ERR(o))
		return PTR_ERR(o);
	ret = dek_endpoint_map(o->core, m, &o->change);
	ret = dek_object_finish(o, ret, DEK_WAIT_MAP, NULL, DEK_DRAIN_TIMEOUT);
	dek_object_unlock(o);
	return ret;
}

static int ioc_quiesce(void *arg)
{
	struct dek_ioc_quiesce *q = arg;
	unsigned long timeout = q->timeout_ms ? msecs_to_jiffies(q->timeout_ms) : DEK_DRAIN_TIMEOUT;
	struct dek_object *o;
	int ret;

	if (q->reserved || q->token)
		return -EINVAL;
	o = dek_object_lock(q->uuid);
	if (IS_ERR(o))
		return PTR_ERR(o);
	ret = dek_endpoint_quiesce(o->core, q->first, q->count, &q->token, &o->change);
	ret = dek_object_finish(o, ret, DEK_WAIT_QUIESCE, NULL, timeout);
	dek_object_unlock(o);
	return ret == -EAGAIN ? -ETIMEDOUT : ret;
}

static int ioc_release(void *arg)
{
	struct dek_ioc_release *r = arg;
	struct dek_object *o = dek_object_lock(r->uuid);
	int ret;

	if (IS_ERR(o))
		return PTR_ERR(o);
	ret = dek_endpoint_release(o->core, r->token, &o->change);
	ret = dek_object_finish(o, ret, DEK_WAIT_COMMAND, NULL, DEK_DRAIN_TIMEOUT);
	dek_object_unlock(o);
	return ret;
}

static int ioc_yield(void *arg)
{
	struct dek_ioc_yield *y = arg;
	struct dek_object *o = dek_object_lock(y->uuid);
	int ret;

	if (IS_ERR(o))
		return PTR_ERR(o);
	ret = dek_endpoint_yield(o->core, y->token, y->first, y->count, &o->change);
	ret = dek_object_finish(o, ret, DEK_WAIT_COMMAND, NULL, DEK_DRAIN_TIMEOUT);
	dek_object_unlock(o);
	return ret;
}

static int ioc_fence(void *arg)
{
	struct dek_ioc_fence *f = arg;
	struct dek_object *o;
	int ret;

	if (f->reserved)
		return -EINVAL;
	o = dek_object_lock(f->uuid);
	if (IS_ERR(o))
		return PTR_ERR(o);
	ret = dek_endpoint_set_fence(o->core, f->fence, &o->change);
	ret = dek_object_finish(o, ret, DEK_WAIT_COMMAND, NULL, DEK_DRAIN_TIMEOUT);
	dek_object_unlock(o);
	return ret;
}

static int ioc_engine(void *arg)
{
	struct dek_ioc_engine *e = arg;
	struct dek_object *o;
	int ret;

	if (e->reserved || (e->engine && !is_power_of_2(e->engine)))
		return -EINVAL;
	o = dek_object_lock(e->uuid);
	if (IS_ERR(o))
		return PTR_ERR(o);
	if (e->engine & ~(dek_engine_best(o) | dek_engine_kind() | DEK_ENGINE_CPU))
		ret = -EOPNOTSUPP;
	else
		ret = dek_endpoint_set_engine(o->core, e->engine);
	if (!ret)
		dek_io_published(o);
	dek_object_unlock(o);
	return ret;
}

/* With the registry's lock: there are tables, so there is a mapped device. */
static void describe(struct dek_object *o, struct dek_list_entry *e)
{
	BUILD_BUG_ON(DEK_NAME_SIZE < DM_NAME_LEN);
	dek_command_lock(o);
	dek_endpoint_describe(o->core, e);
	dek_command_unlock(o);
	e->logical_block = o->logical_block;
	e->engines = e->engine & DEK_ENGINE_CPU ? DEK_ENGINE_CPU : e->engine ? dek_engine_best(o) | dek_engine_kind() : 0;
	dm_copy_name_and_uuid(o->md, e->name, NULL);
	snprintf(e->device, sizeof(e->device), "/dev/block/%u:%u", MAJOR(o->device), MINOR(o->device));
}

static int ioc_list(void *arg)
{
	struct dek_ioc_list *l = arg;
	u8 cursor[DEK_UUID_SIZE];
	struct dek_object *o;

	memcpy(cursor, l->cursor, sizeof(cursor));
	memset(l, 0, sizeof(*l));
	memcpy(l->cursor, cursor, sizeof(cursor));
	mutex_lock(&dek_registry_lock);
	list_for_each_entry(o, &dek_registry, list) {
		if (memcmp(o->uuid, cursor, sizeof(cursor)) <= 0)
			continue;
		if (l->count == DEK_LIST_PAGE) {
			l->more = 1;
			break;
		}
		describe(o, &l->entry[l->count++]);
	}
	mutex_unlock(&dek_registry_lock);
	return 0;
}

static int ioc_ranges(void *arg)
{
	struct dek_ioc_ranges *r = arg;
	struct dek_object *o = dek_object_lock(r->uuid);
	u64 lba = r->cursor;

	if (IS_ERR(o))
		return PTR_ERR(o);
	r->count = r->more = 0;
	memset(r->entry, 0, sizeof(r->entry));
	while (r->count < DEK_RANGES_PAGE &&
	       dek_snapshot_next(dek_endpoint_current(o->core), lba, &r->entry[r->count])) {
		lba = r->entry[r->count].first + r->entry[r->count].count;
		r->count++;
	}
	if (r->count == DEK_RANGES_PAGE) {
		struct dek_range_entry beyond;

		r->more = dek_snapshot_next(dek_endpoint_current(o->core), lba, &beyond);
	}
	r->cursor = lba;
	dek_object_unlock(o);
	return 0;
}

static int ioc_associations(void *arg)
{
	struct dek_ioc_associations *a = arg;
	struct dek_object *o = dek_object_lock(a->uuid);
	u64 above = a->cursor;

	if (IS_ERR(o))
		return PTR_ERR(o);
	a->count = a->more = 0;
	memset(a->entry, 0, sizeof(a->entry));
	while (a->count < DEK_ASSOCIATIONS_PAGE && dek_endpoint_next_association(o->core, above, &a->entry[a->count]))
		above = a->entry[a->count++].handle;
	if (a->count == DEK_ASSOCIATIONS_PAGE) {
		struct dek_association_entry beyond;

		a->more = dek_endpoint_next_association(o->core, above, &beyond);
	}
	a->cursor = above;
	dek_object_unlock(o);
	return 0;
}

static int ioc_tokens(void *arg)
{
	struct dek_ioc_tokens *t = arg;
	struct dek_object *o = dek_object_lock(t->uuid);
	u64 above = t->cursor;

	if (IS_ERR(o))
		return PTR_ERR(o);
	t->count = t->more = 0;
	memset(t->entry, 0, sizeof(t->entry));
	while (t->count < DEK_TOKENS_PAGE && dek_endpoint_next_token(o->core, above, &t->entry[t->count]))
		above = t->entry[t->count++].token;
	if (t->count == DEK_TOKENS_PAGE) {
		struct dek_token_entry beyond;

		t->more = dek_endpoint_next_token(o->core, above, &beyond);
	}
	t->cursor = above;
	dek_object_unlock(o);
	return 0;
}

static int ioc_stats(void *arg)
{
	struct dek_ioc_stats *s = arg;
	struct dek_object *o = dek_object_lock(s->uuid);

	if (IS_ERR(o))
		return PTR_ERR(o);
	dek_stats_read(o, s);
	dek_object_unlock(o);
	return 0;
}

struct dek_call {
	unsigned int command;
	int (*run)(void *arg);
	bool secret; /* carries a key: wiped when done */
	size_t reserved_from; /* bytes that must be zero on the way in */
	size_t reserved_size;
};

static const struct dek_call calls[] = {
	{DEK_IOC_VERSION, ioc_version, false, 0, 0},
	{DEK_IOC_COMMAND, ioc_command, true, 0, 0},
	{DEK_IOC_MAP, ioc_map, false, 0, 0},
	{DEK_IOC_QUIESCE, ioc_quiesce, false, 0, 0},
	{DEK_IOC_RELEASE, ioc_release, false, 0, 0},
	{DEK_IOC_YIELD, ioc_yield, false, 0, 0},
	{DEK_IOC_FENCE, ioc_fence, false, 0, 0},
	{DEK_IOC_ENGINE, ioc_engine, false, 0, 0},
	{DEK_IOC_LIST, ioc_list, false, 0, 0},
	{DEK_IOC_RANGES, ioc_ranges, false, 0, 0},
	{DEK_IOC_ASSOCIATIONS, ioc_associations, false, 0, 0},
	{DEK_IOC_TOKENS, ioc_tokens, false, 0, 0},
	{DEK_IOC_STATS, ioc_stats, false, offsetof(struct dek_ioc_stats, waiting), 8},
};

static const struct dek_call *find_call(unsigned int command)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(calls); i++)
		if (calls[i].command == command)
			return &calls[i];
	return NULL;
}

static long run_call(const struct dek_call *call, unsigned int command, unsigned long user)
{
	size_t size = _IOC_SIZE(command);
	void *arg;
	long ret;

	arg = kvzalloc(size, GFP_KERNEL);
	if (!arg)
		return -ENOMEM;
	ret = -EFAULT;
	if (!(_IOC_DIR(command) & _IOC_WRITE) || !copy_from_user(arg, (void __user *)user, size))
		ret = zero(arg + call->reserved_from, call->reserved_size) ? call->run(arg) : -EINVAL;
	if (!ret && (_IOC_DIR(command) & _IOC_READ) && copy_to_user((void __user *)user, arg, size))
		ret = -EFAULT;
	if (call->secret)
		memzero_explicit(arg, size);
	kvfree(arg);
	return ret;
}

/* Memory without I/O: what would be written out may be waiting for this call. */
static long control_ioctl(struct file *file, unsigned int command, unsigned long user)
{
	const struct dek_call *call = find_call(command);
	unsigned int noio;
	long ret;

	if (!call)
		return -ENOTTY;
	if (!uid_eq(current_euid(), GLOBAL_ROOT_UID) || !capable(CAP_SYS_ADMIN))
		return -EPERM;
	noio = memalloc_noio_save();
	ret = run_call(call, command, user);
	memalloc_noio_restore(noio);
	return ret;
}

static const struct file_operations control_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = control_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.llseek = noop_llseek,
};

static struct miscdevice control = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "dek-control",
	.mode = 0600,
	.fops = &control_fops,
};

int dek_control_init(void)
{
	return misc_register(&control);
}

void dek_control_exit(void)
{
	misc_deregister(&control);
}
