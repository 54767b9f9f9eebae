# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Byte for byte what dm-crypt writes, and the other way round.
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
load
length=2048
dd if=/dev/urandom of=/tmp/plain bs=64k count=64 2>/dev/null
dd if=/dev/urandom of=/tmp/other bs=64k count=64 2>/dev/null

copy() { dd if="$1" of="$2" bs=64k count=16 oflag=direct conv=notrunc 2>/dev/null; }
same() { dd if="$2" bs=64k count=16 iflag=direct 2>/dev/null | cmp -n 1048576 - "$1"; }

# both ways: UNIT RULE BLOCK OFFSET LOGICAL
compare() {
    unit=$1 rule=$2 block=$3 offset=$4 logical=$5
    what="unit $unit, $rule, device of $block, offset $offset, logical $logical"
    rm -f /tmp/disk
    truncate -s $(((offset + length) * 512 + 1048576)) /tmp/disk
    device=$(loop /tmp/disk "$block")
    dek v 1 $length "$device" "$offset" "$unit"
    e 1 map 1 "$offset+$length"
    e 1 associate "$key1" "$unit" "$rule" "$offset" "$logical" "$offset+$length" >/dev/null
    copy /tmp/plain /dev/mapper/v
    check "read back: $what" same /tmp/plain /dev/mapper/v
    check "not in the clear: $what" refused cmp -n 4096 -i 0:$((offset * 512)) /tmp/plain /tmp/disk
    dmsetup remove v
    dmsetup create c --table "$(crypt_table $length "$key1" "$logical" "$device" "$offset" "$unit" "$rule")"
    check "dm-crypt reads it: $what" same /tmp/plain /dev/mapper/c
    copy /tmp/other /dev/mapper/c
    dmsetup remove c
    dek v 1 $length "$device" "$offset" "$unit"
    e 1 map 1 "$offset+$length"
    e 1 associate "$key1" "$unit" "$rule" "$offset" "$logical" "$offset+$length" >/dev/null
    check "and is read: $what" same /tmp/other /dev/mapper/v
    dmsetup remove v
    losetup -d "$device"
}

for rule in unit lba512; do
    for place in "0 0" "2048 0" "5000000000 0" "2048 6000000000" "8589934592 34359738368"; do
        # shellcheck disable=SC2086
        for shape in "4096 $rule 512" "4096 $rule 4096"; do compare $shape $place; done
        # with units of 512 bytes both rules are one
        # shellcheck disable=SC2086
        if [ $rule = unit ]; then compare 512 $rule 512 $place; fi
    done
done
compare 1024 unit 512 2048 64
compare 2048 lba512 512 2048 64

# Every border: three keys, a plain and a reserved range, and one bio over all of them.
length=8192
rm -f /tmp/disk
truncate -s 8M /tmp/disk
device=$(loop /tmp/disk 512)
dek v 1 $length "$device" 1024 512
e 1 map 1 1024+4096 reserved:9000+216
e 1 associate "$key1" 512 unit 1024 0 1024+1001 >/dev/null
e 1 associate "$key2" 512 unit 1024 0 2025+1 2030+3 >/dev/null
e 1 associate "$key1" 512 unit 0 777 2026+4 2033+3087 >/dev/null
dd if=/tmp/plain of=/dev/mapper/v bs=512 count=7976 oflag=direct 2>/dev/null
dd if=/tmp/plain of=/dev/mapper/v bs=3988k count=1 oflag=direct 2>/dev/null
check "one write over every border is read back" cmp -n $((7976 * 512)) /tmp/plain /dev/mapper/v
part() { # FIRST COUNT KEY IV-OFFSET: what lies there, through dm-crypt, is the plaintext's part
    dmsetup create c --table "$(crypt_table "$2" "$3" "$4" "$device" "$1" 512 unit)"
    check "dm-crypt reads $1+$2" cmp -n $(($2 * 512)) -i $((($1 - 1024) * 512)):0 /tmp/plain /dev/mapper/c
    dd if=/tmp/other of=/dev/mapper/c bs=512 count="$2" skip=$(($1 - 1024)) oflag=direct 2>/dev/null
    dmsetup remove c
}
part 1024 1001 "$key1" 0
part 2025 1 "$key2" 1001
part 2030 3 "$key2" 1006
part 2026 4 "$key1" $((777 + 2026))
part 2033 3087 "$key1" $((777 + 2033))
check "the plain rest is plain" cmp -n $((3880 * 512)) -i $((4096 * 512)):$((5120 * 512)) /tmp/plain /tmp/disk
echo 3 >/proc/sys/vm/drop_caches
check "what dm-crypt wrote to each range is read" cmp -n $((4096 * 512)) /tmp/other /dev/mapper/v
check "a write to the reserved range is refused" refused dd if=/tmp/plain of=/dev/mapper/v bs=4k count=1 seek=997 oflag=direct
check "a read of it is not" dd if=/dev/mapper/v of=/dev/null bs=4k count=1 skip=997 iflag=direct
dmsetup remove v
losetup -d "$device"
check "the module goes" rmmod dm_dek
verdict
