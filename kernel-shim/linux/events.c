// SPDX-License-Identifier: GPL-2.0
/* Events by generic netlink: sent without sleeping, fence hits and engine errors at most one a second and endpoint. */
#include <dek/netlink.h>
#include <net/genetlink.h>

#include <linux/module.h>

#include "shim.h"

static atomic64_t sequence = ATOMIC64_INIT(0);

static const struct genl_multicast_group groups[] = {
	{.name = DEK_NL_GROUP, .flags = GENL_MCAST_CAP_NET_ADMIN},
};

static struct genl_family family = {
	.name = DEK_NL_FAMILY,
	.version = DEK_NL_VERSION,
	.maxattr = DEK_NL_A_END - 1,
	.mcgrps = groups,
	.n_mcgrps = ARRAY_SIZE(groups),
	.module = THIS_MODULE,
};

static bool too_many(struct dek_object *o, enum dek_event_type type)
{
	unsigned long now = jiffies, last, *stamp;

	if (type == DEK_EVENT_FENCE_HIT)
		stamp = &o->last_fence_hit;
	else if (type == DEK_EVENT_ENGINE_ERROR)
		stamp = &o->last_engine_error;
	else
		return false;
	last = READ_ONCE(*stamp);
	if (last && time_before(now, last + HZ))
		return true;
	return cmpxchg(stamp, last, now | 1) != last;
}

static u64 generation_of(struct dek_object *o)
{
	struct dek_snapshot *s;
	u64 generation;

	rcu_read_lock();
	s = rcu_dereference(o->snapshot);
	generation = s ? dek_snapshot_generation(s) : 0;
	rcu_read_unlock();
	return generation;
}

static bool put_event(struct sk_buff *skb, struct dek_object *o, enum dek_event_type type, u64 handle, u64 lba, u64 number)
{
	return !nla_put_u64_64bit(skb, DEK_NL_A_SEQUENCE, number, DEK_NL_A_PAD) &&
	       !nla_put_u64_64bit(skb, DEK_NL_A_GENERATION, generation_of(o), DEK_NL_A_PAD) &&
	       !nla_put_u64_64bit(skb, DEK_NL_A_TIME, ktime_get_real_ns(), DEK_NL_A_PAD) &&
	       !nla_put_u32(skb, DEK_NL_A_TYPE, type) && !nla_put(skb, DEK_NL_A_UUID, DEK_UUID_SIZE, o->uuid) &&
	       !nla_put_u64_64bit(skb, DEK_NL_A_HANDLE, handle, DEK_NL_A_PAD) &&
	       !nla_put_u64_64bit(skb, DEK_NL_A_LBA, lba, DEK_NL_A_PAD);
}

void dek_event(struct dek_object *o, enum dek_event_type type, u64 handle, u64 lba)
{
	struct sk_buff *skb;
	void *head;
	u64 number;

	if (too_many(o, type))
		return;
	number = atomic64_inc_return(&sequence); /* a message that cannot be sent leaves a gap */
	skb = genlmsg_new(NLMSG_GOODSIZE, GFP_NOWAIT | __GFP_NOWARN);
	if (!skb)
		return;
	head = genlmsg_put(skb, 0, 0, &family, 0, DEK_NL_EVENT);
	if (!head || !put_event(skb, o, type, handle, lba, number)) {
		nlmsg_free(skb);
		return;
	}
	genlmsg_end(skb, head);
	genlmsg_multicast(&family, skb, 0, 0, GFP_NOWAIT | __GFP_NOWARN);
}

int dek_events_init(void)
{
	return genl_register_family(&family);
}

void dek_events_exit(void)
{
	genl_unregister_family(&family);
}
