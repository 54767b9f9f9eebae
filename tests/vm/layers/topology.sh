# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# once: 6.1
# What kcmd finds beneath a device: real stacks of partitions, device-mapper's targets, paths and legs; and what it is told
# of changes while no udevd runs.
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
cd /tmp || exit
modprobe brd rd_nr=4 rd_size=32768 # 65536 LBAs each
for module in dm-mod dm-crypt dm-mirror dm-raid raid1 dm-multipath dm-round-robin aesni-intel xts loop; do
    modprobe "$module" 2>/dev/null
done

found() { # NODE, and on standard input the lines that are expected
    cat >expected
    vm_stack_dump "$1" >found 2>&1
    diff expected found
}
undo() { # DEVICE...: mapped ones, the topmost first
    for device in "$@"; do dmsetup remove "$device"; done
}
ram() { for n in "$@"; do echo "device /dev/ram$n 65536"; done; }

check "a disk" found /dev/ram0 <<<"$(ram 0)"
truncate -s 1M image
check "a file" found /tmp/image <<<"device /tmp/image 2048"
loop=$(loop image 512)
check "a loop device is not looked through" found "$loop" <<<"device $loop 2048"
blockdev --setro "$loop"
check "one that is only read" found "$loop" <<<"device $loop 2048 read-only"
losetup -d "$loop"
check "no such device" found /dev/none <<<"not-found: /dev/none: No such file or directory"
check "a folder" found /tmp <<<"invalid-argument: /tmp is neither a block device nor a file"

# No module of ours is there yet: nobody has to answer for legs.
dmsetup create cat --table "0 10240 linear /dev/ram0 2048
10240 6144 linear /dev/ram1 0
16384 2048 linear /dev/ram0 40960"
cat_found="linear /dev/mapper/cat 18432 | /dev/ram0 2048 0 10240 | /dev/ram1 0 10240 6144 | /dev/ram0 40960 16384 2048
$(ram 1 0)"
check "a concatenation" found /dev/mapper/cat <<<"$cat_found"
dmsetup create stripe --table "0 65024 striped 2 128 /dev/ram2 0 /dev/ram3 64"
stripe_found="striped /dev/mapper/stripe 65024 chunk 128 | /dev/ram2 0 | /dev/ram3 64
$(ram 3 2)"
check "stripes" found /dev/mapper/stripe <<<"$stripe_found"
dmsetup create vg-lv --table "0 4096 linear /dev/mapper/cat 8192
4096 4096 linear /dev/mapper/stripe 1024"
beneath_lv="8192 | /dev/mapper/cat 8192 0 4096 | /dev/mapper/stripe 1024 4096 4096
$stripe_found
$cat_found"
check "a logical volume over both" found /dev/mapper/vg-lv <<<"linear /dev/mapper/vg-lv $beneath_lv"
check "by its node" found "/dev/$(basename "$(readlink -f /sys/dev/block/"$(dmsetup info -c --noheadings --separator : -o major,minor vg-lv)")")" \
    <<<"linear /dev/mapper/vg-lv $beneath_lv"
dmsetup suspend vg-lv
check "suspended" found /dev/mapper/vg-lv <<<"linear /dev/mapper/vg-lv $beneath_lv"
dmsetup resume vg-lv
dmsetup rename vg-lv 'vg l v'
check "a name that is written otherwise" found '/dev/mapper/vg\x20l\x20v' <<<"linear /dev/mapper/vg\\x20l\\x20v $beneath_lv"
dmsetup rename 'vg l v' vg-lv
dmsetup create mixed --table "0 1024 linear /dev/mapper/vg-lv 0
1024 1024 error"
check "a part that is not looked into" found /dev/mapper/mixed <<E2
linear /dev/mapper/mixed 2048 | /dev/mapper/vg-lv 0 0 1024 | /dev/mapper/mixed from LBA 1024 0 1024 1024
device /dev/mapper/mixed from LBA 1024 1024 : is a target of type error, which is not looked into
linear /dev/mapper/vg-lv $beneath_lv
E2
undo mixed vg-lv stripe cat
dmsetup create m --table "0 32768 mirror core 2 1024 nosync 2 /dev/ram0 0 /dev/ram1 512"
check "a mirror" found /dev/mapper/m <<<"mirror /dev/mapper/m 32768 | /dev/ram0 0 | /dev/ram1 512
$(ram 1 0)"
undo m
dmsetup create r --table "0 65536 raid raid1 2 0 nosync 2 - /dev/ram0 - /dev/ram1"
check "a RAID 1" found /dev/mapper/r <<<"mirror /dev/mapper/r 65536 | /dev/ram0 0 | /dev/ram1 0
$(ram 1 0)"
undo r
dmsetup create c --table "$(crypt_table 65536 "$key1" 0 /dev/ram0 0 512 unit)"
dmsetup create over --table "0 65536 linear /dev/mapper/c 0"
check "dm-crypt in the way" found /dev/mapper/over <<E2
linear /dev/mapper/over 65536 | /dev/mapper/c 0 0 65536
device /dev/mapper/c 65536 : is encrypted by dm-crypt already
E2
undo over c

