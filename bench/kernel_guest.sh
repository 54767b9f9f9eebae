# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# In the virtual machine, whose clock counts instructions: one line `cost TARGET WHAT NS` for each measurement.
# Set by the caller: suite ("all", or "write" alone).
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
for module in dm-mod dm-crypt aesni-intel xts brd; do modprobe $module rd_nr=1 rd_size=1048576 2>/dev/null || modprobe $module; done
dd if=/dev/zero of=/dev/ram0 bs=1M count=128 2>/dev/null
sectors=262144

# The CPU is never idle, so time over I/Os is instructions per I/O.
run() { # DEVICE RW BS [FIO ARGS]
    fio --name=x --filename="$1" --rw="$2" --bs="$3" --iodepth=8 --ioengine=libaio --direct=1 --size=120M --time_based \
        --runtime=500ms --norandommap --randrepeat=1 --minimal "${@:4}" | awk -F';' '{printf "%.1f\n", 1e9 / ($8 > $49 ? $8 : $49)}'
}
cost() { echo "cost $1 $2 $3"; }
measure() { # TARGET DEVICE WHAT...
    target=$1 device=$2
    shift 2
    for what in "$@"; do
        case $what in
        r4) cost "$target" r4 "$(run "$device" randread 4k)" ;;
        w4) cost "$target" w4 "$(run "$device" randwrite 4k)" ;;
        r128) cost "$target" r128 "$(run "$device" read 128k)" ;;
        w128) cost "$target" w128 "$(run "$device" write 128k)" ;;
        esac
    done
}
keyed() { # a volume `v` with all of it under one key
    dek v 1 $sectors /dev/ram0 0 4096
    e 1 map 1 0+$sectors
    e 1 associate "$key1" 4096 unit 0 0 0+$sectors >/dev/null
}

insmod /t/dek-measure.ko
dmsetup create pass --table "0 $sectors pass /dev/ram0"
dmsetup create ideal --table "0 $sectors pass /dev/ram0 cipher"
run /dev/ram0 randread 4k >/dev/null # the first run of a boot is slower

measure ideal /dev/mapper/ideal r4 w4
insmod /t/dm-dek.ko
keyed
measure dek /dev/mapper/v r4 w4
if [ "$suite" = write ]; then exit 0; fi
measure dek /dev/mapper/v r128 w128
dmsetup remove v
dek plain 1 $sectors /dev/ram0 0 4096
e 1 map 1 $((sectors - 64))+64 # a plain stretch beside an encrypted one
measure plain /dev/mapper/plain r4 w4
dmsetup remove plain

measure raw /dev/ram0 r4 w4
measure pass /dev/mapper/pass r4 w4
dmsetup create linear --table "0 $sectors linear /dev/ram0 0"
measure linear /dev/mapper/linear r4 w4
dmsetup create crypt --table "0 $sectors crypt aes-xts-plain64 $key1 0 /dev/ram0 0 2 sector_size:4096 iv_large_sectors"
measure crypt /dev/mapper/crypt r4 w4
dmsetup create nowq --table "0 $sectors crypt aes-xts-plain64 $key1 0 /dev/ram0 0 4 sector_size:4096 iv_large_sectors no_read_workqueue no_write_workqueue"
measure nowq /dev/mapper/nowq r4 w4 r128 w128

# 60 ranges, and 100,000, of the same 800 MiB; only keyed blocks are read.
many() { run /dev/mapper/v randread 4k --size=780M --blockalign=8k; }
dek v 2 1638400 /dev/ram0 0 4096
e 2 map 1
e 2 install 60 0 27304 27288 "$key1" >/dev/null
cost ranges60 r4 "$(many)"
dmsetup remove v
dek v 3 1638400 /dev/ram0 0 4096
e 3 map 1
cost install 100k "$(e 3 install 100000 0 16 8 "$key1")"
cost ranges100k r4 "$(many)"
dmsetup remove v

rmmod dm_dek
insmod /t/dm-dek-null.ko
keyed
measure null /dev/mapper/v r4 w4
