# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# seconds: 2400
# memory: 3G
# once: yes
# kcmd is killed while it holds all of a leg: the next one must not wait for itself when it reads headers through that leg. And
# it is killed at every step of an attach: what it had given to legs does not stay there.
# STEPS: which ones, "1 5 9", say; all of them otherwise.
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
# shellcheck source=tests/vm/stack.sh
. /t/stack.sh
# shellcheck source=tests/vm/recorded.sh
. /t/recorded.sh
cd /tmp || exit
modprobe dm-mirror
# shellcheck source=tests/vm/failing_stack.sh
. /t/failing_stack.sh
check "legs" legs
dmsetup create stripes --table "0 $length striped 2 128 $a 0 $b 0"
check "protect" d protect /dev/mapper/stripes --name v --key k64
check "both encrypt" by v endpoints
begin_load /dev/dek/v --fsync 32 --pause 4000 --most 32
hold() { # LEG: as a kcmd would have that was killed
    vm_endpoint "$(dmsetup table "dekleg-$1" | cut -d' ' -f4)" quiesce "0+$length"
}
for who in endpoints software endpoints; do
    check "$who" d switch v --to ${who/endpoints/endpoint}
    check "$who: so it is" by v $who
    for legs in a "a b"; do
        kill_kcmd
        for leg in $legs; do check "$who: $leg is held" hold $leg; done
        start_kcmd --switch-back 2
        check "$who, $legs held: kcmd answers" answers
        check "$who, $legs held: the volume is up" eventually up v
        check "$who, $legs held: it serves" timeout 20 dd if=/dev/dek/v of=/dev/null bs=4k count=64 iflag=direct
        check "$who, $legs held: the load goes on" loaded
    done
done
check "the legs answer as they did" within 10 eval 'own a && own b'
check "nothing was lost" end_load
load_did
check "all of it is there" vm_load verify /dev/dek/v --state load.state
check "detach" d detach v

# Killed within an attach: the legs hold nothing for a volume that nobody has.
untouched() {
    for leg in a b; do
        vm_endpoint "$(dmsetup table "dekleg-$leg" | cut -d' ' -f4)" list >/tmp/list
        grep -q ' associations 0 ranges 0 ' /tmp/list || { cat /tmp/list; return 1; }
    done
}
keyed() {
    for leg in a b; do
        vm_endpoint "$(dmsetup table "dekleg-$leg" | cut -d' ' -f4)" list | grep -q ' associations [1-9]' && return
    done
    false
}
settled() { up v || { ! d status v && untouched; }; }
kill_kcmd
kept=
for n in ${STEPS:-$(seq 80)}; do
    rm -f armed
    kcmd_env="LD_PRELOAD=/bin/libkillpoint.so KILLPOINT_AT=$n KILLPOINT_IOCTL=1 KILLPOINT_PREFIX=/dev KILLPOINT_ARM=/tmp/armed"
    start_kcmd
    kcmd_env=
    answers
    touch armed
    if d attach /dev/mapper/stripes >/dev/null 2>&1; then break; fi
    wait "$kcmd" 2>/dev/null
    rm -f armed
    away=
    if [ -z "$kept" ] && keyed && dmsetup remove stripes; then away=$n kept=$n; fi
    start_kcmd
    answers
    if [ -n "$away" ]; then # only its header tells which keys are to be left where
        sleep 8
        check "an attach killed at step $n, its device away: it is not forgotten" d status v
        check "an attach killed at step $n, its device away: nor are the keys" keyed
        dmsetup create stripes --table "0 $length striped 2 128 $a 0 $b 0"
    fi
    check "an attach killed at step $n: it is there or nothing of it" eventually settled
    d detach v 2>/dev/null
    check "an attach killed at step $n: nothing is keyed" eventually untouched
    kill_kcmd
done
check "there were steps to be killed at: $n" [ "$n" -gt 4 ]
check "one with keys on its legs and nothing else: $kept" [ -n "$kept" ]
rm -f armed
kill_kcmd 2>/dev/null
start_kcmd
answers
eventually up v >/dev/null || d attach /dev/mapper/stripes
check "attached in the end, all of it is there" vm_load verify /dev/dek/v --state load.state
check "detached in the end" d detach v
dmsetup remove stripes
check "no legs" no_legs
finish
