// SPDX-License-Identifier: GPL-2.0
/*
 * Endpoint objects: one for each UUID, shared by every table that names it, live or inactive. It survives
 * reload, resize, rename and suspend, and goes with its last table.
 */
#include <linux/random.h>
#include <linux/sched/mm.h>

#include "inline.h"
#include "rehearsal.h"

DEFINE_MUTEX(dek_registry_lock);
LIST_HEAD(dek_registry);

#define DEK_SETTLE_INTERVAL (HZ / 10)

static struct workqueue_struct *grave_queue;
static struct workqueue_struct *settle_queue;
static u64 life;

/* ---- publication ---- */

/* What a publication replaced, until readers are through. */
struct dek_grave {
	struct rcu_work work;
	struct dek_change change;
};

static void bury(struct work_struct *work)
{
	struct dek_grave *grave = container_of(to_rcu_work(work), struct dek_grave, work);

	dek_change_reclaim(&grave->change);
	kfree(grave);
}

static void reclaim_later(struct dek_change *change)
{
	struct dek_grave *grave;

	if (!change->reclaim)
		return;
	grave = kzalloc(sizeof(*grave), GFP_NOIO | __GFP_NOWARN);
	if (!grave) { /* the one case in which a command waits for readers */
		synchronize_rcu();
		dek_change_reclaim(change);
		return;
	}
	grave->change.reclaim = change->reclaim;
	change->reclaim = NULL;
	INIT_RCU_WORK(&grave->work, bury);
	queue_rcu_work(grave_queue, &grave->work);
}

static void publish(struct dek_object *o, struct dek_change *change)
{
	if (change->next) {
		rcu_assign_pointer(o->snapshot, change->next);
		dek_endpoint_published(o->core, change);
		dek_io_published(o);
		reclaim_later(change);
	}
	if (change->event)
		dek_event(o, change->event, change->handle, 0);
}

/* ---- waiting for old I/O ---- */

/* The old I/O has gone, whoever was waiting for it. */
static void drained(struct dek_object *o, u64 hold, u8 *block)
{
	unsigned int i;

	for (i = 0; i < DEK_UNFINISHED_MAX; i++)
		if (o->unfinished[i].hold == hold)
			o->unfinished[i].hold = 0;
	dek_endpoint_drained(o->core, hold, block, &o->change);
	publish(o, &o->change);
}

static struct dek_unfinished *unfinished_place(struct dek_object *o, u64 hold, enum dek_wait what)
{
	unsigned int i;

	if (what == DEK_WAIT_MAP) /* it takes over what an earlier map was waiting for */
		return &o->unfinished[0];
	for (i = 1; i < DEK_UNFINISHED_MAX; i++)
		if (o->unfinished[i].hold == hold)
			return &o->unfinished[i];
	for (i = 1; i < DEK_UNFINISHED_MAX; i++)
		if (!o->unfinished[i].hold)
			return &o->unfinished[i];
	return NULL;
}

/* The hold stays; a quiesce's has been lifted. */
static void gave_up(struct dek_object *o, u64 hold, u64 buckets, enum dek_wait what, u8 *block)
{
	struct dek_unfinished *u;

	dek_endpoint_gave_up(o->core, hold, block, &o->change);
	publish(o, &o->change);
	if (what == DEK_WAIT_QUIESCE)
		return;
	u = unfinished_place(o, hold, what);
	if (WARN_ON_ONCE(!u)) /* more of them than the core has holds */
		return;
	u->hold = hold;
	u->buckets = buckets;
	queue_delayed_work(settle_queue, &o->settle, DEK_SETTLE_INTERVAL);
}

int dek_object_finish(struct dek_object *o, int ret, enum dek_wait what, u8 *block, unsigned long timeout)
{
	struct dek_change *change = &o->change;
	u64 hold = change->hold, buckets;

	if (ret)
		return ret;
	publish(o, change);
	if (!hold)
		return 0;
	buckets = change->drain_count == DEK_DRAIN_ALL ? ~0ULL :
							  dek_epochs_buckets(change->drain, change->drain_count);
	if (buckets) {
		dek_command_unlock(o);
		ret = dek_epochs_drain(&o->epochs, buckets, timeout);
		dek_command_lock(o);
	}
	if (!ret) {
		drained(o, hold, block);
		return 0;
	}
	gave_up(o, hold, buckets, what, block);
	return ret == -EINTR ? -EINTR : -EAGAIN;
}

