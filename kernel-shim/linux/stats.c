// SPDX-License-Identifier: GPL-2.0
/*
 * What an endpoint has done so far: for the ioctl, and for people as /sys/kernel/debug/dek/UUID, a line
 * `name value` each.
 */
#include <linux/debugfs.h>
#include <linux/seq_file.h>

#include "shim.h"

static struct dentry *folder;

static u64 counter(struct dek_object *o, enum dek_counter which)
{
	u64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += per_cpu_ptr(o->counters, cpu)->n[which];
	return sum;
}

void dek_stats_read(struct dek_object *o, struct dek_ioc_stats *s)
{
	s->reads = counter(o, DEK_C_READS);
	s->writes = counter(o, DEK_C_WRITES);
	s->flushes = counter(o, DEK_C_FLUSHES);
	s->read_bytes = counter(o, DEK_C_READ_BYTES);
	s->write_bytes = counter(o, DEK_C_WRITE_BYTES);
	s->encrypted_bytes = counter(o, DEK_C_ENCRYPTED);
	s->decrypted_bytes = counter(o, DEK_C_DECRYPTED);
	s->plain_bytes = counter(o, DEK_C_PLAIN);
	s->fence_hits = counter(o, DEK_C_FENCE_HITS);
	s->refused = counter(o, DEK_C_REFUSED);
	s->waited = counter(o, DEK_C_WAITED);
	s->errors = counter(o, DEK_C_ERRORS);
	s->in_flight = dek_epochs_in_flight(&o->epochs);
	s->restarts = 0;
	s->flushes_unknown = 0;
	s->waiting = atomic64_read(&o->waiters);
}

/* Takes no lock: who removes the file waits until this has returned. */
static int dek_stats_show(struct seq_file *m, void *unused)
{
	struct dek_ioc_stats s;

	dek_stats_read(m->private, &s);
#define line(what) seq_printf(m, #what " %llu\n", s.what)
	line(reads);
	line(writes);
	line(flushes);
	line(read_bytes);
	line(write_bytes);
	line(encrypted_bytes);
	line(decrypted_bytes);
	line(plain_bytes);
	line(fence_hits);
	line(refused);
	line(waited);
	line(errors);
	line(in_flight);
#undef line
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(dek_stats);

/* Nothing depends on debugfs: where it fails there is no file. */
void dek_stats_add(struct dek_object *o)
{
	char name[UUID_STRING_LEN + 1];

	snprintf(name, sizeof(name), "%pUb", o->uuid);
	o->stats = debugfs_create_file(name, 0400, folder, o, &dek_stats_fops);
}

void dek_stats_remove(struct dek_object *o)
{
	debugfs_remove(o->stats);
	o->stats = NULL;
}

void dek_stats_init(void)
{
	folder = debugfs_create_dir("dek", NULL);
}

void dek_stats_exit(void)
{
	debugfs_remove(folder);
}
