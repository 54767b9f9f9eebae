// SPDX-License-Identifier: GPL-2.0
/*
 * The data path: every bio of every `dek` target.
 *
 * A bio is looked up once and cut where the treatment changes. Plain pieces are remapped and nothing
 * else. Reads are decrypted in place when they come back. Writes are encrypted into pages of ours, which
 * take the place of the caller's in device-mapper's clone until it comes back: the caller's pages are
 * never modified, and there is no second bio.
 *
 * Nothing here sleeps in map(): what must wait (a held range, missing keys) is queued and looked up again
 * after each publication; what must sleep (for the pool, when memory is short) goes to a worker.
 */
#include <linux/module.h>

#include "inline.h"

#define DEK_SOFTIRQ_MAX (32 << 10) /* bytes deciphered where they land; more goes to a worker */

static unsigned int suspend_patience = 30;
module_param(suspend_patience, uint, 0644);
MODULE_PARM_DESC(suspend_patience, "seconds that a suspend with flush waits for I/O without keys or in a held range");

static int dispatch(struct dek_io *io, struct bio *bio);

struct bio *dek_io_bio(struct dek_io *io)
{
	return dm_bio_from_per_bio_data(io, sizeof(*io));
}

static struct dek_io *io_of(struct bio *bio)
{
	return dm_per_bio_data(bio, sizeof(struct dek_io));
}

/* The piece is over: let go of what it held. */
static void end_piece(struct dek_io *io, struct bio *bio)
{
	if (io->crypt) {
		if (io->crypt->theirs)
			bio->bi_io_vec = io->crypt->theirs;
		dek_pool_put(&io->object->pool, io->crypt);
		io->crypt = NULL;
	}
	if (io->association) {
		dek_association_put(io->association);
		io->association = NULL;
	}
	if (io->ticket.buckets)
		dek_epoch_end(&io->object->epochs, &io->ticket);
}

/* For a bio that is ours. */
static void end_bio(struct dek_io *io, struct bio *bio, enum dek_stage stage, blk_status_t status)
{
	end_piece(io, bio);
	io->stage = stage;
	bio->bi_status = status;
	bio_endio(bio);
}

void dek_io_cipher_failed(struct dek_io *io)
{
	dek_event(io->object, DEK_EVENT_ENGINE_ERROR, io->association->handle, io->piece.bi_sector);
	dek_count(io->object, DEK_C_ERRORS, 1);
}

/* ---- encrypted pieces ---- */

/* Our pages take the place of the caller's in the clone. */
static void put_ours(struct dek_io *io, struct bio *bio)
{
	struct dek_crypt *c = io->crypt;
	unsigned int left = io->piece.bi_size, i;

	for (i = 0; i < c->pages; i++) {
		c->vec[i].bv_offset = 0;
		c->vec[i].bv_len = min_t(unsigned int, left, PAGE_SIZE);
		left -= c->vec[i].bv_len;
	}
	c->theirs = bio->bi_io_vec;
	bio->bi_io_vec = c->vec;
	bio->bi_iter.bi_idx = 0;
	bio->bi_iter.bi_bvec_done = 0;
	io->stage = DEK_STAGE_WRITE;
	dek_count(io->object, DEK_C_ENCRYPTED, io->piece.bi_size);
}

/* What map() answers. */
static int encrypt(struct dek_io *io, struct bio *bio, bool may_sleep)
{
	int ret = dek_crypt_units(io, bio, may_sleep);

	if (unlikely(ret == -EINPROGRESS))
		return DM_MAPIO_SUBMITTED;
	if (unlikely(ret)) {
		dek_io_cipher_failed(io);
		return DM_MAPIO_KILL;
	}
	put_ours(io, bio);
	return DM_MAPIO_REMAPPED;
}

