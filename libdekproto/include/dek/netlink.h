/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Generic netlink family DEK: events of the kernel shim, to the multicast group `events`, for listeners with
 * CAP_NET_ADMIN. One message an event: command DEK_NL_EVENT with the attributes below. A gap in SEQUENCE means that
 * messages were lost (the listener's buffer, or memory); the state is then to be read by ioctl.
 */
#ifndef DEK_NETLINK_H
#define DEK_NETLINK_H

#define DEK_NL_FAMILY "DEK"
#define DEK_NL_VERSION 1
#define DEK_NL_GROUP "events"

enum dek_nl_command { DEK_NL_UNSPEC = 0, DEK_NL_EVENT = 1 };

enum dek_nl_attribute {
	DEK_NL_A_UNSPEC = 0,
	DEK_NL_A_SEQUENCE = 1,	 /* u64 */
	DEK_NL_A_GENERATION = 2, /* u64, of the endpoint's map */
	DEK_NL_A_TIME = 3,	 /* u64, ns, CLOCK_REALTIME */
	DEK_NL_A_TYPE = 4,	 /* u32, enum dek_event_type */
	DEK_NL_A_UUID = 5,	 /* 16 bytes */
	DEK_NL_A_HANDLE = 6,	 /* u64, association or 0 */
	DEK_NL_A_LBA = 7,	 /* u64, fence hit or 0 */
	DEK_NL_A_PAD = 8,
	DEK_NL_A_END
};

#endif
