# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The inline engine with the kernel's software fallback as hardware: byte for byte what the CPU's cipher and dm-crypt
# read, and what it refuses.
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
modprobe loop
dd if=/dev/urandom of=/tmp/plain bs=64k count=64 2>/dev/null
truncate -s 16M /tmp/disk
plain() { cmp -n 4194304 /tmp/plain "$1"; }
put() { dd if=/tmp/plain of=/dev/mapper/v bs=256k count=16 oflag=direct 2>/dev/null; }
serve() { # UNIT RULE: a volume of 8192 sectors and its neighbour's key
    dek v 1 16384 "$device" 1024 "$1"
    e 1 map 1 1024+16384
    e 1 associate "$key1" "$1" "$2" 1024 64 1024+4096 >/dev/null && e 1 associate "$key2" "$1" "$2" 1024 64 5120+4096 >/dev/null
}
halves() { # what dm-crypt reads of the two ranges is the plaintext's halves: UNIT RULE
    local n key
    for n in 0 1; do
        key=key$((n + 1))
        dmsetup create c --table "$(crypt_table 4096 "${!key}" $((64 + n * 4096)) "$device" $((1024 + n * 4096)) "$1" "$2")"
        cmp -n 2097152 -i $((n * 2097152)):0 /tmp/plain /dev/mapper/c || { dmsetup remove c; return 1; }
        dmsetup remove c
    done
}
engine() { e 1 engine; }

for block in 512 4096; do
    device=$(loop /tmp/disk $block)
    for shape in "512 unit" "512 lba512" "4096 unit"; do
        # shellcheck disable=SC2086
        set -- $shape
        if [ $block = 4096 ] && [ "$1" = 512 ]; then continue; fi
        load inline_crypto=fallback
        check "blocks of $block, $shape: keys are taken" serve "$1" "$2"
        check "blocks of $block, $shape: the engine in use is inline" [ "$(engine)" = inline ]
        put
        check "blocks of $block, $shape: read back" plain /dev/mapper/v
        check "blocks of $block, $shape: by blocks of one unit, too" sh -c "dd if=/dev/mapper/v bs=$1 count=512 iflag=direct 2>/dev/null | cmp -n $((512 * $1)) - /tmp/plain"
        check "blocks of $block, $shape: not in the clear" refused cmp -n 4096 -i 0:524288 /tmp/plain /tmp/disk
        check "blocks of $block, $shape: what dm-crypt reads" halves "$1" "$2"
        dmsetup remove v
        check "blocks of $block, $shape: the module goes" rmmod dm_dek
        load inline_crypto=off
        serve "$1" "$2"
        check "blocks of $block, $shape: the engine in use is the CPU's" [ "$(engine)" = cpu ]
        check "blocks of $block, $shape: it reads the same" plain /dev/mapper/v
        dmsetup remove v
        rmmod dm_dek
    done
    losetup -d "$device"
done

load inline_crypto=fallback
device=$(loop /tmp/disk 512)
check "lba512 with units of 4096 is not what it can do" refused serve 4096 lba512
dmsetup remove v
serve 4096 unit
check "fio verifies through it, updates and holds beside" sh -c "fio --name=v --filename=/dev/mapper/v --rw=randrw --bsrange=4k-192k --ioengine=libaio \
    --iodepth=8 --direct=1 --size=4m --verify=crc32c --verify_fatal=1 --loops=3"
check "and buffered" fio --name=v --filename=/dev/mapper/v --rw=randrw --bsrange=4k-192k --size=4m --verify=crc32c --verify_fatal=1 --fsync=32
dmsetup remove v
check "the module goes" rmmod dm_dek
load
dek v 1 16384 "$device" 1024 4096
check "without fallback a device that cannot has the CPU's" [ "$(engine)" = cpu ]
dmsetup remove v
check "the module goes" rmmod dm_dek
verdict
