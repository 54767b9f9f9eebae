# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# base: small
# vm_replay, on which the suite `order` rests, against what dm-log-writes really records.
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
cd /tmp || exit
modprobe loop
modprobe dm-log-writes
for n in 1 2 3; do head -c 65536 /dev/urandom >text$n; done
put() { dd if="text$1" of=/dev/mapper/v bs=16k seek="$2" oflag=direct conv=notrunc,fsync 2>/dev/null; }
mark() { dmsetup message v 0 mark "$1"; }
number() { grep " mark $1\$" points | cut -d' ' -f1; }
played() { vm_replay log apply replay "$1" "$2"; }

for block in 512 4096; do
    rm -f disk log replay
    truncate -s 4M disk replay
    truncate -s 8M log
    dmsetup create v --table "0 8192 log-writes $(loop disk $block) $(loop log $block)"
    put 1 0
    put 2 8
    check "$block: a mark" mark "first:done"
    cp disk disk.first
    put 3 1
    blkdiscard -o 131072 -l 65536 /dev/mapper/v
    check "$block: another" mark second
    put 2 32
    dmsetup remove v
    losetup -a | cut -d: -f1 | while read -r l; do losetup -d "$l"; done
    check "$block: it lists the points" sh -c "vm_replay log points >points"
    check "$block: with flushes or FUA writes among them" grep -qE '^[0-9]+ (flush|fua)$' points
    check "$block: with both marks, and the end last" sh -c "grep ' mark ' points | cut -d' ' -f3 | tr '\n' ' ' | grep -qx 'first:done second dm-log-writes-end '"
    check "$block: played back up to the first mark" played 0 "$(number first:done)"
    check "$block: it is what the device held then" cmp replay disk.first
    check "$block: and not yet what it held later" refused cmp -s replay disk
    check "$block: played back to the end" played $(($(number first:done) + 1)) "$(number dm-log-writes-end)"
    check "$block: it is what the device holds" cmp replay disk
done
check "what is no log is refused" refused vm_replay disk points
verdict