static int start_write(struct dek_io *io, struct bio *bio, bool may_wait)
{
	unsigned int pages = (io->piece.bi_size + PAGE_SIZE - 1) >> PAGE_SHIFT;

	io->crypt = dek_pool_get(&io->object->pool, pages, may_wait);
	if (unlikely(!io->crypt)) {
		dek_io_defer(io, DEK_STAGE_POOL);
		return DM_MAPIO_SUBMITTED;
	}
	dek_crypt_begin(io);
	if (unlikely(irqs_disabled() || in_interrupt())) {
		dek_io_defer(io, DEK_STAGE_CRYPT);
		return DM_MAPIO_SUBMITTED;
	}
	return encrypt(io, bio, may_wait);
}

static bool may_decipher_here(struct dek_io *io)
{
	if (irqs_disabled() || in_hardirq())
		return false;
	return !in_serving_softirq() || io->piece.bi_size <= DEK_SOFTIRQ_MAX;
}

/* What end_io() answers. */
static int decrypt(struct dek_io *io, struct bio *bio, blk_status_t *error, bool may_sleep)
{
	int ret = dek_crypt_units(io, bio, may_sleep);

	if (unlikely(ret == -EINPROGRESS))
		return DM_ENDIO_INCOMPLETE;
	if (unlikely(ret)) {
		dek_io_cipher_failed(io);
		*error = BLK_STS_IOERR;
	} else {
		dek_count(io->object, DEK_C_DECRYPTED, io->piece.bi_size);
	}
	return DM_ENDIO_DONE;
}

static int end_read(struct dek_io *io, struct bio *bio, blk_status_t *error)
{
	io->crypt = dek_pool_get(&io->object->pool, 0, false);
	if (unlikely(!io->crypt)) {
		dek_io_defer(io, DEK_STAGE_POOL);
		return DM_ENDIO_INCOMPLETE;
	}
	dek_crypt_begin(io);
	if (unlikely(!may_decipher_here(io))) {
		dek_io_defer(io, DEK_STAGE_CRYPT);
		return DM_ENDIO_INCOMPLETE;
	}
	return decrypt(io, bio, error, false);
}

/* ---- looking up ---- */

static void lose_patience(struct dek_io *io, struct bio *bio, enum dek_patience patience)
{
	end_bio(io, bio, patience == DEK_PUSHED_BACK ? DEK_STAGE_PUSHBACK : DEK_STAGE_ENDED, BLK_STS_IOERR);
}

static int wait_for_publication(struct dek_io *io, struct bio *bio, u64 seen)
{
	struct dek_object *o = io->object;
	enum dek_patience patience;
	unsigned long flags;

	end_piece(io, bio);
	io->ours = true;
	io->stage = DEK_STAGE_LOOKUP;
	if (!io->waited)
		dek_count(o, DEK_C_WAITED, 1);
	io->waited = true;
	spin_lock_irqsave(&o->waiting_lock, flags);
	patience = o->patience;
	/* A suspend that was interrupted takes nothing back any more, some time before it says so. */
	if (patience == DEK_PUSHED_BACK && !dm_noflush_suspending(io->ti))
		patience = DEK_WAITS;
	if (patience == DEK_WAITS) {
		bio_list_add(&o->waiting, bio);
		if (o->publications != seen)
			queue_work(o->crypt_queue, &o->kick);
	}
	spin_unlock_irqrestore(&o->waiting_lock, flags);
	if (patience != DEK_WAITS)
		lose_patience(io, bio, patience);
	return DM_MAPIO_SUBMITTED;
}

static int refuse(struct dek_io *io, struct bio *bio, const struct dek_piece *piece, enum dek_fence fence)
{
	struct dek_object *o = io->object;
	blk_status_t status;

	if (piece->verdict == DEK_REFUSE) {
		status = BLK_STS_TARGET; /* no other path would do it either, so this one must not be failed for it */
		dek_count(o, DEK_C_REFUSED, 1);
	} else {
		status = BLK_STS_TRANSPORT;
		dek_count(o, DEK_C_FENCE_HITS, 1);
		dek_event(o, DEK_EVENT_FENCE_HIT, 0, bio->bi_iter.bi_sector);
	}
	if (fence != DEK_FENCE_TRANSPORT)
		return DM_MAPIO_KILL;
	end_bio(io, bio, DEK_STAGE_ENDED, status);
	return DM_MAPIO_SUBMITTED;
}

