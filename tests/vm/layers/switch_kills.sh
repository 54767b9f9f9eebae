# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# seconds: 2400
# memory: 3G
# once: no
# A volume is moved between its endpoint and dm-crypt under a load, and kcmd is killed at every step of it. Every write to
# the device is recorded and judged.
# STEPS: which ones, "1 5 9", say; all of them otherwise.
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
# shellcheck source=tests/vm/stack.sh
. /t/stack.sh
# shellcheck source=tests/vm/recorded.sh
. /t/recorded.sh
cd /tmp || exit
disks 3 768
load
check "kcmd" start_stack --shim kernel
check "keys" make_keys
# The volume's device: 96 MiB, recorded on /dev/ram2.
size=196608
dmsetup create disk --table "0 $size linear /dev/ram0 0"
to() { d switch v --to "$1" && by v "$1"; }
serves() { timeout 20 dd if=/dev/dek/v of=/dev/null bs=4k count=1 iflag=direct; }
table_agrees() { # status says what the table shows
    if [ "$(who v)" = software ]; then [ "$(crypt_lines dek-v)" = 1 ]; else dmsetup table dek-v | grep -q ' dek '; fi
}
killed_to() { # TO FROM PREFIX: at the ioctls, or at what is written in kcmd's folder
    local n step
    kill_kcmd
    for n in ${STEPS:-$(seq 200)}; do
        kcmd_env="LD_PRELOAD=/bin/libkillpoint.so KILLPOINT_AT=$n KILLPOINT_IOCTL=1 KILLPOINT_PREFIX=$3 KILLPOINT_ARM=/tmp/armed KILLPOINT_LOG=/tmp/steps"
        start_kcmd
        kcmd_env=
        answers && eventually up v
        rm -f steps
        touch armed
        if d switch v --to "$1" >/dev/null 2>&1; then break; fi
        rm armed
        sed "$n!d; s/^/    /" steps
        wait "$kcmd" 2>/dev/null
        start_kcmd
        step="to $1, killed at step $n in $3"
        check "$step: kcmd answers" answers
        check "$step: the volume comes up" eventually up v
        check "$step: it serves" serves
        check "$step: kcmd says who encrypts" table_agrees
        check "$step: the load goes on" loaded
        check "$step: back" to "$2"
        kill_kcmd
    done
    rm -f armed
    kill_kcmd 2>/dev/null
    start_kcmd
    answers
    [ -z "${STEPS-}" ] || d switch v --to "$1" >/dev/null
    check "to $1: there were steps to be killed at in $3: $n" [ $n -gt 3 ]
    check "to $1: it is done" eventually by v "$1"
}
record leg /dev/mapper/disk /dev/ram2
check "protect" d protect /dev/mapper/leg --name v --key k64
begin_load /dev/dek/v --fsync 32 --pause 5000 --most 32
for prefix in /dev /run/dekstack/volumes; do
    killed_to software endpoint $prefix
    killed_to endpoint software $prefix
done
for n in 1 2 3 4 5 6; do # and at any time
    d switch v --to software >/dev/null 2>&1 &
    switching=$!
    sleep 0.0$((n * 12 % 100))
    kill_kcmd
    wait $switching
    start_kcmd
    answers
    check "killed during a switch, $n: up" eventually up v
    check "killed during a switch, $n: kcmd says who encrypts" table_agrees
    check "killed during a switch, $n: back" to endpoint
done
check "nothing was lost" end_load
load_did
check "all of it is there" vm_load verify /dev/dek/v --state load.state
d detach v
unrecord leg
check "what was written is right" vm_scan /dev/ram2 --key k64 --map 2048-$((size - 1))@0 --least 1000
sed -n 's/^vm_scan/    vm_scan/p' check.log

kill_kcmd
umount /disk
dmsetup remove disk
check "the module goes when kcmd has" rmmod dm_dek
finish
