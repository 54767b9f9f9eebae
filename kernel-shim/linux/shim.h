/* SPDX-License-Identifier: GPL-2.0 */
/*
 * dm-dek's own structures. An endpoint object is what the core calls an endpoint plus what the kernel
 * needs to serve I/O by it.
 *
 * Locks, outer before inner: dek_registry_lock, object->lock (the command lock), object->waiting_lock.
 * The data path takes none of them but waiting_lock, and only for a bio that has to wait. No lock is held
 * while a command waits for I/O. Whoever has one of the first two allocates without I/O (memalloc_noio): the
 * I/O that would free memory may be waiting for this very command, or for the next that needs the lock.
 */
#ifndef DEK_SHIM_H
#define DEK_SHIM_H

#include <crypto/skcipher.h>
#include <linux/bio.h>
#include <linux/device-mapper.h>
#include <linux/kref.h>
#include <linux/mempool.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/scatterlist.h>
#include <linux/workqueue.h>

#include "endpoint.h"

#undef DM_MSG_PREFIX
#define DM_MSG_PREFIX "dek"

#define DEK_MAX_ASSOCIATIONS 4096u /* per endpoint */
#define DEK_MAX_MAP_RANGES 2000000u

/* ---- in-flight accounting (epoch.c) ---- */

/*
 * LBAs fall into buckets by their 256 KiB: who waits for I/O on a few LBAs waits for that of their
 * buckets only.
 */
#define DEK_BUCKETS 64u
#define DEK_BUCKET_SHIFT 9 /* of an LBA */

struct dek_epoch_cpu {
	u32 begun[2 * DEK_BUCKETS]; /* by dek_epoch_slot() */
	u32 ended[2 * DEK_BUCKETS];
	u32 more; /* what I/O over several buckets is counted in above the first */
};

struct dek_epochs {
	struct dek_epoch_cpu __percpu *cpu;
	u64 current_epoch; /* a bit for each bucket; changed under lock */
	spinlock_t lock;
	u64 draining; /* buckets that somebody drains; lock */
	atomic_t sleepers; /* on `changed`; the data path wakes them only then */
	wait_queue_head_t changed; /* an I/O has ended, or a drain */
};

/* What an I/O is counted in. */
struct dek_ticket {
	u64 epochs; /* of several buckets */
	u8 bucket;  /* the first */
	u8 slot;    /* the first, with its epoch */
	u8 buckets; /* 0: it is counted nowhere */
};

static inline u8 dek_epoch_slot(u64 epochs, unsigned int bucket)
{
	return (epochs >> bucket & 1) * DEK_BUCKETS + bucket;
}

int dek_epochs_init(struct dek_epochs *e);
void dek_epochs_exit(struct dek_epochs *e);
u64 dek_epochs_buckets(const struct dek_range *range, u32 n);
/*
 * Waits for every I/O in these buckets that began before the call. 0, -EINTR (a signal) or -ETIMEDOUT.
 * Any number at a time; those that share a bucket take turns.
 */
int dek_epochs_drain(struct dek_epochs *e, u64 buckets, unsigned long timeout);
u64 dek_epochs_in_flight(struct dek_epochs *e);
void dek_epoch_begin_many(struct dek_epochs *e, const struct dek_ticket *t);
void dek_epoch_end_many(struct dek_epochs *e, const struct dek_ticket *t);

/* Begin before the snapshot is read: a drain that misses this I/O published before it looked. */
static inline void dek_epoch_begin(struct dek_epochs *e, struct dek_ticket *t, u64 lba, u32 count)
{
	u64 first = lba >> DEK_BUCKET_SHIFT, last = (lba + count - 1) >> DEK_BUCKET_SHIFT;

	if (likely(first == last)) {
		t->buckets = 1;
		t->slot = dek_epoch_slot(READ_ONCE(e->current_epoch), first % DEK_BUCKETS);
		this_cpu_inc(e->cpu->begun[t->slot]);
	} else {
		t->epochs = READ_ONCE(e->current_epoch);
		t->bucket = first % DEK_BUCKETS;
		t->buckets = min_t(u64, last - first + 1, DEK_BUCKETS);
		dek_epoch_begin_many(e, t);
	}
	smp_mb(); /* pairs with dek_epochs_drain(): counted before the snapshot is read */
}

static inline void dek_epoch_end(struct dek_epochs *e, struct dek_ticket *t)
{
	smp_mb(); /* the I/O's effects before its end */
	if (likely(t->buckets == 1))
		this_cpu_inc(e->cpu->ended[t->slot]);
	else
		dek_epoch_end_many(e, t);
	t->buckets = 0;
	if (unlikely(atomic_read(&e->sleepers)))
		wake_up_all(&e->changed);
}