/* Cut the bio to the piece: by device-mapper while it still may, by ourselves once the bio is ours. */
static void cut(struct dek_io *io, struct bio *bio, unsigned int sectors)
{
	unsigned int all = bio_sectors(bio);

	if (likely(sectors >= all))
		return;
	if (!io->ours) {
		dm_accept_partial_bio(bio, sectors);
		return;
	}
	io->rest += (all - sectors) << SECTOR_SHIFT;
	bio->bi_iter.bi_size = sectors << SECTOR_SHIFT;
}

/* The device beneath encrypts: there is nothing to do when it comes back. */
static bool inline_piece(struct dek_io *io, struct bio *bio, u64 count)
{
	struct dek_inline_key *key = dek_engine_inline(io->association);

	if (!key || !dek_inline_takes(io, bio, &count))
		return false;
	cut(io, bio, count);
	io->piece = bio->bi_iter;
	io->stage = DEK_STAGE_PASS;
	dek_inline_set(io, bio, key);
	dek_count(io->object, io->write ? DEK_C_ENCRYPTED : DEK_C_DECRYPTED, io->piece.bi_size);
	return true;
}

static int crypt_piece(struct dek_io *io, struct bio *bio, u64 count)
{
	unsigned int unit = io->object->data_unit >> SECTOR_SHIFT;

	if (unlikely((bio->bi_iter.bi_sector | count) & (unit - 1))) {
		dek_count(io->object, DEK_C_REFUSED, 1); /* never a plain tail */
		return DM_MAPIO_KILL;
	}
	if (inline_piece(io, bio, count))
		return DM_MAPIO_REMAPPED;
	if (io->write && count > DEK_WRITE_PAGES << PAGE_SECTORS_SHIFT)
		count = DEK_WRITE_PAGES << PAGE_SECTORS_SHIFT;
	cut(io, bio, count);
	io->piece = bio->bi_iter;
	if (io->write)
		return start_write(io, bio, false);
	io->stage = DEK_STAGE_READ;
	return DM_MAPIO_REMAPPED;
}

/*
 * Discards cannot be cut: one verdict for all of it, the first that does not let it pass. The table has
 * opted in to discards of encrypted ranges, or none comes here.
 */
static void look_up_discard(const struct dek_snapshot *s, struct bio *bio, struct dek_piece *piece)
{
	u64 lba = bio->bi_iter.bi_sector, left = bio_sectors(bio);

	while (left) {
		dek_snapshot_lookup(s, lba, left, true, piece);
		if (piece->verdict != DEK_PASS && piece->verdict != DEK_CRYPT)
			break;
		lba += piece->count;
		left -= piece->count;
	}
	if (!left)
		piece->verdict = DEK_PASS;
	piece->count = bio_sectors(bio);
}

/* A path without a map is one that another may do without. */
static bool refused_by_map(const struct dek_snapshot *s, const struct dek_piece *piece)
{
	return piece->verdict == DEK_REFUSE && dek_snapshot_generation(s);
}

static enum dek_fence look_up(struct dek_io *io, struct bio *bio, struct dek_piece *piece)
{
	enum dek_fence fence = DEK_FENCE_EIO;
	struct dek_object *o = io->object;
	const struct dek_snapshot *s;

	rcu_read_lock_sched();
	dek_epoch_begin(&o->epochs, &io->ticket, bio->bi_iter.bi_sector, bio_sectors(bio));
	s = rcu_dereference_sched(o->snapshot);
	if (unlikely(bio_op(bio) == REQ_OP_DISCARD))
		look_up_discard(s, bio, piece);
	else
		dek_snapshot_lookup(s, bio->bi_iter.bi_sector, bio_sectors(bio), io->write, piece);
	if (piece->verdict == DEK_CRYPT) {
		dek_association_get(piece->association);
		io->association = piece->association;
	} else if (unlikely(piece->verdict == DEK_FENCED || refused_by_map(s, piece))) {
		fence = dek_snapshot_fence(s);
	}
	rcu_read_unlock_sched();
	return fence;
}

