# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# seconds: 2400
# memory: 3G
# once: yes
# A volume directly over a device is moved between its endpoint and dm-crypt, live: SWITCHES times under a filesystem, 20
# times under a raw load of each kind of volume. Every write to the device is recorded and judged.
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
# shellcheck source=tests/vm/stack.sh
. /t/stack.sh
# shellcheck source=tests/vm/recorded.sh
. /t/recorded.sh
cd /tmp || exit
switches=${SWITCHES:-100} # in rounds of 100, as a record has to hold one
disks 3 768
load
check "kcmd" start_stack --shim kernel
check "keys" make_keys
# The volume's device: 96 MiB, recorded on /dev/ram2.
size=196608
dmsetup create disk --table "0 $size linear /dev/ram0 0"
begin() { record leg /dev/mapper/disk /dev/ram2; }

clean() {
    dd if=/dev/zero of=/dev/mapper/disk bs=1M oflag=direct 2>/dev/null
    rm -f load.state
}

to() { d switch v --to "$1" && by v "$1"; }
back_and_forth() { # TIMES
    for n in $(seq "$1"); do to software && to endpoint && loaded || { echo "switch $n"; return 1; }; done
}

# ---- every kind of volume, under a raw load

kind() { # NAME UNIT TWEAK BLOCK KEY-FILE SCAN-MAPS PROTECT-ARGUMENTS...
    local kind=$1 unit=$2 tweak=$3 block=$4 key=$5 maps=$6
    shift 6
    begin
    check "$kind: protect" d protect /dev/mapper/leg --name v --key "$key" --data-unit "$unit" --tweak "$tweak" "$@"
    check "$kind: the endpoint encrypts" by v endpoint
    # shellcheck disable=SC2086
    begin_load /dev/dek/v --block "$block" --fsync 32 --pause 2000 --most 32 $ranges
    check "$kind: there and back, 10 times" back_and_forth 10
    check "$kind: to software" to software
    check "$kind: the table has no key" keyless dek-v "$key"
    check "$kind: but dm-crypt's lines" [ "$(crypt_lines dek-v)" = "$lines" ]
    check "$kind: topology says dm-crypt" shows 'dm-crypt' d topology v
    sleep 1
    check "$kind: and it stays" by v software
    check "$kind: nothing was lost" end_load
    load_did
    # shellcheck disable=SC2086
    check "$kind: dm-crypt reads all of it" vm_load verify /dev/dek/v --state load.state $ranges
    check "$kind: detach" d detach v
    check "$kind: no device is left" refused dmsetup info dek-v
    check "$kind: attach" d attach /dev/mapper/leg
    # shellcheck disable=SC2086
    check "$kind: all of it is there" vm_load verify /dev/dek/v --state load.state $ranges
    d detach v
    check "$kind: the record is whole" unrecord leg
    # shellcheck disable=SC2086
    check "$kind: what was written is right" vm_scan /dev/ram2 --key "$key" --unit "$unit" --tweak "$tweak" $maps --least 400
    sed -n 's/^vm_scan/    vm_scan/p' check.log
    clean
}
ranges='' lines=1
kind "default place" 4096 unit 4096 k64 "--map 2048-$((size - 1))@0" --encrypt all
kind "default place, half plain" 4096 lba512 4096 k32 "--map 2048-67583@0 --plain 67584-$((size - 1))@65536" --encrypt 0-65535
kind "default place, sectors" 512 lba512 512 k64 "--map 2048-67583@0 --plain 67584-$((size - 1))@65536" --encrypt 0-65535
ranges="--range 0-1023 --range 1536-20479 --range 1536-$((size - 1))" lines=2
in_place="--map 1536-10239@1536 --map 11264-20479@11264 --plain 0-1023@0 --plain 10240-11263@10240
    --plain 20480-$((size - 1))@20480"
for unit in 512 4096; do
    for tweak in unit lba512; do
        if [ $unit = 4096 ] || [ $tweak = unit ]; then
            kind "in place, $unit, $tweak" $unit $tweak $unit k64 "$in_place" --in-place --encrypt 1536-10239,11264-20479
        fi
    done
done

# ---- a filesystem, with fio on it

filesystem() { # ROUND
    local round="ext4, $1"
    begin
    check "$round: protect" d protect /dev/mapper/leg --name v --key k64
    mkfs.ext4 -q /dev/dek/v
    check "$round: mount" mount /dev/dek/v /v
    put_files
    fio --name=f --directory=/v --size=16M --rw=randrw --bsrange=4k-32k --iodepth=8 --direct=1 --ioengine=libaio --rate_iops=60 \
        --fsync=32 --verify=crc32c --verify_backlog=64 --verify_fatal=1 --runtime=1800 --time_based >fio.log 2>&1 &
    fio=$!
    begin_load /v/load --size 16384 --fsync 32 --pause 5000 --most 16
    check "$round: there and back, 100 switches" back_and_forth 50
    kill -INT $fio
    wait $fio
    check "$round: fio wrote and read" grep -q 'READ: .*io=[1-9]' fio.log
    check "$round: and found no error" refused grep -E 'err= *[1-9]|verify:' fio.log
    check "$round: nothing was lost" end_load
    load_did
    check "$round: the files are as they were" bash -c 'cd /v && sha256sum -c /tmp/sums'
    to software
    check "$round: by dm-crypt, too" bash -c 'echo 3 >/proc/sys/vm/drop_caches; cd /v && sha256sum -c /tmp/sums'
    umount /v
    check "$round: fsck" e2fsck -fn /dev/dek/v
    d detach v
    unrecord leg
    check "$round: nothing in the clear was written" vm_scan /dev/ram2 --key k64 --map 2048-$((size - 1))@0 --allow any --text "in the clear"
    sed -n 's/^vm_scan/    vm_scan/p' check.log
    clean
}
for n in $(seq $(((switches + 99) / 100))); do filesystem "$n"; done

kill_kcmd
umount /disk
dmsetup remove disk
check "the module goes when kcmd has" rmmod dm_dek
finish
