// SPDX-License-Identifier: GPL-2.0
/*
 * The cipher: xts(aes) of the kernel's crypto API, one transform for each association. With an accelerator there are two
 * ciphers: an endpoint whose accelerator fails can be told to use the CPU (DEK_IOC_ENGINE).
 *
 * CRYPTO_ALG_ASYNC is not masked: the AES-NI driver is an asynchronous wrapper, and masking it would select
 * a slow generic one without a word.
 */
#include <linux/kmod.h>
#include <linux/module.h>
#include <linux/random.h>

#include "inline.h"
#include "rehearsal.h"

static char *accel;
module_param(accel, charp, 0444);
MODULE_PARM_DESC(accel, "crypto API name of an accelerator's XTS-AES, to be used instead of the CPU's");

static struct workqueue_struct *free_queue;

struct cipher {
	const char *name;
	struct crypto_skcipher *probe; /* keeps the driver, and tells its name and request size */
	bool passed; /* the known answers */
};

static struct cipher cpu = {.name = "xts(aes)"}, accelerator;

static struct cipher *cipher_of(u32 engine)
{
	return accel && engine != DEK_ENGINE_CPU ? &accelerator : &cpu;
}

u32 dek_engine_kind(void)
{
	return accel || dek_rehearsal() ? DEK_ENGINE_ACCEL : DEK_ENGINE_CPU;
}

u32 dek_engine_best(const struct dek_object *o)
{
	return o->in_line ? DEK_ENGINE_INLINE : dek_engine_kind();
}

/* The inline engine, if it is the one in use. */
static struct dek_inline *inline_in_use(const struct dek_object *o)
{
	return dek_endpoint_engine(o->core) == DEK_ENGINE_INLINE ? o->in_line : NULL;
}

#ifdef DEK_INLINE
struct dek_inline_key *dek_engine_inline(const struct dek_association *a)
{
	return ((struct dek_key *)a->engine)->in_line;
}
#endif

unsigned int dek_engine_request_size(void)
{
	unsigned int size = crypto_skcipher_reqsize(cpu.probe);

	if (accel)
		size = max(size, crypto_skcipher_reqsize(accelerator.probe));
	return sizeof(struct skcipher_request) + size;
}

const char *dek_engine_driver(u32 engine)
{
	if (dek_rehearsal() && engine != DEK_ENGINE_CPU)
		return "rehearsal";
	return crypto_skcipher_driver_name(cipher_of(engine)->probe);
}

static void free_key(struct work_struct *work)
{
	struct dek_key *key = container_of(work, struct dek_key, free);

	dek_inline_key_free(key->in_line);
	crypto_free_skcipher(key->tfm);
	kfree(key);
}

static enum dek_status set_up(const struct dek_object *o, const struct dek_association *a, struct dek_key *key)
{
	int ret = crypto_skcipher_setkey(key->tfm, a->key, a->key_length);

	if (ret)
		return ret == -EINVAL ? DEK_INVALID_KEY : ret == -ENOMEM ? DEK_NO_MEMORY : DEK_INVALID_HW_STATE;
	return dek_inline_key_make(inline_in_use(o), a, &key->in_line);
}

static enum dek_status key_set(void *shim, struct dek_association *a)
{
	const u32 engine = dek_endpoint_engine(((struct dek_object *)shim)->core);
	struct dek_key *key = kzalloc(sizeof(*key), GFP_KERNEL);
	enum dek_status status;
	int ret;

	if (!key)
		return DEK_NO_MEMORY;
	INIT_WORK(&key->free, free_key);
	key->tfm = crypto_alloc_skcipher(cipher_of(engine)->name, 0, 0);
	if (IS_ERR(key->tfm)) {
		ret = PTR_ERR(key->tfm);
		kfree(key);
		return ret == -ENOMEM ? DEK_NO_MEMORY : DEK_INVALID_HW_STATE;
	}
	if (crypto_skcipher_reqsize(key->tfm) > dek_engine_request_size() - sizeof(struct skcipher_request)) {
		free_key(&key->free);
		return DEK_INVALID_HW_STATE;
	}
	status = set_up(shim, a, key);
	if (status != DEK_OK) {
		free_key(&key->free);
		return status;
	}
	key->rehearsed = engine != DEK_ENGINE_CPU;
	if (key->rehearsed)
		dek_rehearsal_key(1);
	a->engine = key;
	return DEK_OK;
}