# Two paths to one disk, with partitions.
modprobe sd_mod
modprobe scsi_debug dev_size_mb=16 num_parts=2 add_host=2 per_host_store=0 vpd_use_hostno=0
for _ in $(seq 50); do
    disks=$(cd /sys/block && ls -d sd?)
    [ "$(wc -w <<<"$disks")" = 2 ] && [ -e /dev/sda2 ] && break
    sleep 0.2
done
check "two paths" [ "${disks//[[:space:]]/ }" = "sda sdb" ]
of() { cat "/sys/class/block/$1"; }
size=$(of sda/size)
disk() { echo "device /dev/$1 $size"; }
check "a partition" found /dev/sda2 <<<"linear /dev/sda2 $(of sda2/size) | /dev/sda $(of sda2/start) 0 $(of sda2/size)
$(disk sda)"
paths="2 1 8:0 1 8:16 1"
dmsetup create mp --table "0 $size multipath 2 queue_mode bio 0 1 1 round-robin 0 $paths"
touch_mp() { dd if=/dev/mapper/mp of=/dev/null bs=4096 count=1 iflag=direct 2>/dev/null; }
touch_mp
both="$(disk sdb)
$(disk sda)"
check "a multipath" found /dev/mapper/mp <<<"multipath /dev/mapper/mp $size | /dev/sda 0 | /dev/sdb 0
$both"
dmsetup message mp 0 "fail_path 8:16"
check "a path that failed" found /dev/mapper/mp <<<"multipath /dev/mapper/mp $size | /dev/sda 0 | /dev/sdb 0 failed
$both"
dmsetup message mp 0 "reinstate_path 8:16"
check "and returned" found /dev/mapper/mp <<<"multipath /dev/mapper/mp $size | /dev/sda 0 | /dev/sdb 0
$both"
undo mp
dmsetup create mp --table "0 $size multipath 2 queue_mode bio 0 2 1 round-robin 0 1 1 8:16 1 round-robin 0 1 1 8:0 1"
touch_mp
check "a path in reserve" found /dev/mapper/mp <<<"multipath /dev/mapper/mp $size | /dev/sdb 0 | /dev/sda 0 standby
$(disk sda)
$(disk sdb)"
undo mp
dmsetup create mp --table "0 $size multipath 0 0 1 1 round-robin 0 $paths"
touch_mp
check "a request-based multipath" found /dev/mapper/mp <<E2
multipath /dev/mapper/mp $size | /dev/sda 0 | /dev/sdb 0 : is request-based, so it can have no encrypting paths
$both
E2
undo mp

# Legs and volumes.
# shellcheck disable=SC2119
load
leg() { echo "/dev/mapper/$1 $2 $(uuid_of "$3") unit 4096 engines $4"; }
dek leg0 1 65536 /dev/ram0 0 4096
dek leg1 2 65536 /dev/ram1 0 4096 1 engine:none
dek leg2 3 49152 /dev/ram2 2048 4096
check "a leg with an engine" found /dev/mapper/leg0 <<<"endpoint $(leg leg0 65536 1 4)"
check "one that only fences" found /dev/mapper/leg1 <<<"fence $(leg leg1 65536 2 0)"
check "one that begins further on" found /dev/mapper/leg2 <<E2
linear /dev/mapper/leg2 49152 | $(uuid_of 3) 2048 0 49152
endpoint $(uuid_of 3) 51200 $(uuid_of 3) unit 4096 engines 4
E2
dmsetup create m --table "0 32768 mirror core 2 1024 nosync 2 /dev/mapper/leg0 0 /dev/mapper/leg1 0"
dmsetup create lv --table "0 16384 linear /dev/mapper/m 0
16384 1024 linear /dev/mapper/leg2 0"
check "legs beneath a mirror, and that in a concatenation" found /dev/mapper/lv <<E2
linear /dev/mapper/lv 17408 | /dev/mapper/m 0 0 16384 | /dev/mapper/leg2 0 16384 1024
linear /dev/mapper/leg2 49152 | $(uuid_of 3) 2048 0 49152
endpoint $(uuid_of 3) 51200 $(uuid_of 3) unit 4096 engines 4
mirror /dev/mapper/m 32768 | /dev/mapper/leg0 0 | /dev/mapper/leg1 0
fence $(leg leg1 65536 2 0)
endpoint $(leg leg0 65536 1 4)
E2
dmsetup create dek-v --uuid "DEK-$(uuid_of 4)" --table "0 1024 dek $(uuid_of 4) /dev/ram3 0 4096"
check "a volume is no leg" found /dev/mapper/dek-v <<<"device /dev/mapper/dek-v 1024 : is a volume of its own"
undo dek-v lv m leg2 leg1 leg0

