# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# once: 6.1
# The scanner and the load, on which the other suites rest, against what the kernel really writes and records: dek and
# dm-crypt pass, a wrong tweak and what is planted are found.
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
# shellcheck source=tests/vm/recorded.sh
. /t/recorded.sh
cd /tmp || exit
load
disks 3 64
printf '%s' "$key1" | sed 's/../\\x&/g' >escaped
printf "$(cat escaped)" >k1
sectors=131072 crypted=65536 # LBAs 2048 and on are the volume's 0 and on; of those the first half is encrypted

begin() { record leg /dev/ram0 /dev/ram2; }
scan() { # [ARGUMENTS...]
    vm_scan /dev/ram2 "$@" --key k1 --map 2048-$((2048 + crypted - 1))@0 --plain $((2048 + crypted))-$((sectors - 1))@$crypted
}
found() { # PATTERN [ARGUMENTS...]: the scan fails and says so
    pattern=$1
    shift
    if scan "$@" >scan.log 2>&1; then cat scan.log; return 1; fi
    grep -q -e "$pattern" scan.log || { cat scan.log; false; }
}
keyed() { # [KEY]
    dek v 1 $((sectors - 2048)) /dev/mapper/leg 2048 4096
    e 1 map 1 2048+$crypted
    e 1 associate "${1:-$key1}" 4096 unit 2048 0 2048+$crypted >/dev/null
}
# shellcheck disable=SC2120 # through check
some_load() { vm_load /dev/mapper/v --seconds 2 --fsync 16 --pause 1000 "$@"; }

begin
keyed
check "dek: the load reads what it wrote" some_load --state state
dmsetup remove v
dmsetup create v --table "$(crypt_table $crypted "$key1" 0 /dev/mapper/leg 2048 4096 unit)
$crypted $((sectors - 2048 - crypted)) linear /dev/mapper/leg $((2048 + crypted))"
check "dm-crypt reads it" vm_load verify /dev/mapper/v --state state
check "and writes more" some_load --state state --seed 2
dmsetup remove v
unrecord leg
check "the scan finds nothing wrong" scan --least 1000
sed 's/^/    /' check.log
check "with the other tweak rule it is wrong" found "does not decrypt" --tweak lba512
check "an LBA further, too" refused vm_scan /dev/ram2 --key k1 --map 2048-$((2048 + crypted - 1))@8
check "in the plain range it is plain" refused vm_scan /dev/ram2 --key k1 --map 2048-$((2048 + crypted - 1))@0

# Planted: beneath the volume, in the clear, in one sector.
begin
keyed
check "a load" some_load
vm_load /dev/ram1 --seconds 1 --range 0-63 --reads 0 >/dev/null
dd if=/dev/ram1 of=/dev/mapper/leg bs=4k seek=5000 count=1 oflag=direct 2>/dev/null
dmsetup remove v
unrecord leg
check "a planted sector is found" found "LBA 40000: the volume's contents in the clear"

begin
keyed
some_load >/dev/null
dd if=/dev/zero of=/dev/mapper/leg bs=512 seek=40003 count=1 oflag=direct 2>/dev/null
dmsetup remove v
unrecord leg
check "part of a unit is found" found "LBA 40003: a part of a data unit"

begin
keyed "$key2"
check "a load under another key" some_load
dmsetup remove v
unrecord leg
check "is found" found "does not decrypt"

begin
blkdiscard -o $((30000 * 512)) -l 65536 /dev/mapper/leg
dmsetup remove_all
check "a discard in the encrypted range is found" found "LBA 30000: a discard" --least 0
dmsetup create small --table "0 2048 linear /dev/ram2 0"
record leg /dev/ram0 /dev/mapper/small
keyed
check "a load that fills the log" some_load
dmsetup remove v
unrecord leg
check "a log that is full is found" found "the log has no end"
dmsetup remove small
begin
unrecord leg
check "a leg that was written nothing is not found good" refused scan --allow discards
verdict