/* ---- what a piece of encrypted I/O needs, recycled (pool.c) ---- */

#define DEK_WRITE_PAGES 32 /* a write is cut to this many: 128 KiB */
#define DEK_UNIT_SEGMENTS 8 /* a data unit in 512-byte segments; a more scattered one is refused */

/* The cipher's place in a piece, its request (which follows) and, of a write, the pages it encrypts into. */
struct dek_crypt {
	struct bvec_iter source;
	unsigned int done; /* bytes */
	unsigned int pages; /* in vec */
	struct dek_tweak_run run;
	struct bio_vec *theirs; /* the bio's own vector while ours is in its place */
	__le64 iv[2];
	struct scatterlist in[DEK_UNIT_SEGMENTS];
	struct scatterlist out;
	bool scattered; /* `in` is more than one segment */
	struct bio_vec vec[DEK_WRITE_PAGES];
	u8 request[] CRYPTO_MINALIGN_ATTR; /* struct skcipher_request with its context */
};

/* What is set aside for one endpoint, so that its writes go on when there is no memory. */
struct dek_pool {
	mempool_t crypts;
	mempool_t pages; /* what is always there: two whole writes */
	struct mutex whole; /* who waits for pages waits for a whole write, alone */
};

int dek_pool_init(struct dek_pool *p);
void dek_pool_exit(struct dek_pool *p);
/* What CPUs keep, for all pools. */
int dek_pools_init(void);
void dek_pools_exit(void);
/* With n pages. may_wait: sleeps until there are; NULL only without it. */
struct dek_crypt *dek_pool_get(struct dek_pool *p, unsigned int n, bool may_wait);
void dek_pool_put(struct dek_pool *p, struct dek_crypt *crypt);

/* ---- statistics: per CPU, summed on request ---- */

enum dek_counter {
	DEK_C_READS,
	DEK_C_WRITES,
	DEK_C_FLUSHES,
	DEK_C_READ_BYTES,
	DEK_C_WRITE_BYTES,
	DEK_C_ENCRYPTED,
	DEK_C_DECRYPTED,
	DEK_C_PLAIN,
	DEK_C_FENCE_HITS,
	DEK_C_REFUSED,
	DEK_C_WAITED,
	DEK_C_ERRORS,
	DEK_COUNTERS
};

struct dek_counters {
	u64 n[DEK_COUNTERS];
};

struct dek_object;
/* Fills all but the UUID. */
void dek_stats_read(struct dek_object *o, struct dek_ioc_stats *s);
/* The file for people; under dek_registry_lock. */
void dek_stats_add(struct dek_object *o);
void dek_stats_remove(struct dek_object *o);
void dek_stats_init(void);
void dek_stats_exit(void);

/* ---- the endpoint object (object.c) ---- */

/* What becomes of a bio that has to wait. */
enum dek_patience {
	DEK_WAITS,
	DEK_PUSHED_BACK, /* a suspend that does not flush: device-mapper keeps it */
	DEK_FAILS,	 /* a suspend that flushes has waited long enough */
};

/* A hold whose drain was given up; settle work finishes it. */
struct dek_unfinished {
	u64 hold; /* 0: none */
	u64 buckets;
};

/* One for each hold of the core, and the newest map's. */
#define DEK_UNFINISHED_MAX (DEK_HOLDS_MAX + 1)

struct dek_object {
	struct kref refs; /* tables, and calls under way */
	struct list_head list; /* of the registry, by UUID; dek_registry_lock */
	unsigned int tables;   /* live and inactive ones that name it; dek_registry_lock */
	struct mapped_device *md; /* the one whose tables they are */
	dev_t device;
	u8 uuid[DEK_UUID_SIZE];
	u64 first; /* LBAs of the device under it */
	u32 data_unit;
	u32 logical_block;

	struct mutex lock; /* the command lock */
	unsigned int noio; /* of whoever has it */
	struct dek_endpoint *core;
	struct dek_change change; /* scratch of commands; lock */
	struct dek_unfinished unfinished[DEK_UNFINISHED_MAX]; /* lock */

	struct dek_snapshot __rcu *snapshot;
	struct dek_epochs epochs;
	struct dek_pool pool;
	struct dek_counters __percpu *counters;
	struct dentry *stats; /* dek_registry_lock */
	struct dek_inline *in_line; /* the inline engine of the device, or NULL */

