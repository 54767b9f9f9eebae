# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# /dev/dek-control and the table's parser, fuzzed with I/O beside them.
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
load
modprobe brd rd_nr=2 rd_size=32768
seed=${SEED:-1}
echo "    seed $seed"
vm_fuzz fuzz "${FUZZ_SECONDS:-60}" "$seed" >/tmp/fuzz.log 2>&1
rc=$?
sed 's/^/    /' /tmp/fuzz.log
check "all of them ran to the end, and each call went well at times" [ $rc = 0 ]
check "nothing is left" [ "$(dmsetup ls)" = "No devices found" ]
check "an endpoint can be made and used after it" sh -c "dmsetup create v --table '0 32768 dek $(uuid_of 1) /dev/ram0 0 4096' &&
    vm_endpoint $(uuid_of 1) map 1 0+32768 && vm_endpoint $(uuid_of 1) associate $key1 4096 unit 0 0 0+32768 &&
    dd if=/t/dm-dek.ko of=/dev/mapper/v bs=4k count=16 conv=sync && cmp -n 65536 /t/dm-dek.ko /dev/mapper/v && dmsetup remove v"
check "the module goes" rmmod dm_dek
verdict
