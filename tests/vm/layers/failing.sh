# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# seconds: 900
# memory: 3G
# once: 6.1
# The engine of a volume's endpoint fails under a load, and under a mounted file system, and is repaired: dm-crypt takes over by
# itself, the endpoint has it back when it is well, and nobody above sees an error. Every write is recorded and judged.
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
# shellcheck source=tests/vm/stack.sh
. /t/stack.sh
# shellcheck source=tests/vm/recorded.sh
. /t/recorded.sh
cd /tmp || exit
disks 3 768
load rehearsal=1
knob() { echo "$2" >/sys/module/dm_dek/parameters/rehearse_"$1"; }
check "kcmd" start_stack --shim kernel --switch-back 3
check "keys" make_keys
size=196608
dmsetup create disk --table "0 $size linear /dev/ram0 0"
record leg /dev/mapper/disk /dev/ram2
check "protect" d protect /dev/mapper/leg --name v --key k64
mkfs.ext4 -q /dev/dek/v
mount /dev/dek/v /v
put_files
for round in 1 2; do
    begin_load /v/load --size 16384 --fsync 32 --pause 2000 --most 32
    sleep 1
    check "$round: the endpoint encrypts" by v endpoint
    knob failure 1 # the load notices, and waits
    check "$round: dm-crypt takes over" eventually by v software
    check "$round: status says why" shows 'Invalid HW State' d status v
    sleep 1
    check "$round: the load goes on" loaded
    sleep 5
    check "$round: it stays there while that fails" by v software
    check "$round: nobody switches to it" refused d switch v --to endpoint
    knob failure 0
    check "$round: the endpoint has it back" eventually by v endpoint
    sleep 1
    check "$round: nothing was lost, and no error seen" end_load
    load_did
    rm -f load.state /v/load
done
check "the files are as they were" bash -c 'echo 3 >/proc/sys/vm/drop_caches; cd /v && sha256sum -c /tmp/sums'
umount /v
check "fsck" e2fsck -fn /dev/dek/v
d detach v
unrecord leg
check "nothing in the clear was written" vm_scan /dev/ram2 --key k64 --map 2048-$((size - 1))@0 --allow any --text "in the clear"
sed -n 's/^vm_scan/    vm_scan/p' check.log
kill_kcmd
umount /disk
dmsetup remove disk
check "the module goes when kcmd has" rmmod dm_dek
finish
