// SPDX-License-Identifier: GPL-2.0
/*
 * The `inline` engine: the device beneath encrypts, by blk-crypto. The data path only says which key and which data unit
 * number; a bio whose memory is cut finer than data units goes through the CPU's cipher, to the same ciphertext.
 *
 * Compiled where the kernel exports what it needs (see Kbuild). Used where the device has it in hardware, and
 * with inline_crypto=fallback, for tests, where the kernel's software fallback stands in.
 */
#ifdef DEK_INLINE

#include <linux/blk-crypto.h>
#include <linux/module.h>
#include <linux/random.h>
#include <linux/version.h>

#include "inline.h"
#include "rehearsal.h"

static char *inline_crypto = "hardware";
module_param(inline_crypto, charp, 0444);
MODULE_PARM_DESC(inline_crypto, "hardware (default), fallback (the kernel's software too, for tests) or off");

#define DEK_DUN_BYTES 8

/* A device with inline encryption; held by its endpoint and by every key set on it. */
struct dek_inline {
	struct kref refs;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 9, 0)
	struct file *file;
#endif
	struct block_device *bdev;
	u64 first; /* LBA of the endpoint's first data unit */
	u32 unit;
	bool compared; /* the comparison was made; command lock */
	bool right;    /* and came out well */
};

struct dek_inline_key {
	struct dek_inline *engine;
	struct blk_crypto_key key;
};

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 9, 0)
static int open_device(struct dek_inline *e, dev_t device)
{
	e->file = bdev_file_open_by_dev(device, BLK_OPEN_READ | BLK_OPEN_WRITE, NULL, NULL);
	if (IS_ERR(e->file))
		return PTR_ERR(e->file);
	e->bdev = file_bdev(e->file);
	return 0;
}

static void close_device(struct dek_inline *e)
{
	fput(e->file);
}
#else
static int open_device(struct dek_inline *e, dev_t device)
{
	e->bdev = blkdev_get_by_dev(device, FMODE_READ | FMODE_WRITE, NULL);
	return PTR_ERR_OR_ZERO(e->bdev);
}

static void close_device(struct dek_inline *e)
{
	blkdev_put(e->bdev, FMODE_READ | FMODE_WRITE);
}
#endif

static bool device_has_it(struct block_device *bdev, u32 unit)
{
	const struct blk_crypto_config config = {
		.crypto_mode = BLK_ENCRYPTION_MODE_AES_256_XTS,
		.data_unit_size = unit,
		.dun_bytes = DEK_DUN_BYTES,
	};

	if (!strcmp(inline_crypto, "fallback"))
		return blk_crypto_config_supported(bdev, &config);
	return !strcmp(inline_crypto, "hardware") && blk_crypto_config_supported_natively(bdev, &config);
}

static void last_ref(struct kref *refs)
{
	struct dek_inline *e = container_of(refs, struct dek_inline, refs);

	close_device(e);
	kfree(e);
}

void dek_inline_close(struct dek_inline *e)
{
	if (e)
		kref_put(&e->refs, last_ref);
}

int dek_inline_open(const struct dek_place *place, struct dek_inline **out)
{
	struct dek_inline *e;
	int ret;

	*out = NULL;
	if (!strcmp(inline_crypto, "off") || dek_rehearsal())
		return 0;
	e = kzalloc(sizeof(*e), GFP_KERNEL);
	if (!e)
		return -ENOMEM;
	ret = open_device(e, place->device);
	if (ret) {
		kfree(e);
		return ret;
	}
	kref_init(&e->refs);
	e->first = place->first;
	e->unit = place->data_unit;
	if (device_has_it(e->bdev, e->unit))
		*out = e;
	else
		dek_inline_close(e);
	return 0;
}

/* ---- keys ---- */

static int engage(struct dek_inline_key *k, struct dek_inline *e, const u8 *bytes)
{
	int ret = blk_crypto_init_key(&k->key, bytes, BLK_ENCRYPTION_MODE_AES_256_XTS, DEK_DUN_BYTES, e->unit);

	return ret ?: blk_crypto_start_using_key(e->bdev, &k->key);
}

enum dek_status dek_inline_key_make(struct dek_inline *e, const struct dek_association *a, struct dek_inline_key **out)
{
	struct dek_inline_key *k;
	int ret;

	*out = NULL;
	if (!e)
		return DEK_OK;
	if (a->key_length != DEK_KEY_DATA_SIZE) /* blk-crypto has no XTS-AES-128 */
		return DEK_INVALID_KEY;
	k = kzalloc(sizeof(*k), GFP_KERNEL);
	if (!k)
		return DEK_NO_MEMORY;
	ret = engage(k, e, a->key);
	if (ret) {
		kfree_sensitive(k);
		return ret == -ENOMEM ? DEK_NO_MEMORY : DEK_INVALID_HW_STATE;
	}
	kref_get(&e->refs);
	k->engine = e;
	*out = k;
	return DEK_OK;
}

/* May sleep. No I/O uses it any more. */
void dek_inline_key_free(struct dek_inline_key *k)
{
	struct dek_inline *e;

	if (!k)
		return;
	e = k->engine;
	blk_crypto_evict_key(e->bdev, &k->key);
	kfree_sensitive(k);
	dek_inline_close(e);
}

/* ---- the comparison: the first data unit, read raw and through the engine. Nothing is written. ---- */