/* False: it is unfinished still. */
static bool settle_one(struct dek_object *o, struct dek_unfinished *u)
{
	struct dek_unfinished now;
	int ret;

	dek_command_lock(o);
	now = *u;
	dek_command_unlock(o);
	if (!now.hold)
		return true;
	ret = dek_epochs_drain(&o->epochs, now.buckets, HZ); /* each try starts anew: longer than an I/O takes */
	dek_command_lock(o);
	if (!ret && u->hold == now.hold)
		drained(o, now.hold, NULL);
	dek_command_unlock(o);
	return !ret;
}

/* Finishes what a command gave up on, so that a controller that is gone blocks nobody for ever. */
static void settle(struct work_struct *work)
{
	struct dek_object *o = container_of(to_delayed_work(work), struct dek_object, settle);
	bool again = false;
	unsigned int i;

	for (i = 0; i < DEK_UNFINISHED_MAX; i++)
		again |= !settle_one(o, &o->unfinished[i]);
	if (again)
		queue_delayed_work(settle_queue, &o->settle, DEK_SETTLE_INTERVAL);
}

/* ---- the command lock ---- */

static void begin_command(struct dek_object *o)
{
	o->noio = memalloc_noio_save();
}

void dek_command_lock(struct dek_object *o)
{
	mutex_lock(&o->lock);
	begin_command(o);
}

void dek_command_unlock(struct dek_object *o)
{
	unsigned int noio = o->noio;

	mutex_unlock(&o->lock);
	memalloc_noio_restore(noio);
}

/* ---- life ---- */

u64 dek_life(void)
{
	return life;
}

static struct dek_object *find(const u8 *uuid)
{
	struct dek_object *o;

	list_for_each_entry(o, &dek_registry, list)
		if (!memcmp(o->uuid, uuid, DEK_UUID_SIZE))
			return o;
	return NULL;
}

/* Tolerates one that is half made. */
static void object_free(struct dek_object *o)
{
	if (o->core)
		dek_endpoint_destroy(o->core);
	dek_io_close(o);
	dek_inline_close(o->in_line);
	dek_pool_exit(&o->pool);
	dek_epochs_exit(&o->epochs);
	free_percpu(o->counters);
	kvfree(o);
}

static int object_init(struct dek_object *o, const struct dek_place *place)
{
	struct dek_endpoint_config config = {
		.first = place->first,
		.count = place->count,
		.data_unit = place->data_unit,
		.block = place->cut,
		.class_name = DEK_CLASS_EHBA,
		.version = dek_rehearsal_version(),
		.fence = place->fence,
		.max_associations = DEK_MAX_ASSOCIATIONS,
		.max_ranges = DEK_MAX_MAP_RANGES,
		.ops = &dek_engine_ops,
		.shim = o,
	};
	int ret;

	memcpy(config.uuid, place->uuid, DEK_UUID_SIZE);
	o->counters = alloc_percpu(struct dek_counters);
	if (!o->counters || dek_epochs_init(&o->epochs) || dek_pool_init(&o->pool) || dek_io_open(o))
		return -ENOMEM;
	ret = dek_inline_open(place, &o->in_line);
	if (ret)
		return ret;
	config.engine = place->no_engine ? 0 : dek_engine_best(o);
	o->core = dek_endpoint_create(&config);
	if (!o->core)
		return -ENOMEM;
	RCU_INIT_POINTER(o->snapshot, dek_endpoint_current(o->core));
	return 0;
}

static struct dek_object *object_create(const struct dek_place *place)
{
	struct dek_object *o = kvzalloc(sizeof(*o), GFP_KERNEL);
	int ret;

	if (!o)
		return ERR_PTR(-ENOMEM);
	kref_init(&o->refs);
	memcpy(o->uuid, place->uuid, DEK_UUID_SIZE);
	o->md = place->md;
	o->device = place->device;
	o->first = place->first;
	o->data_unit = place->data_unit;
	o->logical_block = place->logical_block;
	mutex_init(&o->lock);
	INIT_DELAYED_WORK(&o->settle, settle);
	ret = object_init(o, place);
	if (ret) {
		object_free(o);
		return ERR_PTR(ret);
	}
	return o;
}

