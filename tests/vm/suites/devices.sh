# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Under fio verify: a device that is slow, one that fails at times, a CPU that goes and comes, and a table that goes from
# dek to dm-crypt and back.
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
load
modprobe brd rd_nr=1 rd_size=65536
modprobe dm-delay
modprobe dm-flakey
seconds=${SECONDS_OF_LOAD:-6}
ranges="0+98304 110592+64"

start_load() { # SECONDS [FIO ARGUMENTS]
    local runtime=$1
    shift
    fio --name=v --filename=/dev/mapper/v --rw=randwrite --bsrange=4k-192k --ioengine=libaio --iodepth=8 --direct=1 \
        --size=48m --verify=crc32c --verify_fatal=1 --verify_backlog=64 --time_based --runtime="$runtime" \
        --randseed=11 "$@" >/tmp/fio.log 2>&1 &
    load=$!
}
end_load() { wait $load || { cat /tmp/fio.log; false; }; }
keyed() { # a fresh endpoint 1 gets its map and its key
    e 1 map 1 $ranges 110720+64 && handle=$(e 1 associate "$key1" 4096 unit 0 0 $ranges)
}
storm() { e 1 storm "$((seconds - 1))" "$handle" "$key1" 4096 unit 0 0 $ranges 110720+64; }
as_dmcrypt_reads() {
    dmsetup create c --table "$(crypt_table 98304 "$key1" 0 /dev/ram0 0 4096 unit)" &&
        cmp -n $((98304 * 512)) /dev/mapper/v /dev/mapper/c
    rc=$?
    dmsetup remove c
    return $rc
}

dmsetup create slow --table "0 131072 delay /dev/ram0 0 15"
dek v 1 131072 /dev/mapper/slow 0 4096
keyed
start_load "$seconds"
check "a slow device: updates and holds under load" storm
check "a slow device: fio verifies" end_load
dmsetup remove v
dmsetup remove slow

dmsetup create weak --table "0 131072 flakey /dev/ram0 0 1 1"
dek v 1 131072 /dev/mapper/weak 0 4096
keyed
fio --name=w --filename=/dev/mapper/v --rw=randrw --bsrange=4k-192k --ioengine=libaio --iodepth=8 --direct=1 --size=48m \
    --time_based --runtime="$seconds" --continue_on_error=all --output-format=json >/tmp/weak.log 2>&1
check "a device that fails at times: the errors arrive" grep -q '"total_err" : [1-9]' /tmp/weak.log
eval "$(e 1 stats)"
# shellcheck disable=SC2154
check "they are counted, and nothing hangs: $errors" [ "$errors" -gt 0 -a "$in_flight" = 0 -a "$fence_hits" = 0 ]
dmsetup suspend weak
dmsetup load weak --table "0 131072 linear /dev/ram0 0"
dmsetup resume weak
start_load "$seconds"
check "healed: fio verifies" end_load
check "healed: all of it is what dm-crypt reads" as_dmcrypt_reads
dmsetup remove v
dmsetup remove weak

dek v 1 131072 /dev/ram0 0 4096
keyed
cpu=/sys/devices/system/cpu/cpu1/online
[ -e $cpu ] || cpu=/dev/null # a kernel whose CPUs stay
start_load $((seconds * 2))
come_and_go() {
    for _ in $(seq 5); do
        echo 0 >$cpu && sleep 0.3 && echo 1 >$cpu && sleep 0.3 || return 1
    done
}
come_and_go &
comes=$!
check "a CPU comes and goes: updates and holds under load" storm
check "it came and went" wait $comes
echo 0 >$cpu
check "with one CPU: updates and holds under load" storm
check "fio verifies" end_load
eval "$(e 1 stats)"
check "nothing is left in flight, nothing hit a fence" [ "$in_flight" = 0 -a "$fence_hits" = 0 -a "$errors" = 0 ]
echo 1 >$cpu

# What dm-crypt would serve of the same: the encrypted ranges, and linear between.
piece() { crypt_table "$2" "$key1" "$(($1 / 8 * 8))" /dev/ram0 "$1" 4096 unit | sed "s/^0 /$1 /"; }
crypt_all="$(piece 0 98304)
98304 12288 linear /dev/ram0 98304
$(piece 110592 64)
110656 20416 linear /dev/ram0 110656"
start_load 120
to_crypt() { dmsetup reload v --table "$crypt_all" && dmsetup suspend v && dmsetup resume v; }
# The endpoint died with its last table: the new one has its key before the table comes live.
to_dek() { dmsetup reload v --table "0 131072 dek $(uuid_of 1) /dev/ram0 0 4096" && keyed && dmsetup suspend v && dmsetup resume v; }
back_and_forth() {
    for _ in $(seq "${SWITCHES:-20}"); do
        to_crypt && refused e 1 list && to_dek || return 1
    done
}
check "dek to dm-crypt and back, under load, on one device" back_and_forth
kill -INT $load
wait $load
check "fio found no error" refused grep -E 'err= *[1-9]|verify:' /tmp/fio.log
check "all of it is what dm-crypt reads" as_dmcrypt_reads
dmsetup remove v
check "the module goes" rmmod dm_dek
verdict