/* What map() answers. On DM_MAPIO_KILL the caller ends the bio with EIO. */
static int dispatch(struct dek_io *io, struct bio *bio)
{
	u64 seen = READ_ONCE(io->object->publications);
	enum dek_fence fence;
	struct dek_piece piece;
	int ret;

	smp_rmb(); /* `publications` before the snapshot: a later one is noticed when it comes to waiting */
	fence = look_up(io, bio, &piece);
	if (likely(piece.verdict == DEK_CRYPT)) {
		ret = crypt_piece(io, bio, piece.count);
	} else if (piece.verdict == DEK_PASS) {
		cut(io, bio, piece.count);
		io->piece = bio->bi_iter;
		io->stage = DEK_STAGE_PASS;
		dek_count(io->object, DEK_C_PLAIN, bio->bi_iter.bi_size);
		return DM_MAPIO_REMAPPED;
	} else if (piece.verdict == DEK_WAIT || (piece.verdict == DEK_FENCED && fence == DEK_FENCE_HOLD)) {
		return wait_for_publication(io, bio, seen);
	} else {
		ret = refuse(io, bio, &piece, fence);
	}
	if (unlikely(ret == DM_MAPIO_KILL))
		end_piece(io, bio);
	return ret;
}

/* ---- from device-mapper ---- */

/* Device-mapper asks for no others; write-zeroes would leave plaintext zeros where ciphertext belongs. */
static bool serves(const struct dek_target *t, enum req_op op)
{
	return op == REQ_OP_READ || op == REQ_OP_WRITE || (op == REQ_OP_DISCARD && t->allow_discards);
}

int dek_io_map(struct dm_target *ti, struct bio *bio)
{
	struct dek_target *t = ti->private;
	struct dek_object *o = t->object;
	struct dek_io *io = io_of(bio);

	io->object = o;
	io->ti = ti;
	io->association = NULL;
	io->crypt = NULL;
	io->ticket.buckets = 0;
	io->rest = 0;
	io->stage = DEK_STAGE_PASS;
	io->write = op_is_write(bio_op(bio));
	io->ours = false;
	io->waited = false;
	bio_set_dev(bio, t->dev->bdev);
	if (unlikely(!serves(t, bio_op(bio)))) { /* first of all: what resets a zone has no sectors, as a flush */
		end_bio(io, bio, DEK_STAGE_ENDED, BLK_STS_NOTSUPP);
		return DM_MAPIO_SUBMITTED;
	}
	if (unlikely(!bio_sectors(bio))) {
		dek_count(o, DEK_C_FLUSHES, 1);
		return DM_MAPIO_REMAPPED;
	}
	bio->bi_iter.bi_sector = o->first + dm_target_offset(ti, bio->bi_iter.bi_sector);
	if (io->write) {
		dek_count(o, DEK_C_WRITES, 1);
		dek_count(o, DEK_C_WRITE_BYTES, bio->bi_iter.bi_size);
	} else {
		dek_count(o, DEK_C_READS, 1);
		dek_count(o, DEK_C_READ_BYTES, bio->bi_iter.bi_size);
	}
	return dispatch(io, bio);
}

/* The piece is done; is there another behind it? */
static int next_piece(struct dek_io *io, struct bio *bio)
{
	end_piece(io, bio);
	if (likely(!io->rest))
		return DM_ENDIO_DONE;
	bio->bi_iter = io->piece;
	bio->bi_iter.bi_size += io->rest;
	bio_advance_iter(bio, &bio->bi_iter, io->piece.bi_size);
	io->rest = 0;
	dek_io_defer(io, DEK_STAGE_LOOKUP);
	return DM_ENDIO_INCOMPLETE;
}

int dek_io_end(struct dm_target *ti, struct bio *bio, blk_status_t *error)
{
	struct dek_io *io = io_of(bio);
	int ret;

	if (unlikely(io->stage == DEK_STAGE_PUSHBACK))
		return DM_ENDIO_REQUEUE;
	if (likely(!*error) && io->stage == DEK_STAGE_READ) {
		ret = end_read(io, bio, error);
		if (unlikely(ret == DM_ENDIO_INCOMPLETE))
			return ret;
	} else if (unlikely(*error && io->stage != DEK_STAGE_ENDED)) {
		dek_count(io->object, DEK_C_ERRORS, 1);
	}
	if (unlikely(*error)) {
		end_piece(io, bio);
		return DM_ENDIO_DONE;
	}
	return next_piece(io, bio);
}

