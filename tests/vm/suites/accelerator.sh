# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# An asynchronous driver as engine: cryptd stands in, with a queue of one, so that the backlog is used.
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
for module in aesni_intel crypto_simd cryptd; do modprobe -r $module 2>/dev/null; done # a kernel may load them by itself
check "nobody has loaded cryptd with a longer queue" refused grep -q '^cryptd ' /proc/modules
modprobe cryptd cryptd_max_cpu_qlen=1
modprobe aesni-intel
load 'accel=cryptd(xts(ecb(aes-aesni)))'
modprobe dm-delay
check "the driver is the one asked for" sh -c "vm_endpoint $(uuid_of 0) version | grep -q '^cryptd('"
check "shim_conformance" sh -c "shim_conformance --shim kernel --use-colour no >/tmp/conformance.log 2>&1 || { cut -c1-200 /tmp/conformance.log | head -n 100; false; }"
modprobe brd rd_nr=1 rd_size=65536
dek v 1 65536 /dev/ram0 0 4096
e 1 map 1 0+65536
e 1 associate "$key1" 4096 unit 0 0 0+65536 >/dev/null
check "fio verifies through it" fio --name=v --filename=/dev/mapper/v --rw=randrw --bsrange=4k-256k --bs_unaligned=0 \
    --ioengine=libaio --iodepth=16 --direct=1 --size=32m --verify=crc32c --verify_fatal=1 --loops=2
# All at once, and small: more than the queue has room for.
check "fio verifies with what does not fit in the queue" fio --name=b --filename=/dev/mapper/v --rw=randrw --bs=4k --ioengine=libaio \
    --iodepth=64 --iodepth_batch=64 --iodepth_batch_complete_min=64 --direct=1 --size=8m --offset_increment=8m --numjobs=3 --verify=crc32c \
    --verify_fatal=1
dmsetup create c --table "$(crypt_table 65536 "$key1" 0 /dev/ram0 0 4096 unit)"
check "it is what dm-crypt reads" cmp /dev/mapper/v /dev/mapper/c
dmsetup remove v
dek v 1 65536 /dev/ram0 0 4096
e 1 map 1 0+65536
check "an endpoint can use the CPU instead" e 1 engine cpu
e 1 associate "$key1" 4096 unit 0 0 0+65536 >/dev/null
check "and says so" sh -c "dmsetup status v | grep -q ' xts-aes-[a-z0-9-]*$'"
check "with the same ciphertext" cmp /dev/mapper/v /dev/mapper/c
dmsetup remove c
dmsetup remove v
check "the module goes" rmmod dm_dek
verdict
