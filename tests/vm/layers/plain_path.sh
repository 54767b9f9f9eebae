# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# seconds: 600
# memory: 2G
# once: yes
# A multipath over an endpoint and a path without one that has failed: the endpoint does not encrypt before that path is out of
# the map, as whoever reinstates it asks nobody. What comes through it meanwhile is ciphertext.
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
# shellcheck source=tests/vm/stack.sh
. /t/stack.sh
# shellcheck source=tests/vm/recorded.sh
. /t/recorded.sh
cd /tmp || exit
disks 6 256
for module in dm-multipath dm-round-robin; do modprobe $module; done
load
check "kcmd" start_stack --shim kernel --switch-back 1
check "keys" make_keys
length=98304
dmsetup create disk --table "0 $length linear /dev/ram0 0"
record rec-a /dev/mapper/disk /dev/ram3
record plain /dev/mapper/disk /dev/ram5
check "an endpoint on one path" d endpoint create /dev/mapper/rec-a --name a --fence transport
paths() { # LOAD-OR-CREATE PATH...
    local list=''
    for path in "${@:2}"; do list="$list /dev/mapper/$path 1"; done
    dmsetup "$1" mp --table "0 $length multipath 2 queue_mode bio 0 1 1 round-robin 0 $(($# - 1)) 1$list"
}
exchange() { dmsetup suspend --noflush --nolockfs mp && dmsetup resume mp; }
number() { dmsetup info -c --noheadings -o major,minor "$1"; }
above() { by v endpoint || by v software; }
check "a map over both" paths create dekleg-a plain
dmsetup message mp 0 fail_path "$(number plain)"
check "protect" d protect /dev/mapper/mp --name v --key k64
check "the failed path keeps the endpoint from it" above
check "and topology says so" shows 'plain has failed, and would carry plaintext when it comes back; take it out of the map' d topology v
begin_load /dev/dek/v --fsync 32 --pause 3000 --most 32
sleep 3
check "it stays so" above
dmsetup message mp 0 reinstate_path "$(number plain)"
sleep 2
check "reinstated, too" above
dmsetup message mp 0 fail_path "$(number plain)"
paths load dekleg-a
check "it is taken out" exchange
check "the endpoint encrypts" eventually by v endpoints
sleep 1
check "nothing was lost" end_load
load_did
check "all of it is there" vm_load verify /dev/dek/v --state load.state
d detach v
dmsetup remove mp
check "the leg goes" d endpoint remove a
unrecord rec-a plain
check "what the endpoint's path wrote is right" vm_scan /dev/ram3 --key k64 --map 2048-$((length - 1))@0 --least 10
sed -n 's/^vm_scan/    vm_scan/p' check.log
check "and on the other one was ciphertext only" vm_scan /dev/ram5 --key k64 --map 2048-$((length - 1))@0 --least 10
sed -n 's/^vm_scan/    vm_scan/p' check.log
kill_kcmd
umount /disk
dmsetup remove disk
check "the module goes when kcmd has" rmmod dm_dek
finish
