// SPDX-License-Identifier: GPL-2.0
/*
 * The cipher on one piece of a bio, a data unit at a time.
 *
 * It may answer at once or later (the AES-NI driver is an asynchronous wrapper, and goes to cryptd when the
 * FPU is taken): then the data units that are left go on from a worker.
 */
#include <linux/version.h>

#include "rehearsal.h"

static void cipher_done(struct dek_io *io, int error)
{
	if (error == -EINPROGRESS) /* it had to queue, and now has begun */
		return;
	io->crypt->done += io->object->data_unit;
	dek_io_defer(io, error ? DEK_STAGE_FAILED : DEK_STAGE_CRYPT);
}

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
static void cipher_callback(void *data, int error)
{
	cipher_done(data, error);
}
#else
static void cipher_callback(struct crypto_async_request *request, int error)
{
	cipher_done(request->data, error);
}
#endif

/* A data unit in several pieces of memory. False: in too many. */
static bool gather_scattered(struct dek_crypt *c, const struct bio_vec *vec, unsigned int unit)
{
	unsigned int n = 0, left = unit;

	c->scattered = true;
	sg_init_table(c->in, DEK_UNIT_SEGMENTS);
	while (left) {
		struct bio_vec bv = mp_bvec_iter_bvec(vec, c->source);
		unsigned int length = min(bv.bv_len, left);

		if (n == DEK_UNIT_SEGMENTS)
			return false;
		sg_set_page(&c->in[n++], bv.bv_page, length, bv.bv_offset);
		bvec_iter_advance(vec, &c->source, length);
		left -= length;
	}
	sg_mark_end(&c->in[n - 1]);
	return true;
}

/* The next data unit of the bio; advances the source. */
static bool gather(struct dek_crypt *c, const struct bio_vec *vec, unsigned int unit)
{
	struct bio_vec bv = mp_bvec_iter_bvec(vec, c->source);

	if (unlikely(bv.bv_len < unit))
		return gather_scattered(c, vec, unit);
	if (unlikely(c->scattered)) {
		sg_init_table(c->in, 1);
		c->scattered = false;
	}
	sg_set_page(c->in, bv.bv_page, unit, bv.bv_offset);
	bvec_iter_advance_single(vec, &c->source, unit);
	return true;
}

static void next_tweak(struct dek_io *io, struct dek_crypt *c, unsigned int unit)
{
	if (unlikely(!c->run.count))
		dek_tweak_run(&io->association->geometry, io->piece.bi_sector + (c->done >> SECTOR_SHIFT),
			      (io->piece.bi_size - c->done) >> SECTOR_SHIFT, &c->run);
	c->iv[0] = cpu_to_le64(c->run.tweak);
	c->iv[1] = 0;
	c->run.tweak += c->run.step;
	c->run.count -= unit >> SECTOR_SHIFT;
}

void dek_crypt_begin(struct dek_io *io)
{
	struct dek_crypt *c = io->crypt;
	struct skcipher_request *request = (void *)c->request;

	c->source = io->piece;
	c->done = 0;
	c->run.count = 0;
	c->theirs = NULL;
	skcipher_request_set_tfm(request, dek_engine_cipher(io->association));
	skcipher_request_set_callback(request, CRYPTO_TFM_REQ_MAY_BACKLOG, cipher_callback, io);
}

/* 0, -EINPROGRESS (which stands for -EBUSY, too) or -errno. */
static int crypt_unit(struct dek_io *io, struct dek_crypt *c, unsigned int unit)
{
	struct skcipher_request *request = (void *)c->request;
	int ret;

	if (IS_ENABLED(DEK_MEASURE_NULL_CIPHER)) /* a build for benchmarks: what was in our pages before is written */
		return 0;
	if (io->write) {
		sg_set_page(&c->out, c->vec[c->done >> PAGE_SHIFT].bv_page, unit, c->done & ~PAGE_MASK);
		skcipher_request_set_crypt(request, c->in, &c->out, unit, c->iv);
		ret = crypto_skcipher_encrypt(request);
	} else {
		skcipher_request_set_crypt(request, c->in, c->in, unit, c->iv);
		ret = crypto_skcipher_decrypt(request);
	}
	return ret == -EBUSY ? -EINPROGRESS : ret;
}

int dek_crypt_units(struct dek_io *io, struct bio *bio, bool may_sleep)
{
	const unsigned int unit = io->object->data_unit, size = io->piece.bi_size;
	const struct bio_vec *vec = bio->bi_io_vec;
	struct dek_crypt *c = io->crypt;
	int ret;

	if (dek_rehearsal_fails() && dek_engine_rehearsed(io->association))
		return -EIO;
	while (c->done < size) {
		if (unlikely(!gather(c, vec, unit)))
			return -E2BIG;
		next_tweak(io, c, unit);
		ret = crypt_unit(io, c, unit);
		if (unlikely(ret))
			return ret;
		c->done += unit;
		if (unlikely(may_sleep))
			cond_resched();
	}
	return 0;
}
