# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Legs beneath multipath and mirrors: what a fence, a yield and an engine that comes late do to those above.
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
load
modprobe brd rd_nr=3 rd_size=32768
for module in dm-multipath dm-round-robin dm-mirror dm-raid; do modprobe $module; done
length=65536
dd if=/dev/urandom of=/tmp/plain bs=64k count=1 2>/dev/null

leg() { # NAME NUMBER DEVICE OPTIONS...: with a map over all of it
    dek "$1" "$2" "$length" "$3" 0 4096 "${@:4}" && e "$2" map 1 0+$length
}
key() { e "$1" associate "$key1" 4096 unit 0 0 0+$length; } # NUMBER: prints the handle
put() { dd if=/tmp/plain of="/dev/mapper/$1" bs=4k count=1 oflag=direct seek="${2:-0}"; } # VOLUME [BLOCK]
holds_plain() { cmp -n 4096 -i 0:$((4096 * $2)) /tmp/plain "$1"; } # DEVICE BLOCK
raw_plain() { dd if="$1" bs=4k skip="$2" count=1 iflag=direct 2>/dev/null | cmp -n 4096 - /tmp/plain; } # as it is on a disk
number() { dmsetup info -c --noheadings -o major,minor "$1"; }
path_state() { dmsetup status mp | grep -o "$(number "$1") [AF]" | cut -d' ' -f2; }
is() { [ "$1" = "$2" ] || { echo "$1, not $2"; false; }; }
load_on() { # VOLUME LOOPS: random writes, read back and compared
    fio --name=v --filename="/dev/mapper/$1" --rw=randwrite --bsrange=4k-64k --ioengine=libaio --iodepth=8 --direct=1 \
        --size=8m --verify=crc32c --verify_fatal=1 --loops="$2"
}
still_runs() { sleep 1 && kill -0 "$1"; }
multipath() { # FEATURES: of the paths p1 and p2
    echo "0 $length multipath $1 0 1 1 round-robin 0 2 1 /dev/mapper/p1 1 /dev/mapper/p2 1"
}

# ---- paths ----
leg p1 1 /dev/ram0 2 fence:transport engine:none
leg p2 2 /dev/ram0 1 fence:transport
handle=$(key 2)
dmsetup create mp --table "$(multipath "2 queue_mode bio")"
check "a path that is fenced is no error" load_on mp 1
check "but a failed path" is "$(path_state p1)" F
check "the other serves" is "$(path_state p2)" A
put mp 8 2>/dev/null
check "in ciphertext" refused raw_plain /dev/ram0 8
e 1 engine cpu
handle1=$(key 1)
dmsetup message mp 0 reinstate_path "$(number p1)"
changes() { # keys go and come back on one path after the other, under I/O
    load_on mp 8 >/tmp/fio.log 2>&1 &
    local fio=$! round
    for round in $(seq 8); do
        e 1 disassociate "$handle1" && sleep 0.3 && handle1=$(key 1) &&
            dmsetup message mp 0 reinstate_path "$(number p1)" && sleep 0.1 &&
            e 2 disassociate "$handle" && sleep 0.3 && handle=$(key 2) &&
            dmsetup message mp 0 reinstate_path "$(number p2)" && sleep 0.1 || return
        kill -0 $fio 2>/dev/null || break
    done
    wait $fio || { tail -n 5 /tmp/fio.log; return 1; }
    echo "$round rounds"
}
check "keys that go and come on one path after the other are no error" changes
check "both serve again" is "$(path_state p1)$(path_state p2)" AA

check "a map does not take a range from a key" refused e 1 map 3 0+8
e 1 disassociate "$handle1"
e 2 disassociate "$handle"
for n in 1 2; do e $n map 4 0+$((length - 8)) reserved:$((length - 8))+8; done
handle1=$(e 1 associate "$key1" 4096 unit 0 0 0+$((length - 8)))
handle=$(e 2 associate "$key1" 4096 unit 0 0 0+$((length - 8)))
check "what no path may write is refused" refused put mp $((length / 8 - 1))
check "and fails no path" is "$(path_state p1)$(path_state p2)" AA

# All paths fenced while the multipath queues.
dmsetup message mp 0 queue_if_no_path
e 1 disassociate "$handle1"
e 2 disassociate "$handle"
for n in 1 2; do e $n map 5 0+$length; done
e 1 engine off
dmsetup create top --table "0 $length linear /dev/mapper/mp 0"
put top 16 2>/tmp/held.log &
held=$!
check "no path left: I/O queues" still_runs $held
check "and both paths have failed" is "$(path_state p1)$(path_state p2)" FF
dmsetup suspend --noflush --nolockfs mp
dmsetup resume mp
check "through a noflush suspend of the multipath" still_runs $held
echo 1 >/sys/module/dm_dek/parameters/suspend_patience
dmsetup suspend top &
suspend=$!
check "a suspend above it waits for longer than any leg's patience" sh -c "sleep 3; kill -0 $suspend"
kill $suspend
wait $suspend
check "a signal ends it, and what is above is live as before" sh -c "dmsetup info top | grep -q ACTIVE"
check "with its I/O" still_runs $held
dmsetup suspend top &
suspend=$!
sleep 1
check "a fenced path takes no key while its engine is off" refused key 1
e 1 engine cpu
key 1 >/dev/null
dmsetup message mp 0 reinstate_path "$(number p1)"
check "one path's engine turned on lets the suspend end" wait $suspend
dmsetup resume top
check "and the I/O, without an error" wait $held
check "encrypted" refused raw_plain /dev/ram0 16
check "and right" holds_plain /dev/mapper/top 16
echo 30 >/sys/module/dm_dek/parameters/suspend_patience
dmsetup remove top
dmsetup remove mp
dmsetup remove p1
dmsetup remove p2