struct comparison {
	u8 key[DEK_KEY_DATA_SIZE];
	u64 dun[BLK_CRYPTO_DUN_ARRAY_SIZE];
	__le64 iv[2];
	struct dek_inline_key inline_key;
};

static int read_unit(struct dek_inline *e, struct page *page, const struct comparison *c, bool through)
{
	struct bio_vec vec;
	struct bio bio;
	int ret;

	bio_init(&bio, e->bdev, &vec, 1, REQ_OP_READ);
	bio.bi_iter.bi_sector = e->first;
	__bio_add_page(&bio, page, e->unit, 0);
	if (through)
		bio_crypt_set_ctx(&bio, &c->inline_key.key, c->dun, GFP_NOIO);
	ret = submit_bio_wait(&bio);
	bio_uninit(&bio);
	return ret;
}

static int decipher(struct dek_inline *e, struct page *page, struct comparison *c)
{
	struct crypto_skcipher *tfm = crypto_alloc_skcipher("xts(aes)", 0, 0);
	struct skcipher_request *request;
	DECLARE_CRYPTO_WAIT(wait);
	struct scatterlist sg;
	int ret;

	if (IS_ERR(tfm))
		return PTR_ERR(tfm);
	ret = crypto_skcipher_setkey(tfm, c->key, sizeof(c->key));
	request = skcipher_request_alloc(tfm, GFP_NOIO);
	if (!request)
		ret = -ENOMEM;
	if (!ret) {
		sg_init_table(&sg, 1);
		sg_set_page(&sg, page, e->unit, 0);
		skcipher_request_set_callback(request, CRYPTO_TFM_REQ_MAY_BACKLOG | CRYPTO_TFM_REQ_MAY_SLEEP,
					      crypto_req_done, &wait);
		skcipher_request_set_crypt(request, &sg, &sg, e->unit, c->iv);
		ret = crypto_wait_req(crypto_skcipher_decrypt(request), &wait);
	}
	skcipher_request_free(request);
	crypto_free_skcipher(tfm);
	return ret;
}

/* 0: e->right says how it came out. */
static int compare_pages(struct dek_inline *e, struct comparison *c, struct page *raw, struct page *through)
{
	int ret = engage(&c->inline_key, e, c->key);

	if (ret)
		return ret;
	ret = read_unit(e, raw, c, false) ?: read_unit(e, through, c, true) ?: decipher(e, raw, c);
	if (!ret)
		e->right = !memcmp(page_address(raw), page_address(through), e->unit);
	blk_crypto_evict_key(e->bdev, &c->inline_key.key);
	return ret;
}

static int compare(struct dek_inline *e)
{
	struct page *raw = alloc_page(GFP_NOIO), *through = alloc_page(GFP_NOIO | __GFP_ZERO);
	struct comparison *c = kzalloc(sizeof(*c), GFP_NOIO);
	int ret = -ENOMEM;

	if (raw && through && c) {
		get_random_bytes(c->key, sizeof(c->key));
		c->dun[0] = get_random_u64();
		c->iv[0] = cpu_to_le64(c->dun[0]);
		ret = compare_pages(e, c, raw, through);
	}
	kfree_sensitive(c);
	if (through)
		__free_page(through);
	if (raw)
		__free_page(raw);
	return ret;
}

enum dek_status dek_inline_ready(struct dek_inline *e, const struct dek_geometry *geometry)
{
	int ret;

	if (!e)
		return DEK_OK;
	if (geometry->tweak_rule == DEK_TWEAK_LBA512 && geometry->data_unit != SECTOR_SIZE)
		return DEK_NOT_CAPABLE; /* the hardware counts data units */
	if (!e->compared) {
		ret = compare(e);
		if (ret)
			return ret == -ENOMEM ? DEK_NO_MEMORY : DEK_INVALID_HW_STATE;
		e->compared = true;
		if (!e->right)
			pr_err("dek: %pg: what inline encryption reads is not XTS-AES; endpoints answer Invalid HW State\n",
			       e->bdev);
	}
	return e->right ? DEK_OK : DEK_INVALID_HW_STATE;
}

/* ---- the data path ---- */

static bool in_whole_units(const struct bio *bio, unsigned int unit)
{
	struct bvec_iter iter;
	struct bio_vec bv;

	bio_for_each_segment(bv, bio, iter)
		if ((bv.bv_offset | bv.bv_len) & (unit - 1))
			return false;
	return true;
}

bool dek_inline_takes(struct dek_io *io, const struct bio *bio, u64 *count)
{
	struct dek_tweak_run run;

	if (in_interrupt() || irqs_disabled()) /* setting the key sleeps */
		return false;
	if (!in_whole_units(bio, io->object->data_unit))
		return false;
	dek_tweak_run(&io->association->geometry, bio->bi_iter.bi_sector, *count, &run);
	/* One that is ours comes back for its rest, and a key that was set on it cannot be taken off. */
	if (io->ours && min(*count, run.count) < bio_sectors(bio))
		return false;
	*count = min(*count, run.count);
	return true;
}

void dek_inline_set(struct dek_io *io, struct bio *bio, const struct dek_inline_key *k)
{
	u64 dun[BLK_CRYPTO_DUN_ARRAY_SIZE] = {};
	struct dek_tweak_run run;

	dek_tweak_run(&io->association->geometry, bio->bi_iter.bi_sector, bio_sectors(bio), &run);
	dun[0] = run.tweak;
	bio_crypt_set_ctx(bio, &k->key, dun, GFP_NOIO);
}

#endif
