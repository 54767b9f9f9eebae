// SPDX-License-Identifier: GPL-2.0
/*
 * The data path: every bio of every `dek` target.
 *
 * A bio is looked up once and cut where the treatment changes. Plain pieces are remapped and nothing
 * else. Reads are decrypted in place when they come back. Writes are encrypted into pages of ours, which
 * take the place of the caller's in device-mapper's clone until it comes back: the caller's pages are
 * never modified, and there is no second bio.
 *
 * Nothing here sleeps in map(): what must wait (a held range, missing keys) is queued and looked up again (waiting.c);
 * what must sleep (for the pool, when memory is short) goes to a worker, and so does what the cipher has failed.
 */
#include "inline.h"

#define DEK_SOFTIRQ_MAX (32 << 10) /* bytes deciphered where they land; more goes to a worker */

struct bio *dek_io_bio(struct dek_io *io)
{
	return dm_bio_from_per_bio_data(io, sizeof(*io));
}

struct dek_io *dek_io_of(struct bio *bio)
{
	return dm_per_bio_data(bio, sizeof(struct dek_io));
}

void dek_io_let_go(struct dek_io *io, struct bio *bio)
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

void dek_io_finish(struct dek_io *io, struct bio *bio, enum dek_stage stage, blk_status_t status)
{
	dek_io_settled(io);
	dek_io_let_go(io, bio);
	io->stage = stage;
	bio->bi_status = status;
	bio_endio(bio);
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
	if (unlikely(ret == -E2BIG)) {
		dek_count(io->object, DEK_C_REFUSED, 1);
		return DM_MAPIO_KILL;
	}
	if (unlikely(ret)) {
		dek_io_defer(io, DEK_STAGE_FAILED);
		return DM_MAPIO_SUBMITTED;
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
	if (unlikely(ret == -E2BIG)) {
		dek_count(io->object, DEK_C_REFUSED, 1);
		*error = BLK_STS_IOERR;
	} else if (unlikely(ret)) {
		dek_io_defer(io, DEK_STAGE_FAILED);
		return DM_ENDIO_INCOMPLETE;
	} else {
		if (unlikely(io->failing))
			dek_io_settled(io);
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
	dek_io_finish(io, bio, DEK_STAGE_ENDED, status);
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
		dek_io_wait(io, bio, seen);
		return DM_MAPIO_SUBMITTED;
	} else {
		ret = refuse(io, bio, &piece, fence);
	}
	if (unlikely(ret == DM_MAPIO_KILL))
		dek_io_let_go(io, bio);
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
	struct dek_io *io = dek_io_of(bio);

	io->object = o;
	io->ti = ti;
	io->association = NULL;
	io->crypt = NULL;
	io->ticket.buckets = 0;
	io->rest = 0;
	io->stage = DEK_STAGE_PASS;
	io->write = op_is_write(bio_op(bio));
	io->ours = false;
	io->failing = 0;
	io->waits = DEK_NEVER_WAITED;
	bio_set_dev(bio, t->dev->bdev);
	if (unlikely(!serves(t, bio_op(bio)))) { /* first of all: what resets a zone has no sectors, as a flush */
		dek_io_finish(io, bio, DEK_STAGE_ENDED, BLK_STS_NOTSUPP);
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
	dek_io_let_go(io, bio);
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
	struct dek_io *io = dek_io_of(bio);
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
		dek_io_settled(io);
		dek_io_let_go(io, bio);
		return DM_ENDIO_DONE;
	}
	return next_piece(io, bio);
}

/* ---- deferred ---- */

static void send_on(struct dek_io *io, struct bio *bio, int ret)
{
	struct dek_target *t = io->ti->private;

	if (ret == DM_MAPIO_REMAPPED) {
		if (!io->failing || io->stage != DEK_STAGE_READ) /* a read's engine has yet to show what it can */
			dek_io_settled(io);
		/* It may have been below before, and come back remapped, chained and merged with another. */
		bio_set_dev(bio, t->dev->bdev);
		bio->bi_next = NULL;
		atomic_set(&bio->__bi_remaining, 1);
		dm_submit_bio_remap(bio, NULL);
	} else if (ret == DM_MAPIO_KILL) {
		dek_io_finish(io, bio, DEK_STAGE_ENDED, BLK_STS_IOERR);
	}
}

static void resume_read(struct dek_io *io, struct bio *bio)
{
	blk_status_t error = BLK_STS_OK;

	if (decrypt(io, bio, &error, true) == DM_ENDIO_INCOMPLETE)
		return;
	if (error || next_piece(io, bio) == DM_ENDIO_DONE)
		dek_io_finish(io, bio, DEK_STAGE_ENDED, error);
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
		dek_io_look_up_again(bio);
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
		dek_io_engine_failed(io, bio);
	}
}

void dek_io_look_up_again(struct bio *bio)
{
	struct dek_io *io = dek_io_of(bio);

	send_on(io, bio, dispatch(io, bio));
}

void dek_io_defer(struct dek_io *io, enum dek_stage stage)
{
	io->stage = stage;
	io->ours = true;
	INIT_WORK(&io->work, resume_io);
	queue_work(stage == DEK_STAGE_POOL ? io->object->pool_queue : io->object->crypt_queue, &io->work);
}
