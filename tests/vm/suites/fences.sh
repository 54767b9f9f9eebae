# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What must not pass does not: fences of each kind, discards, zeroes, held I/O at suspend.
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
load
modprobe brd rd_nr=1 rd_size=65536
modprobe sd_mod
modprobe scsi_debug dev_size_mb=64 lbpu=1 lbpws=1 sector_size=4096 delay=0
sleep 1
disk=/dev/$(ls /sys/bus/pseudo/drivers/scsi_debug/adapter0/host*/target*/*:*/block)
# shellcheck disable=SC2120
put() { dd if=/tmp/plain of=/dev/mapper/v bs=4k count=1 oflag=direct "$@"; }
get() { dd if=/dev/mapper/v of=/dev/null bs=4k count=1 iflag=direct "$@"; }
dd if=/dev/urandom of=/tmp/plain bs=64k count=1 2>/dev/null
raw() { dd if=/dev/ram0 bs=4k skip=16 count=256 iflag=direct 2>/dev/null | cmp -n 1048576 - /dev/zero; }

dek v 1 65536 /dev/ram0 128 4096
check "unmapped: a write is refused" refused put
check "unmapped: a read shows the device" get
e 1 map 1 128+32768
check "fenced: a write fails" refused put
check "fenced: a read fails" refused get
check "fenced: nothing has reached the device" raw
check "beside it I/O passes" put seek=5000
check "a write over the border of plain and fenced fails" refused dd if=/tmp/plain of=/dev/mapper/v bs=64k count=1 seek=$((32704 * 512)) oflag=seek_bytes,direct
handle=$(e 1 associate "$key1" 4096 unit 128 0 128+32768)
check "keyed: it passes" put
check "keyed: not in the clear" refused raw
check "no discard" refused blkdiscard /dev/mapper/v
check "no zeroing without writing" refused fallocate --punch-hole --offset 0 --length 65536 /dev/mapper/v
check "zeros are written as ciphertext" blkdiscard --zeroout --offset 0 --length 65536 /dev/mapper/v
check "and read as zeros" cmp -n 65536 /dev/mapper/v /dev/zero
check "on the device there are none" refused raw
e 1 disassociate "$handle"
check "after Disassociate: a write fails" refused put
check "after Disassociate: a read fails" refused get
eval "$(e 1 stats)"
# shellcheck disable=SC2154
check "all of it was counted: fences $fence_hits, refused $refused" [ "$fence_hits" = 5 -a "$refused" = 1 ]
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
file=/sys/kernel/debug/dek/$(uuid_of 1)
check "debugfs says the same" [ "$(grep -xc -e "fence_hits $fence_hits" -e "refused $refused" -e "in_flight 0" "$file")" = 3 ]
exec 5<"$file" # open while the endpoint goes
e 1 yield 128+32768
check "yielded: ciphertext passes" put
check "yielded: as it is" cmp -n 4096 -i 0:65536 /tmp/plain /dev/ram0
e 1 map 2 128+32768
check "a new map ends the yield" refused put

e 1 fence transport
check "the fence for multipath fails, too" refused put
e 1 fence hold
put 2>/tmp/held.log &
held=$!
sleep 1
check "a fence that holds lets it wait" kill -0 $held
dmsetup suspend --noflush --nolockfs v
dmsetup resume v
sleep 1
check "through a noflush suspend" kill -0 $held
echo 2 >/sys/module/dm_dek/parameters/suspend_patience
check "a flushing suspend waits for it, but not for ever" dmsetup suspend v
dmsetup resume v
check "then it has failed" refused wait $held
echo 60 >/sys/module/dm_dek/parameters/suspend_patience
put 2>/tmp/held.log &
held=$!
sleep 1
dmsetup suspend v &
suspend=$!
sleep 1
check "a flushing suspend waits" kill -0 $suspend
e 1 associate "$key1" 4096 unit 128 0 128+32768 >/dev/null
check "and a key lets both go on" wait $suspend
dmsetup resume v
check "without an error" wait $held
dmsetup remove v
check "the file goes with the endpoint" [ ! -e "$file" ]
check "and what is still open reads nothing" refused dd bs=64 count=1 <&5
exec 5<&-

dek v 3 65536 "$disk" 0 512
e 3 map 1
check "blocks of 4096 bytes: ranges that cut one are refused at Associate" refused e 3 associate "$key1" 512 unit 0 0 8+4
check "and in a map" refused e 3 map 2 4+8
check "whole ones are taken" e 3 associate "$key1" 512 unit 0 0 8+16
check "and serve I/O over their border" dd if=/tmp/plain of=/dev/mapper/v bs=4096 count=4 oflag=direct
dmsetup remove v

dek v 2 65536 "$disk" 0 4096 1 allow_discards
e 2 map 1 0+32768 reserved:65528+8
handle=$(e 2 associate "$key1" 4096 unit 0 0 0+32768)
check "opted in: a discard of keyed and plain" blkdiscard --offset 0 --length $((65528 * 512)) /dev/mapper/v
check "opted in: not of the reserved range" refused blkdiscard /dev/mapper/v
e 2 disassociate "$handle"
check "opted in: not through a fence" refused blkdiscard --offset 0 --length 1048576 /dev/mapper/v
dmsetup remove v
# An endpoint that is off: a fence and nothing else.
dek v 4 65536 /dev/ram0 128 4096 2 fence:transport engine:none
check "off: the table says so again" [ "$(dmsetup table v)" = "0 65536 dek $(uuid_of 4) 1:0 128 4096 2 fence:transport engine:none" ]
check "off: so does the status" sh -c "dmsetup status v | grep -q ' none$'"
check "off: so does the list" [ "$(e 4 engine)" = off ]
e 4 map 1 128+32768
check "off: no key is taken" refused e 4 associate "$key1" 4096 unit 128 0 128+32768
check "off: a write fails" refused put
check "off: beside it I/O passes" put seek=5000
e 4 yield 128+32768
check "off: yielded, ciphertext passes" put
check "an accelerator that is not there is not turned on" refused e 4 engine accel
e 4 engine cpu
handle=$(e 4 associate "$key1" 4096 unit 128 0 128+32768)
check "on: it passes" put
check "on: not in the clear" refused cmp -n 4096 -i 0:65536 /tmp/plain /dev/ram0
dmsetup suspend v
dmsetup load v --table "0 65536 dek $(uuid_of 4) /dev/ram0 128 4096 2 fence:transport engine:none"
dmsetup resume v
check "on: and stays so whatever a new table says" [ "$(e 4 engine)" = cpu ]
check "on: with its key" put
check "on: it is not turned off under a key" refused e 4 engine off
e 4 disassociate "$handle"
check "off again" e 4 engine off
check "an engine of no such name is no option" refused dmsetup reload v --table "0 65536 dek $(uuid_of 4) /dev/ram0 128 4096 1 engine:cpu"
dmsetup reload v --table "0 65536 dek $(uuid_of 4) /dev/ram0 128 4096 1 engine:auto"
dmsetup resume v
check "engine:auto needs not be said" [ "$(dmsetup table v)" = "0 65536 dek $(uuid_of 4) 1:0 128 4096" ]
check "and turns nothing on" [ "$(e 4 engine)" = off ]
dmsetup remove v
check "the module goes" rmmod dm_dek
verdict
