// SPDX-License-Identifier: GPL-2.0
/*
 * The ideal that dm-dek is measured against: the target `pass DEVICE [cipher]` remaps, and does nothing
 * when the bio comes back; with `cipher` it also runs the cipher over as many units of 4096 bytes as the
 * bio has, all in one and the same page of its own: the work that cannot be saved, and no bookkeeping.
 * One bio at a time: for a single CPU.
 */
#include <crypto/skcipher.h>
#include <linux/device-mapper.h>
#include <linux/module.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>

#define UNIT 4096

static struct crypto_skcipher *tfm;
static struct skcipher_request *request;
static struct scatterlist sg;
static u8 *page, *iv;

struct pass {
	struct dm_dev *dev;
	bool cipher;
};

static int pass_ctr(struct dm_target *ti, unsigned int argc, char **argv)
{
	struct pass *p;
	int ret;

	if (argc != 1 && argc != 2) {
		ti->error = "Need a device";
		return -EINVAL;
	}
	p = kzalloc(sizeof(*p), GFP_KERNEL);
	if (!p)
		return -ENOMEM;
	p->cipher = argc == 2;
	ret = dm_get_device(ti, argv[0], dm_table_get_mode(ti->table), &p->dev);
	if (ret) {
		ti->error = "Cannot open the device";
		kfree(p);
		return ret;
	}
	ti->private = p;
	ti->num_flush_bios = 1;
	ti->per_io_data_size = sizeof(struct bvec_iter);
	return 0;
}

static void run(unsigned int bytes, bool encrypt)
{
	preempt_disable();
	for (; bytes >= UNIT; bytes -= UNIT) {
		skcipher_request_set_crypt(request, &sg, &sg, UNIT, iv);
		if (encrypt ? crypto_skcipher_encrypt(request) : crypto_skcipher_decrypt(request))
			WARN_ON_ONCE(1);
	}
	preempt_enable();
}

static void pass_dtr(struct dm_target *ti)
{
	struct pass *p = ti->private;

	dm_put_device(ti, p->dev);
	kfree(p);
}

static int pass_map(struct dm_target *ti, struct bio *bio)
{
	struct pass *p = ti->private;

	bio_set_dev(bio, p->dev->bdev);
	bio->bi_iter.bi_sector = dm_target_offset(ti, bio->bi_iter.bi_sector);
	*(struct bvec_iter *)dm_per_bio_data(bio, sizeof(struct bvec_iter)) = bio->bi_iter;
	if (p->cipher && bio_op(bio) == REQ_OP_WRITE)
		run(bio->bi_iter.bi_size, true);
	return DM_MAPIO_REMAPPED;
}

static int pass_end_io(struct dm_target *ti, struct bio *bio, blk_status_t *error)
{
	struct bvec_iter *iter = dm_per_bio_data(bio, sizeof(struct bvec_iter));
	struct pass *p = ti->private;

	if (p->cipher && bio_op(bio) == REQ_OP_READ)
		run(iter->bi_size, false);
	return DM_ENDIO_DONE;
}

static int pass_iterate_devices(struct dm_target *ti, iterate_devices_callout_fn fn, void *data)
{
	struct pass *p = ti->private;

	return fn(ti, p->dev, 0, ti->len, data);
}

static struct target_type pass_target = {
	.name = "pass",
	.version = { 1, 0, 0 },
	.module = THIS_MODULE,
	.ctr = pass_ctr,
	.dtr = pass_dtr,
	.map = pass_map,
	.end_io = pass_end_io,
	.iterate_devices = pass_iterate_devices,
};

static void free_cipher(void)
{
	skcipher_request_free(request);
	kfree(iv);
	free_page((unsigned long)page);
	crypto_free_skcipher(tfm);
}

static int make_cipher(void)
{
	static const u8 key[64] = { [0 ... 31] = 1, [32 ... 63] = 2 };

	tfm = crypto_alloc_skcipher("xts(aes)", 0, 0);
	if (IS_ERR(tfm))
		return PTR_ERR(tfm);
	page = (u8 *)get_zeroed_page(GFP_KERNEL);
	iv = kzalloc(16, GFP_KERNEL);
	request = skcipher_request_alloc(tfm, GFP_KERNEL);
	if (!page || !iv || !request || crypto_skcipher_setkey(tfm, key, sizeof(key))) {
		free_cipher();
		return -ENOMEM;
	}
	sg_init_one(&sg, page, UNIT);
	skcipher_request_set_callback(request, 0, NULL, NULL);
	return 0;
}

static int __init measure_init(void)
{
	int ret = make_cipher();

	if (ret)
		return ret;
	ret = dm_register_target(&pass_target);
	if (ret)
		free_cipher();
	return ret;
}

static void __exit measure_exit(void)
{
	dm_unregister_target(&pass_target);
	free_cipher();
}

module_init(measure_init);
module_exit(measure_exit);
MODULE_AUTHOR("The dekstack authors");
MODULE_DESCRIPTION("what dm-dek is measured against");
MODULE_LICENSE("GPL");