static void key_drop(void *shim, struct dek_association *a)
{
	struct dek_key *key = a->engine;

	if (!key)
		return;
	if (key->rehearsed)
		dek_rehearsal_key(-1);
	queue_work(free_queue, &key->free);
}

static enum dek_status ready(void *shim, const struct dek_geometry *geometry)
{
	struct dek_object *o = shim;
	const u32 engine = dek_endpoint_engine(o->core);
	enum dek_status status;

	if (!cipher_of(engine)->passed)
		return DEK_INVALID_HW_STATE;
	status = engine == DEK_ENGINE_CPU ? DEK_OK : dek_rehearsal_ready();
	return status == DEK_OK ? dek_inline_ready(inline_in_use(o), geometry) : status;
}

static void random_bytes(void *shim, void *out, size_t n)
{
	get_random_bytes(out, n);
}

const struct dek_engine_ops dek_engine_ops = {
	.key_set = key_set,
	.key_drop = key_drop,
	.key_resolve = dek_key_resolve,
	.ready = ready,
	.random = random_bytes,
};

/* A key, a tweak, 32 bytes each way. */
struct known_answer {
	u8 key[32];
	u8 tweak[16];
	u8 plain[32];
	u8 cipher[32];
};

/* IEEE 1619-2007, Annex B, vector 2. */
static const struct known_answer answer = {
	.key = {0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11,
		0x22, 0x22, 0x22, 0x22, 0x22, 0x22, 0x22, 0x22, 0x22, 0x22, 0x22, 0x22, 0x22, 0x22, 0x22, 0x22},
	.tweak = {0x33, 0x33, 0x33, 0x33, 0x33},
	.plain = {0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44,
		  0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44},
	.cipher = {0xc4, 0x54, 0x18, 0x5e, 0x6a, 0x16, 0x93, 0x6e, 0x39, 0x33, 0x40, 0x38, 0xac, 0xef, 0x83, 0x8b,
		   0xfb, 0x18, 0x6f, 0xff, 0x74, 0x80, 0xad, 0xc4, 0x28, 0x93, 0x82, 0xec, 0xd6, 0xd3, 0x94, 0xf0},
};

/* IEEE 1619-2007, Annex B, vector 10: AES-256, data unit 0xff, 512 bytes 0, 1, ... 255, 0, ... */
static const u8 unit_key[64] = {
	0x27, 0x18, 0x28, 0x18, 0x28, 0x45, 0x90, 0x45, 0x23, 0x53, 0x60, 0x28, 0x74, 0x71, 0x35, 0x26,
	0x62, 0x49, 0x77, 0x57, 0x24, 0x70, 0x93, 0x69, 0x99, 0x59, 0x57, 0x49, 0x66, 0x96, 0x76, 0x27,
	0x31, 0x41, 0x59, 0x26, 0x53, 0x58, 0x97, 0x93, 0x23, 0x84, 0x62, 0x64, 0x33, 0x83, 0x27, 0x95,
	0x02, 0x88, 0x41, 0x97, 0x16, 0x93, 0x99, 0x37, 0x51, 0x05, 0x82, 0x09, 0x74, 0x94, 0x45, 0x92};
#define UNIT_SIZE 512
#define UNIT_CRC32C 0x34f3be6d /* of the ciphertext */

struct trial {
	struct skcipher_request *request;
	u8 in[UNIT_SIZE], out[UNIT_SIZE];
	u8 iv[16];
};

static int run(struct trial *t, u8 *in, u8 *out, unsigned int size, bool encrypt)
{
	struct scatterlist source, target;
	DECLARE_CRYPTO_WAIT(wait);

	sg_init_one(&source, in, size);
	sg_init_one(&target, out, size);
	skcipher_request_set_callback(t->request, CRYPTO_TFM_REQ_MAY_BACKLOG | CRYPTO_TFM_REQ_MAY_SLEEP, crypto_req_done,
				      &wait);
	skcipher_request_set_crypt(t->request, &source, in == out ? &source : &target, size, t->iv);
	return crypto_wait_req(encrypt ? crypto_skcipher_encrypt(t->request) : crypto_skcipher_decrypt(t->request),
			       &wait);
}

