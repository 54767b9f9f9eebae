# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The suite of the ioctl interface, the same sources as for the userspace shim.
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
load
modprobe dm-delay
check "shim_conformance" sh -c "shim_conformance --shim kernel --use-colour no >/tmp/conformance.log 2>&1 || { cut -c1-200 /tmp/conformance.log | head -n 100; false; }"
check "nothing is left of it" [ "$(dmsetup ls)" = "No devices found" ]
check "the module goes" rmmod dm_dek
verdict
