# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# seconds: 1200
# memory: 3G
# once: no
# The engine of endpoints beneath others fails under load: what waits there goes on by the CPU, dm-crypt takes over within
# seconds, and repaired, the endpoints have it back. Stripes and a concatenation on the same legs, mirrors, a multipath.
# Nobody above sees an error. Every write to each leg is recorded and judged.
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
# shellcheck source=tests/vm/stack.sh
. /t/stack.sh
# shellcheck source=tests/vm/recorded.sh
. /t/recorded.sh
cd /tmp || exit
for module in dm-raid raid1 dm-mirror dm-multipath dm-round-robin; do modprobe $module; done
# shellcheck source=tests/vm/failing_stack.sh
. /t/failing_stack.sh
fails_once() { # NAME: and is repaired
    knob failure 1
    check "$1: dm-crypt takes over" within 10 both software
    check "$1: status says why" shows 'Invalid HW State' d status v
    sleep 1
    check "$1: the loads go on" both_loaded
    check "$1: nobody goes back to what is broken" refused d switch v --to endpoint
    check "$1: the legs are as they were" within 5 eval 'own a && own b'
    knob failure 0
    check "$1: the endpoints have it back" eventually both endpoints
    sleep 1
    check "$1: and it goes on" both_loaded
}
both_begin
fails_once "first"
fails_once "second"

knob failure 1
d switch v --to software >check.log 2>&1 # at the same time
check "while it is switched by hand: both move" within 15 both software
knob failure 0
d switch v --to auto >/dev/null
check "and back" eventually both endpoints
check "the loads go on" both_loaded

sleep 1
both_end

# ---- mirrors, whose legs hold
mirror() { # NAME TABLE
    check "$1: legs" legs --fence hold
    check "$1: the mirror" dmsetup create s1 --table "$2"
    check "$1: protect" d protect /dev/mapper/s1 --name v --key k64
    check "$1: the legs encrypt" by v endpoints
    begin_load /dev/dek/v --fsync 32 --pause 4000 --most 32
    sleep 1
    for round in 1 2; do
        knob failure 1
        if [ $round = 2 ]; then
            sleep 0.3
            kill_kcmd
            start_kcmd --switch-back 2
            answers
        fi
        check "$1, $round: dm-crypt takes over" within 15 by v software
        check "$1, $round: the load goes on" loaded
        check "$1, $round: nothing is ejected" refused eval "dmsetup status s1 | grep -E '[AD]*[DF][AD]* '"
        knob failure 0
        check "$1, $round: the legs have it back" eventually by v endpoints
        check "$1, $round: the legs are as they were" within 5 eval 'own a 2 && own b 2'
    done
    sleep 1
    check "$1: nothing was lost, and no error seen" end_load
    load_did
    check "$1: all of it is there" vm_load verify /dev/dek/v --state load.state
    d detach v
    dmsetup remove s1
    check "$1: the legs go" no_legs
    scan "$1: a" 3 --map 2048-65535@0 --least 200
    scan "$1: b" 5 --map 2048-65535@0 --least 200
    clean
}
mirror mirror "0 65536 mirror core 2 1024 nosync 2 $a 0 $b 0"
mirror raid1 "0 65536 raid raid1 2 0 nosync 2 - $a - $b"

# ---- two paths to one disk, each with an endpoint that fails
record rec-a /dev/mapper/disk-a /dev/ram3
record rec-b /dev/mapper/disk-a /dev/ram5
check "paths" eval 'd endpoint create /dev/mapper/rec-a --name a --fence transport && d endpoint create /dev/mapper/rec-b --name b --fence transport'
check "a multipath" dmsetup create s1 --table "0 $length multipath 3 queue_if_no_path queue_mode bio 0 1 1 round-robin 0 2 1 $a 1 $b 1"
check "paths: protect" d protect /dev/mapper/s1 --name v --key k64
check "paths: the legs encrypt" by v endpoints
begin_load /dev/dek/v --fsync 32 --pause 4000 --most 32
sleep 1
knob failure 1
check "paths: dm-crypt takes over" within 20 by v software
sleep 1
check "paths: the load goes on" loaded
knob failure 0
check "paths: repaired, they have it back" eventually by v endpoints
check "paths: they are as they were" within 5 eval 'own a 1 && own b 1'
sleep 1
check "paths: nothing was lost, and no error seen" end_load
load_did
check "paths: all of it is there" vm_load verify /dev/dek/v --state load.state
d detach v
dmsetup remove s1
check "paths: the legs go" no_legs
scan "path a" 3 --map 2048-$((length - 1))@0 --least 1
scan "path b" 5 --map 2048-$((length - 1))@0 --least 1

kill_kcmd
umount /disk
dmsetup remove disk-a
dmsetup remove disk-b
check "the module goes when kcmd has" rmmod dm_dek
finish
