// SPDX-License-Identifier: GPL-2.0
/*
 * Who is in flight where, without a lock or a shared cache line: as SRCU does it, but an I/O may end on
 * another CPU and in any context, and each bucket of LBAs has its own pair of epochs.
 */
#include "shim.h"

#if BITS_PER_LONG != 64
#error "a set of buckets is read and written at once"
#endif

int dek_epochs_init(struct dek_epochs *e)
{
	e->cpu = alloc_percpu(struct dek_epoch_cpu);
	if (!e->cpu)
		return -ENOMEM;
	spin_lock_init(&e->lock);
	init_waitqueue_head(&e->changed);
	return 0;
}

void dek_epochs_exit(struct dek_epochs *e)
{
	free_percpu(e->cpu);
}

u64 dek_epochs_buckets(const struct dek_range *range, u32 n)
{
	u64 buckets = 0;
	u32 i;

	for (i = 0; i < n; i++) {
		u64 at = range[i].first >> DEK_BUCKET_SHIFT;
		u64 last = (range[i].first + range[i].count - 1) >> DEK_BUCKET_SHIFT;

		if (last - at >= DEK_BUCKETS - 1)
			return ~0ULL;
		for (; at <= last; at++)
			buckets |= BIT_ULL(at % DEK_BUCKETS);
	}
	return buckets;
}

void dek_epoch_begin_many(struct dek_epochs *e, const struct dek_ticket *t)
{
	unsigned int i;

	this_cpu_add(e->cpu->more, t->buckets - 1);
	for (i = 0; i < t->buckets; i++) {
		unsigned int bucket = (t->bucket + i) % DEK_BUCKETS;

		this_cpu_inc(e->cpu->begun[dek_epoch_slot(t->epochs, bucket)]);
	}
}

void dek_epoch_end_many(struct dek_epochs *e, const struct dek_ticket *t)
{
	unsigned int i;

	for (i = 0; i < t->buckets; i++) {
		unsigned int bucket = (t->bucket + i) % DEK_BUCKETS;

		this_cpu_inc(e->cpu->ended[dek_epoch_slot(t->epochs, bucket)]);
	}
	this_cpu_sub(e->cpu->more, t->buckets - 1);
}

/*
 * Ends are summed before beginnings: an I/O that is seen to end was seen to begin. An I/O that begins
 * between the sums makes them differ, and the caller looks again.
 */
static bool slot_empty(struct dek_epochs *e, u8 slot)
{
	u32 begun = 0, ended = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		ended += READ_ONCE(per_cpu_ptr(e->cpu, cpu)->ended[slot]);
	smp_mb(); /* pairs with dek_epoch_begin() and dek_epoch_end() */
	for_each_possible_cpu(cpu)
		begun += READ_ONCE(per_cpu_ptr(e->cpu, cpu)->begun[slot]);
	return begun == ended;
}

/* *buckets shrinks to those that are not. */
static bool all_empty(struct dek_epochs *e, u64 epochs, u64 *buckets)
{
	unsigned int bucket;

	for (bucket = 0; bucket < DEK_BUCKETS; bucket++) {
		if (*buckets & BIT_ULL(bucket) && slot_empty(e, dek_epoch_slot(epochs, bucket)))
			*buckets &= ~BIT_ULL(bucket);
	}
	return !*buckets;
}

u64 dek_epochs_in_flight(struct dek_epochs *e)
{
	u32 sum = 0;
	unsigned int i;
	int cpu;

	for_each_possible_cpu(cpu) {
		struct dek_epoch_cpu *c = per_cpu_ptr(e->cpu, cpu);

		for (i = 0; i < 2 * DEK_BUCKETS; i++)
			sum -= READ_ONCE(c->ended[i]);
	}
	smp_mb(); /* ends before beginnings, as above */
	for_each_possible_cpu(cpu) {
		struct dek_epoch_cpu *c = per_cpu_ptr(e->cpu, cpu);

		for (i = 0; i < 2 * DEK_BUCKETS; i++)
			sum += READ_ONCE(c->begun[i]);
		sum -= READ_ONCE(c->more);
	}
	return (s32)sum < 0 ? 0 : sum;
}

/*
 * In slices: an end that does not see the sleeper yet wakes nobody, and is noticed at the end of the slice.
 * That spares every I/O a second barrier.
 */
static int wait_until_empty(struct dek_epochs *e, u64 epochs, u64 buckets, unsigned long until)
{
	while (!all_empty(e, epochs, &buckets)) {
		if (time_after_eq(jiffies, until))
			return -ETIMEDOUT;
		if (wait_event_interruptible_timeout(e->changed, all_empty(e, epochs, &buckets), 1) < 0)
			return -EINTR;
	}
	return 0;
}

static bool claim(struct dek_epochs *e, u64 buckets)
{
	bool free;

	spin_lock(&e->lock);
	free = !(e->draining & buckets);
	if (free)
		e->draining |= buckets;
	spin_unlock(&e->lock);
	return free;
}

static void flip(struct dek_epochs *e, u64 buckets)
{
	spin_lock(&e->lock);
	WRITE_ONCE(e->current_epoch, e->current_epoch ^ buckets);
	spin_unlock(&e->lock);
	smp_mb(); /* the flip before the counts */
}

static int drain_claimed(struct dek_epochs *e, u64 buckets, unsigned long until)
{
	u64 old = READ_ONCE(e->current_epoch); /* of our buckets: changed by us alone */
	int ret;

	/* One that read current_epoch before the last flip may have counted itself in the other epoch since. */
	ret = wait_until_empty(e, ~old, buckets, until);
	if (ret)
		return ret;
	flip(e, buckets);
	return wait_until_empty(e, old, buckets, until);
}

int dek_epochs_drain(struct dek_epochs *e, u64 buckets, unsigned long timeout)
{
	unsigned long until = jiffies + timeout;
	long ret;

	atomic_inc(&e->sleepers);
	smp_mb(); /* the snapshot was published, and the sleeper is seen, before the counts are read */
	ret = wait_event_interruptible_timeout(e->changed, claim(e, buckets), timeout);
	if (ret > 0) {
		ret = drain_claimed(e, buckets, until);
		spin_lock(&e->lock);
		e->draining &= ~buckets;
		spin_unlock(&e->lock);
		wake_up_all(&e->changed);
	} else {
		ret = ret ? -EINTR : -ETIMEDOUT;
	}
	atomic_dec(&e->sleepers);
	return ret;
}
