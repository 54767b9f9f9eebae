# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Fault injection: allocations of the module fail, and requests of the device beneath: no crash, no leak, no wrong data,
# nothing in the clear.
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
faults=/sys/kernel/debug
load
modprobe brd rd_nr=1 rd_size=65536
modprobe null_blk nr_devices=1 gb=1 memory_backed=1 queue_mode=2 irqmode=1 submit_queues=1 bs=4096

# Only allocations that have the module on their stack fail.
from=$(cat /sys/module/dm_dek/sections/.text)
to=$(printf '0x%x' $((from + $(cat /sys/module/dm_dek/coresize))))
aim() { # PROBABILITY
    local kind
    for kind in failslab fail_page_alloc; do
        echo "$from" >$faults/$kind/require-start
        echo "$to" >$faults/$kind/require-end
        echo 32 >$faults/$kind/stacktrace-depth
        echo -1 >$faults/$kind/times
        echo 0 >$faults/$kind/verbose
        echo N >$faults/$kind/ignore-gfp-wait
        echo "$1" >$faults/$kind/probability
    done
    echo N >$faults/fail_page_alloc/ignore-gfp-highmem
    echo 0 >$faults/fail_page_alloc/min-order
}

# 1. One at a time, each of them
aim 0
check "every allocation of every call fails once" vm_fuzz nth
sed 's/^/    /' /tmp/check.log
check "nothing is left" [ "$(dmsetup ls)" = "No devices found" ]

# 2. Many, under load. What fio writes is a pattern that is looked for on the device.
pattern=0x444b5354 # "TSKD" in memory
start_load() { # SECONDS [FIO ARGS...]
    local seconds=$1
    shift
    fio --name=v --filename=/dev/mapper/v --rw=randrw --bsrange=4k-192k --ioengine=libaio --iodepth=8 --direct=1 \
        --size=24m --time_based --runtime="$seconds" --randseed=7 "$@" >/tmp/fio.log 2>&1 &
    load=$!
}
clear_text() { grep -aqE '(TSKD){8}|(DKST){8}' "$device"; }

for device in /dev/ram0 /dev/nullb0; do
    dd if=/dev/zero of=$device bs=1M count=40 oflag=direct 2>/dev/null
    dek v 1 65536 $device 0 4096
    e 1 map 1 0+57344
    handle=$(e 1 associate "$key1" 4096 unit 0 0 0+49152)
    start_load 15 --verify=crc32c --verify_fatal=1 --verify_backlog=32
    aim 4 # of a hundred: a command makes some ten allocations
    good=0 refused=0
    while kill -0 $load 2>/dev/null; do
        for range in 49152+64 49280+4096; do
            if e 1 update "$handle" "$key1" 4096 unit 0 0 0+49152 $range 2>/dev/null; then good=$((good + 1)); else refused=$((refused + 1)); fi
            token=$(e 1 quiesce 8192+4096 2>/dev/null) && until e 1 release "$token" 2>/dev/null; do :; done
        done
    done
    wait $load
    rc=$?
    aim 0
    [ $rc = 0 ] || cat /tmp/fio.log
    check "$device: fio verifies while allocations fail" [ $rc = 0 ]
    check "$device: commands failed ($refused) and went well ($good)" [ "$refused" -gt 0 -a "$good" -gt 0 ]
    eval "$(e 1 stats)"
    # shellcheck disable=SC2154 # from the statistics
    check "$device: no error, no fence hit, nothing in flight" [ "$errors" = 0 -a "$fence_hits" = 0 -a "$in_flight" = 0 ]

    start_load 10 --rw=randwrite --buffer_pattern=$pattern
    aim 20
    wait $load
    check "$device: writes of a pattern end well" [ $? = 0 ]
    aim 0
    sync
    check "$device: the pattern is read back" sh -c "dd if=/dev/mapper/v bs=1M count=24 iflag=direct 2>/dev/null | grep -aqE '(TSKD){8}|(DKST){8}'"
    check "$device: none of it lies on the device in the clear" refused clear_text
    dmsetup remove v
done

# 3. The device beneath fails requests
device=/dev/ram0
dek v 1 65536 $device 0 4096
e 1 map 1 0+65536
e 1 associate "$key1" 4096 unit 0 0 0+65536 >/dev/null
start_load 10 --rw=randrw --buffer_pattern=$pattern --continue_on_error=all
echo 1 >/sys/block/ram0/make-it-fail
echo 10 >$faults/fail_make_request/probability
echo -1 >$faults/fail_make_request/times
echo 0 >$faults/fail_make_request/verbose
aim 20
wait $load
aim 0
echo 0 >/sys/block/ram0/make-it-fail
check "fio met errors of the device and went on" grep -q 'total_err=\|err=' /tmp/fio.log
eval "$(e 1 stats)"
# shellcheck disable=SC2154
check "they were counted ($errors), nothing is in flight" [ "$errors" -gt 0 -a "$in_flight" = 0 ]
check "none of it lies on the device in the clear" refused clear_text
check "the scan finds a planted one" sh -c "fio --name=p --filename=$device --rw=write --bs=4k --size=4k --direct=1 --buffer_pattern=$pattern >/dev/null && grep -aqE '(TSKD){8}|(DKST){8}' $device"
dmsetup remove v
check "the module goes" rmmod dm_dek
verdict
