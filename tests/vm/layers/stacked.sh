# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# seconds: 1800
# memory: 3G
# once: no
# Endpoints beneath a concatenation, stripes and a mirror: they encrypt, dm-crypt does, they do again, under a load; every
# write to each leg is recorded and judged.
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
# shellcheck source=tests/vm/stack.sh
. /t/stack.sh
# shellcheck source=tests/vm/recorded.sh
. /t/recorded.sh
cd /tmp || exit
switches=${SWITCHES:-100}
disks 6 384
for module in dm-raid raid1 dm-mirror; do modprobe $module; done
load
check "kcmd" start_stack --shim kernel --switch-back 3
check "keys" make_keys

# Legs a and b: 48 MiB each, recorded on /dev/ram3 and /dev/ram5.
length=98304
dmsetup create disk-a --table "0 $length linear /dev/ram0 0"
dmsetup create disk-b --table "0 $length linear /dev/ram2 0"
legs() { # [ARGUMENTS...]
    record rec-a /dev/mapper/disk-a /dev/ram3 && record rec-b /dev/mapper/disk-b /dev/ram5 &&
        d endpoint create /dev/mapper/rec-a --name a "$@" && d endpoint create /dev/mapper/rec-b --name b "$@"
}
a=/dev/mapper/dekleg-a b=/dev/mapper/dekleg-b
no_legs() { d endpoint remove a && d endpoint remove b && unrecord rec-a rec-b; }
clean() {
    for disk in a b; do dd if=/dev/zero of=/dev/mapper/disk-$disk bs=1M oflag=direct 2>/dev/null; done
    rm -f load.state
}

to() { d switch v --to "$1" && by v "$2"; }
back_and_forth() { # TIMES
    for n in $(seq "$1"); do to software software && to endpoint endpoints && loaded || { echo "switch $n"; return 1; }; done
}
linear() { dmsetup table dek-v | grep -q ' linear ' && [ "$(crypt_lines dek-v)" = 0 ]; }

stack() { # NAME TABLE MAPS-A MAPS-B FENCE-AND-UNIT [PROTECT ARGUMENTS...]
    local kind=$1 table=$2 maps_a=$3 maps_b=$4
    # shellcheck disable=SC2086
    check "$kind: legs" legs --fence $5
    shift 5
    check "$kind: the stack" dmsetup create stack --table "$table"
    check "$kind: protect" d protect /dev/mapper/stack --name v --key k64 "$@"
    check "$kind: the legs encrypt" by v endpoints
    check "$kind: the volume's table is linear" linear
    begin_load /dev/dek/v --fsync 32 --pause 2000 --most 32
    check "$kind: there and back, $((switches / 10)) times" back_and_forth $((switches / 10))
    check "$kind: to software" to software software
    check "$kind: the table has no key" keyless dek-v k64
    sleep 1
    check "$kind: nothing was lost" end_load
    load_did
    check "$kind: dm-crypt reads all of it" vm_load verify /dev/dek/v --state load.state
    check "$kind: detach" d detach v
    check "$kind: attach" d attach /dev/mapper/stack
    check "$kind: all of it is there" vm_load verify /dev/dek/v --state load.state
    check "$kind: to endpoint" to endpoint endpoints
    check "$kind: the legs read all of it" vm_load verify /dev/dek/v --state load.state
    d detach v
    dmsetup remove stack
    check "$kind: the legs go" no_legs
    # shellcheck disable=SC2086
    check "$kind: what was written to a is right" vm_scan /dev/ram3 --key k64 $maps_a --least 400
    sed -n 's/^vm_scan/    vm_scan/p' check.log
    # shellcheck disable=SC2086
    check "$kind: what was written to b is right" vm_scan /dev/ram5 --key k64 $maps_b --least 400
    sed -n 's/^vm_scan/    vm_scan/p' check.log
    clean
}
stack concatenation "0 49152 linear $a 4096
49152 49152 linear $b 8000" "--map 6144-53247@0" "--map 8000-57151@47104" eio
stack stripes "0 131072 striped 2 128 $a 0 $b 0" "--map 1024-65535@0/128/2/0" "--map 1024-65535@0/128/2/1" eio
stack raid1 "0 65536 raid raid1 2 0 nosync 2 - $a - $b" "--map 2048-65535@0" "--map 2048-65535@0" hold
stack mirror "0 65536 mirror core 2 1024 nosync 2 $a 0 $b 0" "--map 2048-65535@0" "--map 2048-65535@0" hold
# the first half of it, in sectors and with the other tweak rule's name
stack "half a concatenation" "0 49152 linear $a 4096
49152 49152 linear $b 8000" "--unit 512 --tweak lba512 --map 6144-53247@0 --plain 0-6143" \
    "--unit 512 --tweak lba512 --map 8000-26431@47104 --plain 26432-57151@65536" "eio --data-unit 512" --data-unit 512 --tweak lba512 --encrypt 0-65535

kill_kcmd
umount /disk
dmsetup remove disk-a
dmsetup remove disk-b
check "the module goes when kcmd has" rmmod dm_dek
finish
