// SPDX-License-Identifier: GPL-2.0
/*
 * Rehearsal mode: the CPU's cipher behaves like a piece of hardware that is full, busy or broken, on command, so that
 * administrators and tests see how the stack takes it. Off unless the module is loaded with rehearsal=1; then
 * /sys/module/dm_dek/parameters has
 *
 *   rehearse_capacity  keys that fit in; one more is answered No Memory. 0: any number
 *   rehearse_busy      so many questions for room are answered Busy (each takes one off)
 *   rehearse_version   endpoints made from now on answer a Handshake with up to this version of the protocol; 0: their own
 *   rehearse_failure   1: broken. Queries and new keys are answered Invalid HW State, encrypted I/O waits or fails. 0: repaired
 */
#include <linux/module.h>

#include "rehearsal.h"

bool dek_rehearsed_failure;

static bool rehearsal;
module_param(rehearsal, bool, 0444);
MODULE_PARM_DESC(rehearsal, "emulate an accelerator that can be made full, busy or broken, on the CPU's cipher");

static unsigned int capacity;
static unsigned int version;
static atomic_t busy = ATOMIC_INIT(0);
static atomic_t keys = ATOMIC_INIT(0);

bool dek_rehearsal(void)
{
	return rehearsal;
}

void dek_rehearsal_key(int by)
{
	atomic_add(by, &keys);
}

enum dek_status dek_rehearsal_ready(void)
{
	unsigned int most = READ_ONCE(capacity);

	if (dek_rehearsal_fails())
		return DEK_INVALID_HW_STATE;
	if (atomic_dec_if_positive(&busy) >= 0)
		return DEK_BUSY;
	if (most && atomic_read(&keys) >= most)
		return DEK_NO_MEMORY;
	return DEK_OK;
}

__u32 dek_rehearsal_version(void)
{
	return READ_ONCE(version);
}

/* A knob: refused where the mode is off, at load as later. */
static int parse(const char *text, unsigned int most, unsigned int *value)
{
	int ret = kstrtouint(text, 0, value);

	if (ret)
		return ret;
	if (!rehearsal)
		return -EPERM;
	return *value > most ? -ERANGE : 0;
}

static int number_set(const char *text, const struct kernel_param *kp)
{
	unsigned int value;
	int ret = parse(text, UINT_MAX, &value);

	if (!ret)
		WRITE_ONCE(*(unsigned int *)kp->arg, value);
	return ret;
}

static int busy_set(const char *text, const struct kernel_param *kp)
{
	unsigned int value;
	int ret = parse(text, INT_MAX, &value);

	if (!ret)
		atomic_set(&busy, value);
	return ret;
}

static int failure_set(const char *text, const struct kernel_param *kp)
{
	unsigned int value;
	int ret = parse(text, 1, &value);

	if (ret)
		return ret;
	WRITE_ONCE(dek_rehearsed_failure, value);
	return 0;
}

static int number_get(char *out, const struct kernel_param *kp)
{
	return sysfs_emit(out, "%u\n", READ_ONCE(*(unsigned int *)kp->arg));
}

static int busy_get(char *out, const struct kernel_param *kp)
{
	return sysfs_emit(out, "%d\n", atomic_read(&busy));
}

static int failure_get(char *out, const struct kernel_param *kp)
{
	return sysfs_emit(out, "%d\n", dek_rehearsal_fails());
}

static const struct kernel_param_ops number_ops = {.set = number_set, .get = number_get};
static const struct kernel_param_ops busy_ops = {.set = busy_set, .get = busy_get};
static const struct kernel_param_ops failure_ops = {.set = failure_set, .get = failure_get};

module_param_cb(rehearse_capacity, &number_ops, &capacity, 0600);
MODULE_PARM_DESC(rehearse_capacity, "rehearsal: how many keys fit in; 0: any number");
module_param_cb(rehearse_busy, &busy_ops, NULL, 0600);
MODULE_PARM_DESC(rehearse_busy, "rehearsal: so many questions for room are answered Busy");
module_param_cb(rehearse_version, &number_ops, &version, 0600);
MODULE_PARM_DESC(rehearse_version, "rehearsal: new endpoints answer a Handshake with up to this version; 0: their own");
module_param_cb(rehearse_failure, &failure_ops, NULL, 0600);
MODULE_PARM_DESC(rehearse_failure, "rehearsal: 1 is broken, 0 repaired");
