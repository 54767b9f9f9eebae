# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The module in and out, the table's grammar, and the endpoint's life beside its tables'.
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
modprobe brd rd_nr=2 rd_size=65536
modprobe dm-mod

# The driver is asked for without aesni_intel loaded: it must find it by itself.
insmod /t/dm-dek.ko
check "the cipher is the CPU's own, not a generic one" sh -c "vm_endpoint $(uuid_of 0) version | grep -q '^xts-aes-\(aesni\|vaes\)'"

wrong() { # NAME TABLE...: the kernel log must say why
    why=$1
    shift
    dmesg -c >/dev/null
    check "refused: $why" refused dmsetup create wrong --table "$*"
    check "and it says so: $why" sh -c "dmesg | grep -q '$why'"
}
u=$(uuid_of 1)
wrong "Need UUID" "0 1024 dek $u /dev/ram0 0"
wrong "Gap in table" "8 1024 dek $u /dev/ram0 0 4096"
wrong "Invalid UUID" "0 1024 dek nonsense /dev/ram0 0 4096"
wrong "Invalid offset" "0 1024 dek $u /dev/ram0 x 4096"
wrong "Invalid offset" "0 1024 dek $u /dev/ram0 18446744073709551608 4096"
wrong "Invalid offset" "0 1024 dek $u /dev/ram0 36028797018963968 4096"
wrong "Invalid data unit" "0 1024 dek $u /dev/ram0 0 256"
wrong "Invalid data unit" "0 1024 dek $u /dev/ram0 0 8192"
wrong "Invalid data unit" "0 1024 dek $u /dev/ram0 0 1536"
wrong "Invalid data unit" "0 1024 dek $u /dev/ram0 0 -1"
wrong "is not a multiple of the data unit" "0 1024 dek $u /dev/ram0 4 4096"
wrong "is not a multiple of the data unit" "0 1020 dek $u /dev/ram0 0 4096"
wrong "Cannot open the device" "0 1024 dek $u /dev/nothing 0 4096"
# a kernel without support of zones makes none
if modprobe null_blk nr_devices=1 gb=1 zoned=1 && ! grep -q none /sys/block/nullb0/queue/zoned; then
    wrong "Zoned devices are not served" "0 1024 dek $u /dev/nullb0 0 4096"
fi
rmmod null_blk
wrong "The device is too small" "0 1024 dek $u /dev/ram0 131064 4096"
wrong "Invalid number of options" "0 1024 dek $u /dev/ram0 0 4096 5 a b c d e"
wrong "Unknown option" "0 1024 dek $u /dev/ram0 0 4096 1 fence:maybe"
wrong "Unknown option" "0 1024 dek $u /dev/ram0 0 4096 1 plaintext"
for size in 256 512 3000 8192 -1 4096x; do
    why="Invalid block size"
    if [ $size = 4096x ] || [ $size = -1 ]; then why="Unknown option\|Invalid block size"; fi
    wrong "$why" "0 1024 dek $u /dev/ram0 0 1024 1 block_size:$size"
done
wrong "Arguments behind the options" "0 1024 dek $u /dev/ram0 0 4096 1 allow_discards more"
check "a table with something beside it is refused" refused dmsetup create wrong --table "0 1024 dek $u /dev/ram0 0 4096
1024 1024 linear /dev/ram0 1024"
check "after all that no endpoint is left" refused e 1 list

for options in "" " 1 fence:hold" " 1 fence:transport" " 1 allow_discards" " 2 fence:hold allow_discards" " 3 fence:hold allow_discards block_size:4096"; do
    table="0 1024 dek $u 1:0 64 4096$options"
    dmsetup create v --table "$table"
    check "TABLE gives back '$table'" [ "$(dmsetup table --showkeys v)" = "$table" ]
    dmsetup remove v
done

dek v 1 4096 /dev/ram0 64 4096
e 1 map 1 64+1024
handle=$(e 1 associate "$key1" 4096 unit 64 0 64+1024)
check "no key in TABLE or STATUS" sh -c "! { dmsetup table --showkeys v; dmsetup status v; } | grep -q 000000000000000000000000"
check "STATUS names the driver" sh -c "dmsetup status v | grep -q 'xts-aes-'"
check "the list names device and volume" sh -c "vm_endpoint $u list | grep -q '^v /dev/block/1:0 64+4096 unit 4096 block 4096 associations 1'"
check "another volume cannot take the endpoint" refused dek w 1 4096 /dev/ram0 64 4096
reload() { dmsetup reload v --table "$*"; }
check "a table with another offset is refused" refused reload "0 4096 dek $u /dev/ram0 72 4096"
check "a table with another data unit is refused" refused reload "0 4096 dek $u /dev/ram0 64 512"
check "a table with another device is refused" refused reload "0 4096 dek $u /dev/ram1 64 4096"
check "a longer table is taken" reload "0 8192 dek $u /dev/ram0 64 4096"
check "and comes live" dmsetup resume v
check "the association is still there" sh -c "vm_endpoint $u list | grep -q '64+8192.*associations 1'"
reload "0 512 dek $u /dev/ram0 64 4096"
check "a length that would cut the association is not resumed" refused dmsetup resume v
reload "0 8192 dek $u /dev/ram0 64 4096"
check "the right length is" dmsetup resume v
check "renamed" dmsetup rename v volume
check "the list shows the new name" sh -c "vm_endpoint $u list | grep -q '^volume '"
dmsetup rename volume v

check "the module cannot go: a live table" refused rmmod dm_dek
dmsetup suspend v
check "the module cannot go: a suspended table" refused rmmod dm_dek
dmsetup resume v
check "disassociate by its handle" e 1 disassociate "$handle"
token=$(e 1 quiesce 64+64)
check "a token" [ -n "$token" ]
check "removed with a token and no reader" dmsetup remove v
dmsetup create inactive --notable
dmsetup reload inactive --table "0 1024 dek $u /dev/ram0 64 4096"
check "the module cannot go: an inactive table" refused rmmod dm_dek
check "an endpoint exists from the inactive table on" e 1 list
dmsetup remove inactive
exec 5</dev/dek-control
check "the module cannot go: its control device is open" refused rmmod dm_dek
exec 5<&-
check "the module goes" rmmod dm_dek
for n in 1 2 3 4 5; do
    insmod /t/dm-dek.ko && dek v 1 4096 /dev/ram0 64 4096 && e 1 map 1 64+1024 &&
        e 1 associate "$key1" 4096 unit 64 0 64+1024 >/dev/null &&
        e 1 update "$(e 1 associate "$key2" 4096 unit 64 0 2048+64)" "$key1" 4096 unit 64 0 2048+64 &&
        dd if=/dev/zero of=/dev/mapper/v bs=64k count=4 oflag=direct 2>/dev/null &&
        dmsetup remove v && rmmod dm_dek
    check "in and out with keys, at once, $n" [ $? = 0 ]
done
check "an accelerator that is not there is an error" refused insmod /t/dm-dek.ko accel=nonsense
verdict
