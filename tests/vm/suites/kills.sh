# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# seconds: 1500
# base: stack
# kcmd is killed: its volumes go on without it, and it finds them again; what it was making is made or is not there.
# once: yes
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
# shellcheck source=tests/vm/stack.sh
. /t/stack.sh
cd /tmp || exit

load
check "kcmd" start_stack --shim kernel
check "keys" make_keys

truncate -s 96M /disk/disk.img
check "an image" d protect /disk/disk.img --name img --key k64

# kcmd is killed; the volume is not.
fio --name=v --filename=/dev/dek/img --rw=randrw --bs=4k --iodepth=8 --direct=1 --ioengine=libaio --size=64M --verify=crc32c \
    --verify_backlog=64 --verify_fatal=1 --runtime=900 --time_based >fio.log 2>&1 &
fio=$!
up() { d --json status img | grep -q '"state": *"up"'; }
for n in 1 2 3; do
    sleep 1
    kill_kcmd
    check "kill $n: I/O goes on without kcmd" kill -0 $fio
    start_kcmd
    answers
    check "kill $n: kcmd finds its volume" eventually up
done
kill -INT $fio # however long the kills took
wait $fio
check "fio wrote and read" grep -q 'READ: .*io=[1-9]' fio.log
check "and found no error" refused grep -E 'err= *[1-9]|verify:' fio.log
check "the image's loop device is the same" shows /disk/disk.img losetup -a

# Killed between suspend and resume; a table that the endpoint refuses beside it.
kill_kcmd
dmsetup suspend dek-img
check "a table that would cut it is loaded" dmsetup reload dek-img --table "$(dmsetup table dek-img | sed 's/^0 [0-9]*/0 65536/')"
check "and refused when it comes live" refused dmsetup resume dek-img
start_kcmd
answers
check "kcmd has it stand up again" eventually shows 'State: *ACTIVE' dmsetup info dek-img
check "with its size" eventually shows '^0 194560 ' dmsetup table dek-img
check "and it reads" dd if=/dev/dek/img of=/dev/null bs=1M count=4 iflag=direct
check "its tail, too" dd if=/dev/dek/img of=/dev/null bs=1M skip=90 count=4 iflag=direct

# The records are gone: found by the header.
kill_kcmd
rm -rf "$run"/volumes
start_kcmd
answers
check "without records kcmd knows it by its header" eventually up
check "and by the image's path" shows '/disk/disk.img' d --json status img
# Killed between create and expose: hidden, the record not complete.
kill_kcmd
uuid=$(dmsetup info -c --noheadings -o uuid dek-img)
dmsetup rename dek-img "dek.new.${uuid#DEK-}"
sed -i 's/"complete": *true/"complete":false/' "$run"/volumes/*
start_kcmd
answers
check "half made: it is made" eventually up
check "under its name" shows '^dek-img' dmsetup ls
check "the link" shows "/$(dmsetup info -c --noheadings -o blkdevname dek-img)\$" readlink -f /dev/dek/img
d detach img

# Killed at every durable call of an attach, and at any time: nothing half made stays.
# shellcheck disable=SC2317
consistent() {
    answers
    sleep 0.3
    if up; then
        dmsetup ls | grep -q '^dek-img' && d detach img || return 1
    fi
    ! dmsetup ls | grep -q dek && ! losetup -a | grep -q disk.img && ! d status img 2>/dev/null
}
kill_kcmd
n=1
while :; do
    kcmd_env="LD_PRELOAD=/bin/libkillpoint.so KILLPOINT_AT=$n KILLPOINT_PREFIX=/run/dekstack/volumes" start_kcmd
    eventually bash -c "! kill -0 $kcmd 2>/dev/null || dekctl --socket /run/bus version"
    d attach /disk/disk.img >/dev/null 2>&1 && break
    wait $kcmd 2>/dev/null
    start_kcmd
    check "killed at call $n" consistent
    kill_kcmd
    n=$((n + 1))
done
check "there were calls to be killed at: $n" [ $n -gt 4 ]
d detach img
for n in 1 2 3 4 5 6 7 8; do
    d attach /disk/disk.img >/dev/null 2>&1 &
    attach=$!
    sleep 0.0$((n * 12 % 100))
    kill_kcmd
    wait $attach
    start_kcmd
    check "killed during an attach, $n" consistent
done

kill_kcmd
umount /disk
check "the module goes when kcmd has" rmmod dm_dek
finish
