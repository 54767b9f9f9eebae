# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# seconds: 1200
# memory: 3G
# once: yes
# The document's own stack (Figs. 4 to 6) with its LBAs. L1 is a concatenation over the disk D1, which has paths through two
# encrypting HBAs and a plain one, and D4, which has one of each; L2 over D2, through two encrypting HBAs, and D3, through a plain
# one only. HBAs that encrypt are legs; a plain one is a leg without an engine, or, for D3, no leg at all. Every write through
# each HBA is recorded and judged.
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
# shellcheck source=tests/vm/stack.sh
. /t/stack.sh
# shellcheck source=tests/vm/recorded.sh
. /t/recorded.sh
cd /tmp || exit
modprobe brd rd_nr=12 rd_size=2097152 # takes memory only for what is written
for module in dm-log-writes dm-multipath dm-round-robin; do modprobe $module; done
load
check "kcmd" start_stack --shim kernel --switch-back 3
check "keys" make_keys

# The paths of a disk: recorded each for itself, on /dev/ramN.
disk_of() { # NAME RAM
    dmsetup create "$1" --table "0 4000000 linear /dev/ram$2 0"
}
hba() { # NAME DISK LOG-RAM [ENDPOINT ARGUMENTS...]
    record "$1-path" "/dev/mapper/$2" "/dev/ram$3" && d endpoint create "/dev/mapper/$1-path" --name "$1" --data-unit 512 --fence transport "${@:4}"
}
paths() { # NAME LEG...: round robin over them, bio by bio
    local disk=$1 leg list=''
    shift
    for leg in "$@"; do list="$list /dev/mapper/dekleg-$leg 1"; done
    dmsetup create "$disk" --table "0 4000000 multipath 2 queue_mode bio 0 1 1 round-robin 0 $# 1$list"
}
number() { dmsetup info -c --noheadings -o major,minor "$1"; }
path_states() { dmsetup status "$1" | grep -o '[0-9]*:[0-9]* [AF]'; }
scan() { # LEG LOG-RAM LEAST MAPS...
    check "$1: what was written is right" vm_scan "/dev/ram$2" --key k64 --unit 512 --least "$3" "${@:4}"
    sed -n 's/^vm_scan/    vm_scan/p' check.log
}
to() { d switch v --to "$1" && by v "$2"; }
keyed() { vm_endpoint "$(dmsetup table "dekleg-$1" | cut -d' ' -f4)" list | grep 'associations [1-9]'; }
above() { by v endpoint || by v software; }
encrypted=1536-10239,11264-20479 # of the document's LUNs; 0-1535 and 10240-11263 are plain
l1_load() { begin_load /dev/dek/v --block 512 --most 32 --pause 3000 --range 0-1023 --range 1536-20479; }

# ---- L1: 10240-11263 are plain and lie somewhere else on D4

disk_of D1 0
disk_of D4 2
check "D1 through EHBA1" hba D1-EHBA1 D1 3
check "D1 through EHBA3" hba D1-EHBA3 D1 4
check "D1 through NHBA1" hba D1-NHBA1 D1 5 --no-engine
check "D4 through EHBA1" hba D4-EHBA1 D4 6
check "D4 through NHBA1" hba D4-NHBA1 D4 7 --no-engine
check "paths to D1" paths mD1 D1-EHBA1 D1-EHBA3 D1-NHBA1
check "paths to D4" paths mD4 D4-EHBA1 D4-NHBA1
check "L1" dmsetup create L1 --table "0 10240 linear /dev/mapper/mD1 998464
10240 1024 linear /dev/mapper/mD4 500000
11264 4608 linear /dev/mapper/mD4 2097152
15872 4608 linear /dev/mapper/mD4 3145728"
check "L1: protect" d protect /dev/mapper/L1 --name v --key k64 --in-place --data-unit 512 --encrypt $encrypted
check "L1: the HBAs that can encrypt do" by v endpoints
for leg in D1-EHBA1 D1-EHBA3 D4-EHBA1; do check "L1: $leg has a key" keyed $leg; done
for leg in D1-NHBA1 D4-NHBA1; do check "L1: $leg has none" refused keyed $leg; done
check "L1: topology says that NHBA1 is fenced" shows 'D1-NHBA1 *fence .*can fence and not encrypt' d topology v
l1_load
check "L1: to software" to software software
check "L1: and back" to endpoint endpoints
check "L1: and once more" to software software
for disk in D1 D4; do dmsetup message m$disk 0 reinstate_path "$(number dekleg-$disk-NHBA1)"; done
sleep 1
check "L1: by dm-crypt NHBA1 carries I/O, too" refused shows ' F' path_states mD1
check "L1: and back again" to endpoint endpoints
sleep 2