	spinlock_t waiting_lock;
	struct bio_list waiting; /* bios that are to be looked up again */
	atomic64_t waiters; /* those that wait, the ones that are being tried again included */
	enum dek_patience patience; /* waiting_lock */
	u64 publications; /* waiting_lock: a bio looked up before one must not wait after it */
	struct delayed_work kick; /* looks the waiting ones up again */
	struct delayed_work give_up; /* a suspend has waited long enough for those that wait */
	/*
	 * Two, because a worker that sleeps for the pool waits for writes to end, and a write whose cipher is
	 * asynchronous ends only with the help of another. Its own, because the device beneath may be made
	 * of another endpoint, whose work would wait behind this one's.
	 */
	struct workqueue_struct *pool_queue;
	struct workqueue_struct *crypt_queue;
	struct delayed_work settle;
	unsigned long last_fence_hit; /* jiffies of the last event of this kind */
	unsigned long last_engine_error;
};

#define dek_count(object, counter, by) this_cpu_add((object)->counters->n[counter], by)

extern struct mutex dek_registry_lock;
extern struct list_head dek_registry;

/* What a table says of its endpoint. */
struct dek_place {
	u8 uuid[DEK_UUID_SIZE];
	struct mapped_device *md;
	dev_t device;
	u64 first;
	u64 count;
	u32 data_unit;
	u32 logical_block;
	u32 cut; /* bytes: I/O may be cut at multiples of it */
	enum dek_fence fence; /* of an endpoint that is made now */
	bool no_engine;	      /* likewise */
};

int dek_objects_init(void);
void dek_objects_exit(void);
/*
 * The object of this UUID, made if there is none, with one more table on it. ERR_PTR(-EBUSY): it lives under
 * another mapped device; (-EINVAL): with another device, offset or unit beneath.
 */
struct dek_object *dek_object_get(const struct dek_place *place);
/* One table less. */
void dek_object_put(struct dek_object *o);
/* For a call: the object with its command lock, or ERR_PTR(-ENOENT or -EINTR). Unlock lets go of both. */
struct dek_object *dek_object_lock(const u8 *uuid);
void dek_object_unlock(struct dek_object *o);
/* The command lock alone, of an object that the caller holds otherwise. */
void dek_command_lock(struct dek_object *o);
void dek_command_unlock(struct dek_object *o);
u64 dek_life(void);

enum dek_wait { DEK_WAIT_COMMAND, DEK_WAIT_MAP, DEK_WAIT_QUIESCE };

/*
 * With the command lock: makes o->change visible and, with the lock let go, waits for the I/O that began
 * before, as endpoint.h says. `ret` from the core is passed through. `block` (may be NULL) is answered.
 * 0, -EAGAIN (given up by time) or -EINTR.
 */
int dek_object_finish(struct dek_object *o, int ret, enum dek_wait what, u8 *block, unsigned long timeout);

/* ---- the target (target.c) ---- */

struct dek_target {
	struct dek_object *object;
	struct dm_dev *dev;
	enum dek_fence fence; /* as the table says; used when the endpoint is made */
	bool no_engine; /* likewise */
	bool allow_discards;
	u32 block_size; /* of the volume, bytes; 0: the larger of data unit and the device's */
};

int dek_target_init(void);
void dek_target_exit(void);

/* ---- the data path (io.c, waiting.c) ---- */

enum dek_stage {
	DEK_STAGE_LOOKUP, /* has waited, or has another piece to do */
	DEK_STAGE_POOL,	  /* found nothing in the pool at once */
	DEK_STAGE_CRYPT,  /* data units left for the cipher */
	DEK_STAGE_PASS,	  /* below; nothing to do when it comes back */
	DEK_STAGE_READ,	  /* below; to be decrypted */
	DEK_STAGE_WRITE,  /* below, in pages of ours */
	DEK_STAGE_FAILED, /* by the cipher */
	DEK_STAGE_ENDED,  /* all done, status in the bio */
	DEK_STAGE_PUSHBACK, /* to be given back to device-mapper */
};

enum dek_waits {
	DEK_NEVER_WAITED,
	DEK_WAITS_NOW,
	DEK_WAITED,
};