static void insert_sorted(struct dek_object *o)
{
	struct dek_object *other;

	list_for_each_entry(other, &dek_registry, list)
		if (memcmp(other->uuid, o->uuid, DEK_UUID_SIZE) > 0)
			break;
	list_add_tail(&o->list, &other->list);
}

static int fits(const struct dek_object *o, const struct dek_place *place)
{
	if (o->md != place->md)
		return -EBUSY;
	if (o->device != place->device || o->first != place->first || o->data_unit != place->data_unit)
		return -EINVAL;
	return 0;
}

/* With the registry lock: one more table on the object of this UUID, which is `fresh` if there was none. */
static struct dek_object *join(const struct dek_place *place, struct dek_object *fresh)
{
	struct dek_object *o = find(place->uuid);
	int ret;

	if (o) {
		ret = fits(o, place);
		if (ret)
			return ERR_PTR(ret);
		kref_get(&o->refs);
	} else if (fresh) {
		o = fresh;
		insert_sorted(o);
		dek_stats_add(o);
		dek_event(o, DEK_EVENT_ENDPOINT_UP, 0, 0);
	} else {
		return NULL;
	}
	o->tables++;
	return o;
}

static struct dek_object *join_locked(const struct dek_place *place, struct dek_object *fresh)
{
	struct dek_object *o;
	unsigned int noio;

	mutex_lock(&dek_registry_lock);
	noio = memalloc_noio_save();
	o = join(place, fresh);
	memalloc_noio_restore(noio);
	mutex_unlock(&dek_registry_lock);
	return o;
}

/* It is made without the lock, because that takes memory and threads. */
struct dek_object *dek_object_get(const struct dek_place *place)
{
	struct dek_object *fresh, *o = join_locked(place, NULL);

	if (o)
		return o;
	fresh = object_create(place);
	if (IS_ERR(fresh))
		return fresh;
	o = join_locked(place, fresh);
	if (o != fresh)
		object_free(fresh);
	return o;
}

/* No table, so no I/O; no call either. */
static void last_ref(struct kref *refs)
{
	struct dek_object *o = container_of(refs, struct dek_object, refs);

	cancel_delayed_work_sync(&o->settle);
	cancel_delayed_work_sync(&o->kick);
	synchronize_rcu(); /* dek_endpoint_destroy() asks for it */
	object_free(o);
}

void dek_object_put(struct dek_object *o)
{
	mutex_lock(&dek_registry_lock);
	if (!--o->tables) {
		list_del(&o->list);
		dek_stats_remove(o);
		dek_event(o, DEK_EVENT_ENDPOINT_DOWN, 0, 0);
	}
	mutex_unlock(&dek_registry_lock);
	kref_put(&o->refs, last_ref);
}

struct dek_object *dek_object_lock(const u8 *uuid)
{
	struct dek_object *o;

	mutex_lock(&dek_registry_lock);
	o = find(uuid);
	if (o)
		kref_get(&o->refs);
	mutex_unlock(&dek_registry_lock);
	if (!o)
		return ERR_PTR(-ENOENT);
	if (mutex_lock_interruptible(&o->lock)) {
		kref_put(&o->refs, last_ref);
		return ERR_PTR(-EINTR);
	}
	begin_command(o);
	memset(&o->change, 0, sizeof(o->change));
	return o;
}

void dek_object_unlock(struct dek_object *o)
{
	dek_command_unlock(o);
	kref_put(&o->refs, last_ref);
}

int dek_objects_init(void)
{
	grave_queue = alloc_workqueue("dek_reclaim", WQ_UNBOUND, 0);
	settle_queue = alloc_workqueue("dek_settle", WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
	if (!grave_queue || !settle_queue) {
		dek_objects_exit();
		return -ENOMEM;
	}
	life = get_random_u64() | 1;
	dek_stats_init();
	return 0;
}

void dek_objects_exit(void)
{
	dek_stats_exit();
	rcu_barrier(); /* what publications left behind is queued now */
	if (grave_queue)
		destroy_workqueue(grave_queue);
	if (settle_queue)
		destroy_workqueue(settle_queue);
}