static bool answers(struct trial *t, const u8 *in, const u8 *out, bool encrypt)
{
	memcpy(t->in, in, sizeof(answer.plain));
	memcpy(t->iv, answer.tweak, sizeof(t->iv));
	return !run(t, t->in, t->in, sizeof(answer.plain), encrypt) && !memcmp(t->in, out, sizeof(answer.plain));
}

static void count_up(u8 *p)
{
	unsigned int i;

	for (i = 0; i < UNIT_SIZE; i++)
		p[i] = i;
}

static void unit_tweak(struct trial *t)
{
	memset(t->iv, 0, sizeof(t->iv));
	t->iv[0] = 0xff;
}

/* As the data path does it: writes into other memory, reads in place. */
static bool answers_unit(struct trial *t)
{
	count_up(t->in);
	unit_tweak(t);
	if (run(t, t->in, t->out, UNIT_SIZE, true) || dek_crc32c(t->out, UNIT_SIZE) != UNIT_CRC32C)
		return false;
	unit_tweak(t);
	if (run(t, t->out, t->out, UNIT_SIZE, false))
		return false;
	count_up(t->in);
	return !memcmp(t->in, t->out, UNIT_SIZE);
}

static int known_answers(struct cipher *c)
{
	struct crypto_skcipher *probe = c->probe;
	struct trial *t = kzalloc(sizeof(*t), GFP_KERNEL);
	int ret;

	if (!t)
		return -ENOMEM;
	t->request = skcipher_request_alloc(probe, GFP_KERNEL);
	ret = t->request ? crypto_skcipher_setkey(probe, answer.key, sizeof(answer.key)) : -ENOMEM;
	if (!ret)
		c->passed = answers(t, answer.plain, answer.cipher, true) && answers(t, answer.cipher, answer.plain, false);
	if (!ret && c->passed)
		ret = crypto_skcipher_setkey(probe, unit_key, sizeof(unit_key));
	if (!ret && c->passed)
		c->passed = answers_unit(t);
	skcipher_request_free(t->request);
	kfree(t);
	return ret;
}

static int cipher_open(struct cipher *c)
{
	struct crypto_skcipher *probe = crypto_alloc_skcipher(c->name, 0, 0);
	int ret;

	if (IS_ERR(probe)) {
		pr_err("dek: no cipher %s: %ld\n", c->name, PTR_ERR(probe));
		return PTR_ERR(probe);
	}
	c->probe = probe;
	ret = known_answers(c);
	if (!ret && !c->passed)
		pr_err("dek: %s fails its known answers; endpoints answer Invalid HW State\n",
		       crypto_skcipher_driver_name(probe));
	return ret;
}

int dek_engine_init(void)
{
	int ret;

	free_queue = alloc_workqueue("dek_free", WQ_UNBOUND, 0);
	if (!free_queue)
		return -ENOMEM;
	crypto_has_alg("gcm(aes)", 0, 0); /* for wrapped keys: a module that is loaded under a command might wait for it */
	request_module("crypto-aes"); /* the CPU's own; xts(aes) alone finds the generic one */
	accelerator.name = accel;
	ret = cipher_open(&cpu);
	if (!ret && accel)
		ret = cipher_open(&accelerator);
	if (ret) {
		dek_engine_exit();
		return ret;
	}
	if (IS_ENABLED(DEK_MEASURE_NULL_CIPHER)) {
		pr_alert("dek: built for benchmarks: NOTHING IS ENCRYPTED\n");
		add_taint(TAINT_CRAP, LOCKDEP_STILL_OK);
	}
	return 0;
}

void dek_engine_exit(void)
{
	destroy_workqueue(free_queue);
	crypto_free_skcipher(accelerator.probe); /* NULL is fine */
	crypto_free_skcipher(cpu.probe);
}
