// SPDX-License-Identifier: GPL-2.0
/*
 * The ideal that dm-dek is measured against: the target `pass` (remaps, and has an end_io that does
 * nothing), and what the cipher alone costs on 4096 bytes, read from the parameter `cipher_ns`.
 */
#include <crypto/skcipher.h>
#include <linux/device-mapper.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>

#define UNIT 4096
#define ROUNDS 2000

static unsigned int cipher_ns;
module_param(cipher_ns, uint, 0444);

static int pass_ctr(struct dm_target *ti, unsigned int argc, char **argv)
{
	struct dm_dev *dev;
	int ret;

	if (argc != 1) {
		ti->error = "Need a device";
		return -EINVAL;
	}
	ret = dm_get_device(ti, argv[0], dm_table_get_mode(ti->table), &dev);
	if (ret) {
		ti->error = "Cannot open the device";
		return ret;
	}
	ti->private = dev;
	ti->num_flush_bios = 1;
	ti->per_io_data_size = sizeof(struct bvec_iter);
	return 0;
}

static void pass_dtr(struct dm_target *ti)
{
	dm_put_device(ti, ti->private);
}

static int pass_map(struct dm_target *ti, struct bio *bio)
{
	struct dm_dev *dev = ti->private;

	bio_set_dev(bio, dev->bdev);
	bio->bi_iter.bi_sector = dm_target_offset(ti, bio->bi_iter.bi_sector);
	*(struct bvec_iter *)dm_per_bio_data(bio, sizeof(struct bvec_iter)) = bio->bi_iter;
	return DM_MAPIO_REMAPPED;
}

static int pass_end_io(struct dm_target *ti, struct bio *bio, blk_status_t *error)
{
	return DM_ENDIO_DONE;
}

static int pass_iterate_devices(struct dm_target *ti, iterate_devices_callout_fn fn, void *data)
{
	return fn(ti, ti->private, 0, ti->len, data);
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

static int run(struct skcipher_request *request, struct scatterlist *sg, u8 *iv)
{
	u64 start;
	int i, ret = 0;

	for (i = -100; i < ROUNDS && !ret; i++) {
		if (!i)
			start = ktime_get_ns();
		skcipher_request_set_crypt(request, sg, sg, UNIT, iv);
		ret = crypto_skcipher_encrypt(request);
	}
	cipher_ns = (ktime_get_ns() - start) / ROUNDS;
	return ret;
}

static int measure_cipher(void)
{
	struct crypto_skcipher *tfm = crypto_alloc_skcipher("xts(aes)", 0, 0);
	u8 *buffer = (u8 *)get_zeroed_page(GFP_KERNEL), *key = kmalloc(64 + 16, GFP_KERNEL);
	struct skcipher_request *request = NULL;
	struct scatterlist sg;
	int ret = -ENOMEM;

	if (IS_ERR(tfm)) {
		ret = PTR_ERR(tfm);
		tfm = NULL;
	} else if (buffer && key) {
		request = skcipher_request_alloc(tfm, GFP_KERNEL);
	}
	if (request) {
		memset(key, 1, 32);
		memset(key + 32, 2, 32 + 16);
		sg_init_one(&sg, buffer, UNIT);
		skcipher_request_set_callback(request, 0, NULL, NULL);
		ret = crypto_skcipher_setkey(tfm, key, 64);
		if (!ret)
			ret = run(request, &sg, key + 64);
	}
	skcipher_request_free(request);
	kfree(key);
	free_page((unsigned long)buffer);
	crypto_free_skcipher(tfm);
	return ret;
}

static int __init measure_init(void)
{
	int ret = measure_cipher();

	return ret ? ret : dm_register_target(&pass_target);
}

static void __exit measure_exit(void)
{
	dm_unregister_target(&pass_target);
}

module_init(measure_init);
module_exit(measure_exit);
MODULE_AUTHOR("The dekstack authors");
MODULE_DESCRIPTION("what dm-dek is measured against");
MODULE_LICENSE("GPL");