/* Per bio, in device-mapper's front pad: small, because every bio's is wiped when it is allocated. */
struct dek_io {
	struct dek_object *object;
	struct dm_target *ti;
	struct dek_association *association;
	struct dek_crypt *crypt;
	struct dek_ticket ticket;
	struct bvec_iter piece; /* the piece under way; its sector is the device's */
	unsigned int rest;	/* bytes behind it: a bio that had waited may need several */
	u8 stage;
	bool write;
	bool ours; /* device-mapper was told that the target submits it */
	u8 waits; /* enum dek_waits */
	u32 failing; /* jiffies since when its engine has failed; 0: it has not */
	struct work_struct work;
};

/* Work of an object. Close tolerates one that was never opened; no I/O is left. */
int dek_io_open(struct dek_object *o);
void dek_io_close(struct dek_object *o);
int dek_io_map(struct dm_target *ti, struct bio *bio);
int dek_io_end(struct dm_target *ti, struct bio *bio, blk_status_t *error);
/*
 * Before a suspend. Without flush, what waits is pushed back. With it, the suspend waits for it, and for what a
 * file system writes to be frozen: it goes on when its keys come or its range is released, and fails when that
 * takes longer than the module's parameter suspend_patience.
 */
void dek_io_suspend(struct dek_object *o, bool noflush);
void dek_io_may_wait(struct dek_object *o);
/* After a publication, or for a new engine: those that wait are looked up again. */
void dek_io_published(struct dek_object *o);
/*
 * For a bio that is to wait, looked up when `publications` was `seen`. It lets go of what it held, and the caller must
 * not touch it any more.
 */
void dek_io_wait(struct dek_io *io, struct bio *bio, u64 seen);
/* It waits no more: it has been submitted or is over. */
void dek_io_settled(struct dek_io *io);
/*
 * In a worker: the engine has failed this piece. It is answered as at a fence, but with patience: with fence:transport
 * an error at once, with fence:eio one when the engine has failed it for the module's parameter engine_patience. Until
 * then, and with fence:hold, it begins anew.
 */
void dek_io_engine_failed(struct dek_io *io, struct bio *bio);
/* Of a bio that is ours. */
void dek_io_look_up_again(struct bio *bio);
/* The piece is over, or begins anew: what it held. */
void dek_io_let_go(struct dek_io *io, struct bio *bio);
/* Ends a bio that is ours. */
void dek_io_finish(struct dek_io *io, struct bio *bio, enum dek_stage stage, blk_status_t status);
/* Goes on with it in a worker. */
void dek_io_defer(struct dek_io *io, enum dek_stage stage);
struct bio *dek_io_bio(struct dek_io *io);
struct dek_io *dek_io_of(struct bio *bio);

/* ---- the cipher on a piece (crypt.c) ---- */

void dek_crypt_begin(struct dek_io *io);
/*
 * 0: the whole piece is done. -EINPROGRESS: it goes on by itself, the caller must not touch the bio any more.
 * -E2BIG: a data unit is scattered over too much memory; no engine would do. Or what the engine failed with.
 * may_sleep: others get their turn between data units.
 */
int dek_crypt_units(struct dek_io *io, struct bio *bio, bool may_sleep);

/* ---- the engine (engine.c) ---- */

extern const struct dek_engine_ops dek_engine_ops;
int dek_engine_init(void);
void dek_engine_exit(void);
const char *dek_engine_driver(u32 engine);
u32 dek_engine_kind(void); /* DEK_ENGINE_* */
u32 dek_engine_best(const struct dek_object *o); /* the one an endpoint uses unless it is told otherwise */
unsigned int dek_engine_request_size(void); /* of a cipher request with its context, whichever engine's */

/* A prepared key: association->engine. */
struct dek_key {
	struct crypto_skcipher *tfm;
	struct dek_inline_key *in_line; /* or NULL */
	bool rehearsed; /* fails where a failure is rehearsed (rehearsal.c) */
	struct work_struct free; /* the last holder may be in softirq; a transform is freed where one may sleep */
};

static inline struct crypto_skcipher *dek_engine_cipher(const struct dek_association *a)
{
	return ((struct dek_key *)a->engine)->tfm;
}

static inline bool dek_engine_rehearsed(const struct dek_association *a)
{
	return ((struct dek_key *)a->engine)->rehearsed;
}

/* ---- the outside (control.c, events.c, kek.c) ---- */

int dek_control_init(void);
void dek_control_exit(void);
int dek_events_init(void);
void dek_events_exit(void);
/* Never sleeps; may be called from the data path. */
void dek_event(struct dek_object *o, enum dek_event_type type, u64 handle, u64 lba);
enum dek_status dek_key_resolve(void *shim, const struct dek_command *cmd, u8 key[DEK_KEY_DATA_SIZE], u8 *key_length);

#endif