# Fig. 6: EHBA1 fails. D4 has no encrypting path any more, D1 still has EHBA3: the work moves above L1, to a dek target there
# or to dm-crypt. What D4 cannot take meanwhile queues.
for disk in mD1 mD4; do dmsetup message $disk 0 queue_if_no_path; done
for disk in D1 D4; do dmsetup message m$disk 0 fail_path "$(number dekleg-$disk-EHBA1)"; done
check "L1: EHBA1 fails: who is above takes over" eventually above
check "L1: and topology says why" shows 'D4' d topology v
sleep 2
check "L1: the load goes on" loaded
for disk in D1 D4; do dmsetup message m$disk 0 reinstate_path "$(number dekleg-$disk-EHBA1)"; done
for _ in 1 2 3; do by v endpoints >/dev/null || eventually by v endpoints >/dev/null; done
check "L1: EHBA1 is back: the HBAs encrypt again" by v endpoints
check "L1: nothing was lost" end_load
load_did
check "L1: all of it is there" vm_load verify /dev/dek/v --state load.state --range 0-1023 --range 1536-20479
check "L1: detach" d detach v
dmsetup remove L1
dmsetup remove mD4
dmsetup remove mD1
for leg in D1-EHBA1 D1-EHBA3 D1-NHBA1 D4-EHBA1 D4-NHBA1; do
    check "$leg goes" d endpoint remove $leg
    unrecord $leg-path
done
on_d1="--map 1000000-1008703@1536 --plain 998464-999999@0"
on_d4="--map 2097152-2101759@11264 --map 3145728-3150335@15872 --plain 500000-501023@10240"
# shellcheck disable=SC2086
{
    scan D1-EHBA1 3 1 $on_d1
    scan D1-EHBA3 4 1 $on_d1
    scan D1-NHBA1 5 1 $on_d1 # by dm-crypt's ciphertext
    scan D4-EHBA1 6 1 $on_d4
    scan D4-NHBA1 7 1 $on_d4
}
dmsetup remove D1
dmsetup remove D4
rm -f load.state

# ---- L2: D3 lies behind a plain HBA only, without a leg

disk_of D2 8
disk_of D3 9
check "D2 through EHBA2" hba D2-EHBA2 D2 3
check "D2 through EHBA3" hba D2-EHBA3 D2 4
check "paths to D2" paths mD2 D2-EHBA2 D2-EHBA3
record D3-NHBA1 /dev/mapper/D3 /dev/ram5
check "L2" dmsetup create L2 --table "0 10240 linear /dev/mapper/mD2 32000
10240 10240 linear /dev/mapper/D3-NHBA1 32000"
check "L2: protect" d protect /dev/mapper/L2 --name v --key k64 --in-place --data-unit 512 --encrypt $encrypted
check "L2: the endpoints beneath cannot" above
check "L2: and topology says why" shows 'D3-NHBA1' d topology v
who v | sed 's/^/    L2: /'
l1_load
check "L2: to software" to software software
check "L2: the table has no key" keyless dek-v k64
sleep 2
check "L2: nothing was lost" end_load
load_did
check "L2: all of it is there" vm_load verify /dev/dek/v --state load.state --range 0-1023 --range 1536-20479
check "L2: detach" d detach v
dmsetup remove L2
dmsetup remove mD2
for leg in D2-EHBA2 D2-EHBA3; do
    check "$leg goes" d endpoint remove $leg
    unrecord $leg-path
done
unrecord D3-NHBA1
on_d2="--map 33536-42239@1536 --plain 32000-33535@0"
# shellcheck disable=SC2086
{
    scan D2-EHBA2 3 1 $on_d2
    scan D2-EHBA3 4 1 $on_d2
    scan D3-NHBA1 5 1 --map 33024-42239@11264 --plain 32000-33023@10240
}

kill_kcmd
umount /disk
check "the module goes when kcmd has" rmmod dm_dek
finish
