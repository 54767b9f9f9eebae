# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Under fio verify: map updates, holds, suspend and resume, reloads; with brd, and with null_blk in softirq.
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
load
modprobe brd rd_nr=1 rd_size=131072
modprobe null_blk nr_devices=1 gb=1 memory_backed=1 queue_mode=2 irqmode=1 submit_queues=1 bs=4096 || modprobe null_blk
seconds=${SECONDS_OF_LOAD:-6}
reloads=${RELOADS:-200}

start_load() {
    fio --name=v --filename=/dev/mapper/v --rw=randwrite --bsrange=4k-192k --ioengine=libaio --iodepth=8 --direct=1 \
        --size=64m --verify=crc32c --verify_fatal=1 --verify_backlog=64 --time_based --runtime="$1" \
        --randseed=7 >/tmp/fio.log 2>&1 &
    load=$!
}
end_load() { wait $load || { cat /tmp/fio.log; false; }; }

for device in /dev/ram0 /dev/nullb0; do
    table="0 204800 dek $(uuid_of 1) $device 0 4096"
    dmsetup create v --table "$table"
    e 1 map 1 0+131072 180000+64 180128+64
    handle=$(e 1 associate "$key1" 4096 unit 0 0 0+131072 180000+64)
    start_load "$seconds"
    check "$device: updates and holds under load" e 1 storm "$((seconds - 1))" "$handle" "$key1" 4096 unit 0 0 0+131072 180000+64 180128+64
    check "$device: fio verifies" end_load
    eval "$(e 1 stats)"
    # shellcheck disable=SC2154 # they come from the statistics
    # where a request takes as long as the whole storm, it may not meet a hold
    check "$device: bios waited, none hit a fence, none failed, none is left" \
        [ \( "$waited" -gt 0 -o -n "${SECONDS_OF_LOAD:-}" \) -a "$fence_hits" = 0 -a "$refused" = 0 -a "$errors" = 0 -a "$in_flight" = 0 ]

    start_load "$seconds"
    suspend_some() {
        for _ in $(seq 20); do
            dmsetup suspend v && dmsetup resume v && dmsetup suspend --noflush --nolockfs v && dmsetup resume v || return 1
        done
    }
    check "$device: suspend and resume" suspend_some
    token=$(e 1 quiesce 0+131072)
    sleep 1
    check "$device: what waits for a hold is pushed back by a noflush suspend" dmsetup suspend --noflush --nolockfs v
    e 1 release "$token"
    dmsetup resume v
    check "$device: fio verifies" end_load

    start_load 120
    reload_some() {
        for _ in $(seq "$reloads"); do
            dmsetup reload v --table "$table" && dmsetup suspend --noflush --nolockfs v && dmsetup resume v || return 1
        done
    }
    check "$device: $reloads reloads" reload_some
    kill -INT $load
    wait $load
    check "$device: fio found no error" refused grep -E 'err= *[1-9]|verify:' /tmp/fio.log
    eval "$(e 1 stats)"
    check "$device: no fence hit, no error" [ "$fence_hits" = 0 -a "$errors" = 0 ]
    check "$device: the association is still there" sh -c "vm_endpoint $(uuid_of 1) list | grep -q 'associations 1'"
    dmsetup create c --table "$(crypt_table 131072 "$key1" 0 $device 0 4096 unit)"
    check "$device: all of it is what dm-crypt reads" cmp -n 67108864 /dev/mapper/v /dev/mapper/c
    dmsetup remove c
    check "$device: removed" dmsetup remove v
done
check "the module goes" rmmod dm_dek
verdict