# ---- mirrors ----
sum() { dd if="$1" bs=1M iflag=direct 2>/dev/null | md5sum; }
alike() { is "$(sum /dev/ram0)" "$(sum /dev/ram1)"; } # the two disks
healthy() { dmsetup status mir | grep -q ' AA '; }
mirror_holds() { # KIND TABLE
    for disk in /dev/ram0 /dev/ram1; do dd if=/dev/zero of=$disk bs=1M oflag=direct 2>/dev/null; done
    leg m1 3 /dev/ram0 1 fence:hold
    leg m2 4 /dev/ram1 2 fence:hold engine:none
    handle=$(key 3)
    dmsetup create mir --table "$2" || { check "$1 is made" false; return; }
    put mir 24 2>/tmp/held.log &
    held=$!
    check "$1: a fenced leg holds" still_runs $held
    check "$1: and stays in" healthy
    dmsetup suspend --noflush --nolockfs m2
    dmsetup resume m2
    check "$1: through a noflush suspend of the leg" still_runs $held
    check "$1: which it stays in, too" healthy
    dmsetup suspend mir &
    suspend=$!
    check "$1: a suspend above it waits" still_runs $suspend
    e 4 engine cpu
    handle2=$(key 4)
    check "$1: the leg's own engine lets it end" wait $suspend
    dmsetup resume mir
    check "$1: and the I/O" wait $held
    check "$1: no leg was lost" healthy
    check "$1: both hold the same" alike
    check "$1: which is ciphertext" refused raw_plain /dev/ram1 24
    check "$1: load on it" load_on mir 1

    # From the legs to somebody above: all fenced before the first is yielded, and the mirror at rest.
    dmsetup suspend mir
    e 3 disassociate "$handle"
    e 4 disassociate "$handle2"
    e 3 yield 0+$length
    e 4 yield 0+$length
    dmsetup resume mir
    check "$1: yielded, it is above to encrypt" put mir 32
    check "$1: both took it as it came" raw_plain /dev/ram1 32
    check "$1: on each disk" raw_plain /dev/ram0 32
    e 4 map 2 0+$length
    put mir 40 2>/tmp/held.log &
    held=$!
    check "$1: a new map fences, and that holds" still_runs $held
    e 4 yield 0+$length
    check "$1: until it is yielded again" wait $held
    check "$1: no leg was lost then" healthy
    check "$1: and both hold the same" alike
    dmsetup remove mir
    dmsetup remove m1
    dmsetup remove m2
}
mirror_holds mirror "0 $length mirror core 2 1024 nosync 2 /dev/mapper/m1 0 /dev/mapper/m2 0 1 handle_errors"
mirror_holds raid1 "0 $length raid raid1 2 0 nosync 2 - /dev/mapper/m1 - /dev/mapper/m2"

# ---- a mirror that copies from leg to leg by itself ----
for disk in /dev/ram0 /dev/ram1; do dd if=/dev/zero of=$disk bs=1M oflag=direct 2>/dev/null; done
leg m1 3 /dev/ram0 1 fence:hold
leg m2 4 /dev/ram1 2 fence:hold engine:none
key 3 >/dev/null
put m1 24
dmsetup create mir --table "0 $length mirror core 1 1024 2 /dev/mapper/m1 0 /dev/mapper/m2 0 1 handle_errors"
sleep 2
check "a copy waits for a fenced leg" sh -c "dmsetup status mir | grep -q ' 0/64 1 AA '"
eval "$(e 4 stats)"
# shellcheck disable=SC2154
check "its endpoint says that something waits, which is not to be let through as it is" [ "$waiting" -gt 0 ]
e 4 engine cpu
key 4 >/dev/null
copied() {
    for _ in $(seq 30); do
        if dmsetup status mir | grep -q ' 64/64 1 AA '; then return; fi
        sleep 0.5
    done
    dmsetup status mir && false
}
check "and goes on with its key" copied
check "encrypted on its way: both hold the same" alike
dmsetup remove mir
dmsetup remove m1
dmsetup remove m2

# ---- a new map while somebody above encrypts ----
leg y 5 /dev/ram2 1 fence:eio
e 5 yield 0+$length
dmsetup create top --table "0 $length linear /dev/mapper/y 0"
new_maps() { # each fences what was yielded; I/O does not see it, because the token holds it the while
    load_on top 8 >/tmp/fio.log 2>&1 &
    local fio=$! generation=1 token
    while kill -0 $fio 2>/dev/null && [ $generation -lt 60 ]; do
        generation=$((generation + 1))
        token=$(e 5 quiesce 0+$length) && e 5 map $generation 0+$length && e 5 yield 0+$length "$token" &&
            e 5 release "$token" || return
    done
    wait $fio || { tail -n 5 /tmp/fio.log; return 1; }
    echo "$generation maps" && [ $generation -ge 20 ]
}
check "new maps under a token, yielded before it ends: no I/O fails" new_maps
eval "$(e 5 stats)"
# shellcheck disable=SC2154
check "none met the fence, and some waited: $waited" [ "$fence_hits" = 0 -a "$waited" -gt 0 ]
dmsetup remove top
dmsetup remove y
check "the module goes" rmmod dm_dek
verdict