# A device that comes and goes all the time: found, or not there, or gone in between; nothing else.
churn() { while :; do dmsetup create churn --table "0 1024 linear /dev/ram0 0" && dmsetup remove --retry churn; done; }
churn >/dev/null 2>&1 &
churning=$!
looks() {
    for _ in $(seq 60); do vm_stack_dump /dev/mapper/churn; done >looks 2>&1
    ! grep -vE '^(linear /dev/mapper/churn 1024 \| /dev/ram0 0 0 1024|device /dev/ram0 65536|not-found: .*|unavailable: .*|invalid-argument: .*)$' looks &&
        grep -q '^linear' looks
}
check "a device that comes and goes" looks
kill $churning
wait $churning 2>/dev/null
dmsetup remove --retry churn 2>/dev/null

# Changes.
vm_stack_dump watch 1000 >events 2>events.log &
watching=$!
told() { # COMMAND...: it is told of, within 2 s
    local before
    sleep 0.5
    before=$(wc -l <events)
    "$@" || return
    for _ in $(seq 20); do
        [ "$(wc -l <events)" -gt "$before" ] && return
        sleep 0.1
    done
    echo "told of nothing"
    return 1
}
not_told() { ! told "$@"; }
poke() { echo change >"/sys/class/block/$1/uevent"; }
listening() { for _ in $(seq 20); do told poke ram0 && return; done; }
check "the watch listens" listening
check "silence" not_told true
check "not of other things than block devices" not_told sh -c 'echo change >/sys/class/mem/null/uevent'
check "told of a device that comes" told dmsetup create new --table "0 1024 linear /dev/ram0 0"
exchange() { dmsetup load new --table "0 2048 linear /dev/ram0 0" && dmsetup resume new; }
check "of a table that is exchanged" told exchange
check "of one that goes" told dmsetup remove new
check "of paths" told dmsetup create mp --table "0 $size multipath 2 queue_mode bio 0 1 1 round-robin 0 $paths"
check "of a path that fails" told dmsetup message mp 0 "fail_path 8:16"
check "of a path that returns" told dmsetup message mp 0 "reinstate_path 8:16"
touch_mp
dmsetup message mp 0 "fail_path 8:16"
check "of a path that is unplugged" told sh -c 'echo 1 >/sys/block/sdb/device/delete'
check "which stays in the stack as long as the table has it" found /dev/mapper/mp <<E2
multipath /dev/mapper/mp $size | /dev/sda 0 | 8:16 (gone) 0 failed
device 8:16 (gone) $size : has gone, and a table still names it
$(disk sda)
E2
undo mp
burst() { # many changes, few calls
    local before start
    sleep 0.5
    before=$(wc -l <events) start=$SECONDS
    for _ in $(seq 300); do poke ram1; done
    sleep 0.5
    calls=$(($(wc -l <events) - before)) most=$(((SECONDS - start + 1) * 5 + 2))
    echo "$calls calls, at most $most"
    [ "$calls" -ge 1 ] && [ "$calls" -le "$most" ]
}
check "a burst is told of at most every 200 ms" burst
flood() { # more than the socket holds, while nobody reads
    kill -STOP $watching
    for _ in $(seq 9000); do echo change; done | while read -r word; do echo "$word" >/sys/class/block/ram1/uevent; done
    sleep 0.5
    kill -CONT $watching
}
check "events that are lost are told of, too" told flood
check "and logged" grep -q block-events-lost events.log
check "and it goes on" told poke ram2
kill $watching
verdict
