// SPDX-License-Identifier: GPL-2.0
/*
 * I/O that has to wait: in a held range, for keys, or for an engine that fails. All of it is looked up again after each
 * publication; while an engine fails, twice a second besides. It holds neither an association nor a place in flight,
 * so that no command waits for it. A suspend pushes it back, or waits for it for some time.
 */
#include <linux/module.h>

#include "shim.h"

#define DEK_TRIES_AGAIN (HZ / 2)

static unsigned int suspend_patience = 30;
module_param(suspend_patience, uint, 0644);
MODULE_PARM_DESC(suspend_patience, "seconds that a suspend with flush waits for I/O without keys or in a held range");

static unsigned int engine_patience = 30;
module_param(engine_patience, uint, 0644);
MODULE_PARM_DESC(engine_patience, "seconds that I/O waits for an engine that fails, where fences answer with an error");

void dek_io_settled(struct dek_io *io)
{
	if (io->waits != DEK_WAITS_NOW)
		return;
	io->waits = DEK_WAITED;
	io->failing = 0;
	atomic64_dec(&io->object->waiters);
}

static void lose_patience(struct dek_io *io, struct bio *bio, enum dek_patience patience)
{
	dek_io_finish(io, bio, patience == DEK_PUSHED_BACK ? DEK_STAGE_PUSHBACK : DEK_STAGE_ENDED, BLK_STS_IOERR);
}

static void count_waiter(struct dek_io *io)
{
	if (io->waits == DEK_NEVER_WAITED)
		dek_count(io->object, DEK_C_WAITED, 1);
	if (io->waits != DEK_WAITS_NOW)
		atomic64_inc(&io->object->waiters);
	io->waits = DEK_WAITS_NOW;
}

void dek_io_wait(struct dek_io *io, struct bio *bio, u64 seen)
{
	struct dek_object *o = io->object;
	enum dek_patience patience;
	unsigned long flags;

	count_waiter(io);
	dek_io_let_go(io, bio);
	io->ours = true;
	io->stage = DEK_STAGE_LOOKUP;
	spin_lock_irqsave(&o->waiting_lock, flags);
	patience = o->patience;
	/* A suspend that was interrupted takes nothing back any more, some time before it says so. */
	if (patience == DEK_PUSHED_BACK && !dm_noflush_suspending(io->ti))
		patience = DEK_WAITS;
	if (patience == DEK_WAITS) {
		bio_list_add(&o->waiting, bio);
		if (o->publications != seen)
			mod_delayed_work(o->crypt_queue, &o->kick, 0);
		else if (io->failing)
			queue_delayed_work(o->crypt_queue, &o->kick, DEK_TRIES_AGAIN);
	}
	spin_unlock_irqrestore(&o->waiting_lock, flags);
	if (patience != DEK_WAITS)
		lose_patience(io, bio, patience);
}

static enum dek_fence fence_of(struct dek_object *o)
{
	enum dek_fence fence;

	rcu_read_lock_sched();
	fence = dek_snapshot_fence(rcu_dereference_sched(o->snapshot));
	rcu_read_unlock_sched();
	return fence;
}

static bool engine_had_its_time(const struct dek_io *io)
{
	return (u32)jiffies - io->failing >= (u64)READ_ONCE(engine_patience) * HZ;
}

void dek_io_engine_failed(struct dek_io *io, struct bio *bio)
{
	struct dek_object *o = io->object;
	u64 seen = READ_ONCE(o->publications);
	enum dek_fence fence = fence_of(o);

	dek_event(o, DEK_EVENT_ENGINE_ERROR, io->association->handle, io->piece.bi_sector);
	if (!io->failing) {
		dek_count(o, DEK_C_ERRORS, 1);
		io->failing = ((u32)jiffies - 1) | 1; /* not 0, and not to come */
	}
	if (fence == DEK_FENCE_TRANSPORT) {
		dek_io_finish(io, bio, DEK_STAGE_ENDED, BLK_STS_TRANSPORT);
	} else if (fence == DEK_FENCE_EIO && engine_had_its_time(io)) {
		dek_io_finish(io, bio, DEK_STAGE_ENDED, BLK_STS_IOERR);
	} else { /* from its beginning: of a read, what came from the device is ciphertext, or half of each */
		bio->bi_iter = io->piece;
		bio->bi_iter.bi_size += io->rest;
		io->rest = 0;
		dek_io_wait(io, bio, seen);
	}
}

static struct bio_list take_waiting(struct dek_object *o)
{
	struct bio_list list;

	spin_lock_irq(&o->waiting_lock);
	list = o->waiting;
	bio_list_init(&o->waiting);
	spin_unlock_irq(&o->waiting_lock);
	return list;
}

static void kick(struct work_struct *work)
{
	struct bio_list list = take_waiting(container_of(to_delayed_work(work), struct dek_object, kick));
	struct bio *bio;

	while ((bio = bio_list_pop(&list))) {
		dek_io_look_up_again(bio);
		cond_resched();
	}
}

void dek_io_published(struct dek_object *o)
{
	spin_lock_irq(&o->waiting_lock);
	smp_store_release(&o->publications, o->publications + 1); /* after the snapshot, if there is a new one */
	if (!bio_list_empty(&o->waiting))
		mod_delayed_work(o->crypt_queue, &o->kick, 0);
	spin_unlock_irq(&o->waiting_lock);
}

static void stop_waiting(struct dek_object *o, enum dek_patience patience)
{
	struct bio_list list;
	struct bio *bio;

	spin_lock_irq(&o->waiting_lock);
	o->patience = patience;
	spin_unlock_irq(&o->waiting_lock);
	list = take_waiting(o);
	while ((bio = bio_list_pop(&list)))
		lose_patience(dek_io_of(bio), bio, patience);
}

static void give_up(struct work_struct *work)
{
	stop_waiting(container_of(to_delayed_work(work), struct dek_object, give_up), DEK_FAILS);
}

void dek_io_suspend(struct dek_object *o, bool noflush)
{
	if (noflush)
		stop_waiting(o, DEK_PUSHED_BACK);
	else
		queue_delayed_work(o->crypt_queue, &o->give_up, (unsigned long)READ_ONCE(suspend_patience) * HZ);
}

void dek_io_may_wait(struct dek_object *o)
{
	cancel_delayed_work_sync(&o->give_up);
	spin_lock_irq(&o->waiting_lock);
	o->patience = DEK_WAITS;
	spin_unlock_irq(&o->waiting_lock);
}

int dek_io_open(struct dek_object *o)
{
	spin_lock_init(&o->waiting_lock);
	bio_list_init(&o->waiting);
	INIT_DELAYED_WORK(&o->kick, kick);
	INIT_DELAYED_WORK(&o->give_up, give_up);
	o->pool_queue = alloc_workqueue("dek_pool/%4phN", WQ_MEM_RECLAIM, 0, o->uuid);
	o->crypt_queue = alloc_workqueue("dek_crypt/%4phN", WQ_MEM_RECLAIM | WQ_HIGHPRI | WQ_CPU_INTENSIVE, 0, o->uuid);
	return o->pool_queue && o->crypt_queue ? 0 : -ENOMEM;
}

void dek_io_close(struct dek_object *o)
{
	if (o->crypt_queue) {
		cancel_delayed_work_sync(&o->give_up);
		destroy_workqueue(o->crypt_queue);
	}
	if (o->pool_queue)
		destroy_workqueue(o->pool_queue);
}