/* ---- deferred ---- */

static void send_on(struct dek_io *io, struct bio *bio, int ret)
{
	struct dek_target *t = io->ti->private;

	if (ret == DM_MAPIO_REMAPPED) {
		/* It may have been below before, and come back remapped, chained and merged with another. */
		bio_set_dev(bio, t->dev->bdev);
		bio->bi_next = NULL;
		atomic_set(&bio->__bi_remaining, 1);
		dm_submit_bio_remap(bio, NULL);
	} else if (ret == DM_MAPIO_KILL) {
		end_bio(io, bio, DEK_STAGE_ENDED, BLK_STS_IOERR);
	}
}

static void resume_read(struct dek_io *io, struct bio *bio)
{
	blk_status_t error = BLK_STS_OK;

	if (decrypt(io, bio, &error, true) == DM_ENDIO_INCOMPLETE)
		return;
	if (error || next_piece(io, bio) == DM_ENDIO_DONE)
		end_bio(io, bio, DEK_STAGE_ENDED, error);
}

static void resume_pool(struct dek_io *io, struct bio *bio)
{
	if (io->write) {
		send_on(io, bio, start_write(io, bio, true));
		return;
	}
	io->crypt = dek_pool_get(&io->object->pool, 0, true);
	dek_crypt_begin(io);
	resume_read(io, bio);
}

static void resume_io(struct work_struct *work)
{
	struct dek_io *io = container_of(work, struct dek_io, work);
	struct bio *bio = dek_io_bio(io);

	switch (io->stage) {
	case DEK_STAGE_LOOKUP:
		send_on(io, bio, dispatch(io, bio));
		break;
	case DEK_STAGE_POOL:
		resume_pool(io, bio);
		break;
	case DEK_STAGE_CRYPT:
		if (io->write)
			send_on(io, bio, encrypt(io, bio, true));
		else
			resume_read(io, bio);
		break;
	default:
		dek_io_cipher_failed(io);
		end_bio(io, bio, DEK_STAGE_ENDED, BLK_STS_IOERR);
	}
}

void dek_io_defer(struct dek_io *io, enum dek_stage stage)
{
	io->stage = stage;
	io->ours = true;
	INIT_WORK(&io->work, resume_io);
	queue_work(stage == DEK_STAGE_POOL ? io->object->pool_queue : io->object->crypt_queue, &io->work);
}

/* ---- those that wait ---- */

static struct bio_list take_waiting(struct dek_object *o)
{
	struct bio_list list;

	spin_lock_irq(&o->waiting_lock);
	list = o->waiting;
	bio_list_init(&o->waiting);
	spin_unlock_irq(&o->waiting_lock);
	return list;
}

void dek_io_published(struct dek_object *o)
{
	spin_lock_irq(&o->waiting_lock);
	smp_store_release(&o->publications, o->publications + 1); /* after the snapshot */
	if (!bio_list_empty(&o->waiting))
		queue_work(o->crypt_queue, &o->kick);
	spin_unlock_irq(&o->waiting_lock);
}

u64 dek_io_waiting(struct dek_object *o)
{
	u64 n;

	spin_lock_irq(&o->waiting_lock);
	n = bio_list_size(&o->waiting);
	spin_unlock_irq(&o->waiting_lock);
	return n;
}

static void kick(struct work_struct *work)
{
	struct dek_object *o = container_of(work, struct dek_object, kick);
	struct bio_list list = take_waiting(o);
	struct bio *bio;

	while ((bio = bio_list_pop(&list))) {
		struct dek_io *io = io_of(bio);

		send_on(io, bio, dispatch(io, bio));
		cond_resched();
	}
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
		lose_patience(io_of(bio), bio, patience);
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
	INIT_WORK(&o->kick, kick);
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
