# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the suites of failing engines beneath others share, in the guest: two recorded legs, `a` and `b`, whose engine fails on
# command, kcmd with its keys, and the loads of two volumes, `v` and `w`. Sourced in /tmp after guest.sh, stack.sh, recorded.sh.
# shellcheck disable=SC2034,SC2154 # used by the suites, and set by the others
disks 6 384
load rehearsal=1
knob() { echo "$2" >/sys/module/dm_dek/parameters/rehearse_"$1"; }
check "kcmd" start_stack --shim kernel --switch-back 2
check "keys" make_keys

length=98304
dmsetup create disk-a --table "0 $length linear /dev/ram0 0"
dmsetup create disk-b --table "0 $length linear /dev/ram2 0"
a=/dev/mapper/dekleg-a b=/dev/mapper/dekleg-b
legs() { # [ARGUMENTS...]
    record rec-a /dev/mapper/disk-a /dev/ram3 && record rec-b /dev/mapper/disk-b /dev/ram5 &&
        d endpoint create /dev/mapper/rec-a --name a "$@" && d endpoint create /dev/mapper/rec-b --name b "$@"
}
no_legs() { d endpoint remove a && d endpoint remove b && unrecord rec-a rec-b; }
clean() {
    for disk in a b; do dd if=/dev/zero of=/dev/mapper/disk-$disk bs=1M oflag=direct 2>/dev/null; done
    rm -f load.state w.state
}
scan() { # LEG LOG-RAM ARGUMENTS...
    check "$1: what was written is right" vm_scan "/dev/ram$2" --key k64 --text "in the clear" "${@:3}"
    sed -n 's/^vm_scan/    vm_scan/p' check.log
}
within() { # SECONDS COMMAND...
    local start=$SECONDS
    while [ $((SECONDS - start)) -lt "$1" ]; do
        "${@:2}" >/dev/null 2>&1 && return
        sleep 0.2
    done
    "${@:2}"
}

own() { # LEG [FENCE]: it goes by its own engine and fence again
    vm_endpoint "$(dmsetup table "dekleg-$1" | cut -d' ' -f4)" list >/tmp/own && grep -q "engine 2 fence ${2:-0}" /tmp/own || { cat /tmp/own; false; }
}

# ---- two volumes on the same two legs: a filesystem on stripes, a concatenation

begin_w() {
    vm_load /dev/dek/w --state w.state --fsync 32 --pause "${pause:-4000}" --most 32 --seed 9 >w.log 2>&1 &
    w_load=$!
}
end_w() {
    kill -TERM $w_load
    wait $w_load || { cat w.log; false; }
}
both() { by v "$1" && by w "$1"; }
both_loaded() { loaded && kill -0 $w_load || { cat w.log; false; }; }

both_begin() {
    check "legs" legs
    check "stripes" dmsetup create s1 --table "0 $length striped 2 128 $a 0 $b 0"
    check "a concatenation" dmsetup create s2 --table "0 40960 linear $a 53248
40960 40960 linear $b 53248"
    check "protect v" d protect /dev/mapper/s1 --name v --key k64
    check "protect w" d protect /dev/mapper/s2 --name w --key k64
    check "the legs encrypt" both endpoints
    mkfs.ext4 -q /dev/dek/v
    mount /dev/dek/v /v
    put_files
    begin_load /v/load --size 16384 --fsync 32 --pause "${pause:-4000}" --most 32
    begin_w
    sleep 1
}
# Nobody saw an error, all is there, and every write was right; the legs go.
both_end() {
    check "v: nothing was lost, and no error seen" end_load
    check "w: nothing was lost, and no error seen" end_w
    load_did
    sed -n 's/^writes=/    writes=/p' w.log
    check "the files are as they were" bash -c 'echo 3 >/proc/sys/vm/drop_caches; cd /v && sha256sum -c /tmp/sums'
    umount /v
    check "fsck" e2fsck -fn /dev/dek/v
    d detach v
    d detach w
    check "w attaches again" d attach /dev/mapper/s2
    check "w is all there" vm_load verify /dev/dek/w --state w.state
    d detach w
    dmsetup remove s1
    dmsetup remove s2
    check "the legs go" no_legs
    scan a 3 --map "1024-49151@0/128/2/0" --map 55296-94207@0 --allow any
    scan b 5 --map "1024-49151@0/128/2/1" --map 53248-94207@38912 --allow any
    clean
}
