// SPDX-License-Identifier: GPL-2.0
/* dm-dek: the kernel shim. Comes up and goes down in steps. */
#include <linux/module.h>

#include "shim.h"

static int __init dek_init(void)
{
	int ret;

	ret = dek_engine_init();
	if (ret)
		return ret;
	ret = dek_pools_init();
	if (ret)
		goto err_engine;
	ret = dek_objects_init();
	if (ret)
		goto err_pools;
	ret = dek_events_init();
	if (ret)
		goto err_objects;
	ret = dek_control_init();
	if (ret)
		goto err_events;
	ret = dek_target_init();
	if (ret)
		goto err_control;
	return 0;

err_control:
	dek_control_exit();
err_events:
	dek_events_exit();
err_objects:
	dek_objects_exit();
err_pools:
	dek_pools_exit();
err_engine:
	dek_engine_exit();
	return ret;
}

static void __exit dek_exit(void)
{
	dek_target_exit();
	dek_control_exit();
	dek_events_exit();
	dek_objects_exit();
	dek_pools_exit();
	dek_engine_exit();
}

module_init(dek_init);
module_exit(dek_exit);
MODULE_AUTHOR("The dekstack authors");
MODULE_DESCRIPTION("device-mapper target `dek`: an encryption endpoint of the DEK management protocol");
MODULE_LICENSE("GPL");
MODULE_SOFTDEP("pre: aesni_intel xts");
