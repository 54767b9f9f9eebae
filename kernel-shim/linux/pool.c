// SPDX-License-Identifier: GPL-2.0
/*
 * Cipher requests, and the pages that ciphertext is written from. Each CPU keeps some that came back,
 * because a fresh one costs a trip through the allocator, and with init_on_alloc a memset of what is
 * overwritten a moment later. What CPUs keep serves all endpoints: there may be a thousand. Behind it are
 * mempools, one for each endpoint, so that writes go on when there is no memory.
 */
#include <linux/percpu.h>

#include "shim.h"

#define DEK_KEPT_CRYPTS 64
#define DEK_KEPT_PAGES 256

struct dek_pool_cpu {
	struct dek_crypt *spare; /* without pages: taken and put without turning interrupts off */
	unsigned int crypts;
	unsigned int pages;
	struct dek_crypt *crypt[DEK_KEPT_CRYPTS];
	struct page *page[DEK_KEPT_PAGES];
};

static struct dek_pool_cpu __percpu *kept_here;

int dek_pool_init(struct dek_pool *p)
{
	mutex_init(&p->whole);
	if (mempool_init_kmalloc_pool(&p->crypts, 4, sizeof(struct dek_crypt) + dek_engine_request_size()))
		return -ENOMEM;
	return mempool_init_page_pool(&p->pages, 2 * DEK_WRITE_PAGES, 0);
}

/* Tolerates one that was never initialised, or half. */
void dek_pool_exit(struct dek_pool *p)
{
	mempool_exit(&p->crypts);
	mempool_exit(&p->pages);
}

int dek_pools_init(void)
{
	kept_here = alloc_percpu(struct dek_pool_cpu);
	return kept_here ? 0 : -ENOMEM;
}

void dek_pools_exit(void)
{
	int cpu;

	for_each_possible_cpu(cpu) {
		struct dek_pool_cpu *kept = per_cpu_ptr(kept_here, cpu);

		kfree(kept->spare);
		while (kept->crypts)
			kfree(kept->crypt[--kept->crypts]);
		while (kept->pages)
			__free_page(kept->page[--kept->pages]);
	}
	free_percpu(kept_here);
}

/* The mempools' reserve comes first: somebody may be waiting for it. */
void dek_pool_put(struct dek_pool *p, struct dek_crypt *crypt)
{
	unsigned int n = crypt->pages;
	struct dek_pool_cpu *kept;
	unsigned long flags;

	if (!n && likely(READ_ONCE(p->crypts.curr_nr) >= p->crypts.min_nr) &&
	    !this_cpu_cmpxchg(kept_here->spare, NULL, crypt))
		return;
	local_irq_save(flags);
	kept = this_cpu_ptr(kept_here);
	while (n && READ_ONCE(p->pages.curr_nr) >= p->pages.min_nr && kept->pages < DEK_KEPT_PAGES)
		kept->page[kept->pages++] = crypt->vec[--n].bv_page;
	if (likely(!n && READ_ONCE(p->crypts.curr_nr) >= p->crypts.min_nr && kept->crypts < DEK_KEPT_CRYPTS)) {
		kept->crypt[kept->crypts++] = crypt;
		crypt = NULL;
	}
	local_irq_restore(flags);
	if (likely(!crypt))
		return;
	while (n)
		mempool_free(crypt->vec[--n].bv_page, &p->pages);
	mempool_free(crypt, &p->crypts);
}

static struct dek_crypt *fresh(struct dek_pool *p, gfp_t gfp)
{
	struct dek_crypt *crypt = mempool_alloc(&p->crypts, gfp);

	if (!crypt)
		return NULL;
	crypt->pages = 0;
	crypt->scattered = false;
	sg_init_table(crypt->in, 1);
	sg_init_table(&crypt->out, 1);
	return crypt;
}

/* Two writes that each hold a part of the pool would wait for each other: one at a time. */
static struct dek_crypt *wait_for_all(struct dek_pool *p, unsigned int n)
{
	struct dek_crypt *crypt;

	mutex_lock(&p->whole);
	crypt = fresh(p, GFP_NOIO);
	for (crypt->pages = 0; crypt->pages < n; crypt->pages++)
		crypt->vec[crypt->pages].bv_page = mempool_alloc(&p->pages, GFP_NOIO);
	mutex_unlock(&p->whole);
	return crypt;
}

/* This CPU had not enough: the rest from the allocator or the reserve. */
static struct dek_crypt *fill_up(struct dek_pool *p, struct dek_crypt *crypt, unsigned int n, bool may_wait)
{
	const gfp_t gfp = GFP_NOWAIT | __GFP_NOWARN | __GFP_NOMEMALLOC;

	if (!crypt)
		crypt = fresh(p, gfp);
	while (crypt && crypt->pages < n) {
		struct page *page = mempool_alloc(&p->pages, gfp);

		if (!page)
			break;
		crypt->vec[crypt->pages++].bv_page = page;
	}
	if (crypt && crypt->pages == n)
		return crypt;
	if (crypt)
		dek_pool_put(p, crypt);
	return may_wait ? wait_for_all(p, n) : NULL;
}

struct dek_crypt *dek_pool_get(struct dek_pool *p, unsigned int n, bool may_wait)
{
	struct dek_crypt *crypt = NULL;
	struct dek_pool_cpu *kept;
	unsigned long flags;
	unsigned int got = 0;

	if (!n) {
		crypt = this_cpu_xchg(kept_here->spare, NULL);
		if (likely(crypt)) /* its pages: 0 */
			return crypt;
	}
	local_irq_save(flags);
	kept = this_cpu_ptr(kept_here);
	if (likely(kept->crypts)) {
		crypt = kept->crypt[--kept->crypts];
		while (got < n && kept->pages)
			crypt->vec[got++].bv_page = kept->page[--kept->pages];
		crypt->pages = got;
	}
	local_irq_restore(flags);
	if (likely(crypt && got == n))
		return crypt;
	return fill_up(p, crypt, n, may_wait);
}
