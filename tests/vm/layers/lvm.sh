# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# seconds: 2400
# memory: 4G
# once: 6.1
# Endpoints encrypt beneath LVM, under a load: its volume is moved from leg to leg, mirrored and grown, others are made beside
# it, a snapshot is taken, and kcmd is killed while data moves. Every write to each leg is recorded: none is in the clear.
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
# shellcheck source=tests/vm/stack.sh
. /t/stack.sh
# shellcheck source=tests/vm/recorded.sh
. /t/recorded.sh
cd /tmp || exit
disks 8 1024
for module in dm-raid raid1 dm-mirror dm-snapshot; do modprobe $module; done
load
mkdir -p /etc/lvm /run/lvm /run/lock/lvm
export LVM_SYSTEM_DIR=/etc/lvm LVM_SUPPRESS_FD_WARNINGS=1
cat >/etc/lvm/lvm.conf <<'C'
activation { udev_sync=0 udev_rules=0 monitoring=0 }
devices { use_devicesfile=0 scan=["/dev/mapper"] filter=["a|^/dev/mapper/dekleg-|","r|.*|"] obtain_device_list_from_udev=0 multipath_component_detection=0 }
global { use_lvmpolld=0 event_activation=0 }
backup { backup=0 archive=0 }
C
check "kcmd" start_stack --shim kernel --switch-back 3
check "keys" make_keys

# Legs a, b, c: 96 MiB each, recorded on /dev/ram3, ram5, ram7.
length=196608
legs() {
    local n=0 leg
    for leg in a b c; do
        dmsetup create disk-$leg --table "0 $length linear /dev/ram$((2 * n + (n > 0 ? 2 : 0))) 0" || return
        record rec-$leg /dev/mapper/disk-$leg /dev/ram$((2 * n + 3)) && d endpoint create /dev/mapper/rec-$leg --name $leg || return
        n=$((n + 1))
    done
}
check "legs" legs
a=/dev/mapper/dekleg-a b=/dev/mapper/dekleg-b c=/dev/mapper/dekleg-c
check "a volume group" lvm vgcreate -s 4m vg $a $b $c
check "a logical volume" lvm lvcreate -y -Zn -Wn -an -L 32m -n lv vg $a
check "is active" lvm lvchange -ay vg/lv
lv=/dev/mapper/vg-lv
check "protect" d protect $lv --name v --key k64
check "the legs encrypt" by v endpoints
fenced() { # LEG: it has ranges in its map
    local map
    map=$(vm_endpoint "$(dmsetup table "dekleg-$1" | awk '{print $4}')" list) && echo "$map" && [ "${map/ ranges 0 /}" = "$map" ]
}
check "what nobody uses is fenced" fenced b
check "dekctl topology says so" shows 'guards [0-9]* LBAs' d topology v
begin_load /dev/dek/v --range 0-32767 --fsync 32 --pause 4000 --most 32

echo "    $SECONDS s: others in the group"
check "another logical volume is made, and wiped" timeout 120 lvm lvcreate -y -Wn -L 8m -n other vg $b
check "its file system" eventually timeout 120 mkfs.ext4 -q /dev/mapper/vg-other
check "is as it was written" e2fsck -fn /dev/mapper/vg-other
check "the volume stays with the legs" by v endpoints
loaded || bad=1

echo "    $SECONDS s: pvmove"
check "pvmove from a to b" timeout 300 lvm pvmove -i 1 -n lv $a $b
check "its logical volume is on b" shows dekleg-b lvm lvs --noheadings -o devices vg/lv
check "by the legs all the time" by v endpoints
check "it is up" up v
check "nothing strayed" refused grep -q "in the clear" $kcmd_log
loaded || bad=1

echo "    $SECONDS s: pvmove, kcmd killed"
lvm pvmove -b -i 1 -n lv $b $c >/tmp/pvmove.log 2>&1 &
sleep 0.7
kill_kcmd
sleep 6
start_kcmd --shim kernel --switch-back 3
answers
moved() { lvm lvs --noheadings -o devices vg/lv | grep -q dekleg-c && ! dmsetup info vg-pvmove0 >/dev/null 2>&1; }
check "a pvmove goes on when kcmd is back" eventually moved
wait_for_pvmove() { for _ in $(seq 60); do moved && return; timeout 100 lvm pvmove -i 1 >/dev/null 2>&1; sleep 1; done; moved; }
check "and comes to its end" wait_for_pvmove
check "the legs encrypt still" eventually by v endpoints
loaded || bad=1

echo "    $SECONDS s: mirrors"
copied() { lvm lvs --noheadings -o copy_percent vg/lv | grep -q 100; }
for type in mirror raid1; do
    mirror=()
    [ $type = mirror ] && mirror=(--mirrorlog core)
    check "$type: lvconvert" timeout 300 lvm lvconvert -y --type $type -m1 "${mirror[@]}" vg/lv $a
    check "$type: all is copied" eventually copied
    check "$type: the legs encrypt" eventually by v endpoints
    loaded || bad=1
    check "$type: and back" timeout 300 lvm lvconvert -y -m0 vg/lv $c
    check "$type: to one leg" shows dekleg-a lvm lvs --noheadings -o devices vg/lv
    check "$type: by that" eventually by v endpoints
    [ $type = mirror ] && check "moved on" timeout 300 lvm pvmove -i 1 -n lv $a $c
done

echo "    $SECONDS s: more"
check "lvextend" timeout 100 lvm lvextend -L +8m vg/lv $b
check "resize" d resize v
check "the legs encrypt the rest, too" eventually by v endpoints
check "which takes writes" dd if=/dev/zero of=/dev/dek/v bs=4k seek=8200 count=16 oflag=direct

echo "    $SECONDS s: a snapshot"
check "before it, the work goes above" d switch v --to software
check "lvcreate -s" timeout 300 lvm lvcreate -y -s -L 16m -n snap vg/lv $b
sleep 2
check "it is a good one" shows ' snapshot [0-9]' dmsetup status vg-snap
check "the load goes on" loaded
check "the snapshot goes" timeout 100 lvm lvremove -y vg/snap
check "and the work back" d switch v --to auto
check "to the legs" eventually by v endpoints
check "nothing was lost, and no error seen" end_load
load_did
check "detach" d detach v
check "what nobody uses is open again" refused fenced b
check "attach" d attach $lv
check "all of it is there" vm_load verify /dev/dek/v --state load.state

# Planted: the scan finds what is written in the clear.
d detach v
vm_load $b --range $((length - 64))-$((length - 1)) --seconds 1 --state planted.state >/dev/null 2>&1
lvm vgchange -an vg >/dev/null 2>&1
for leg in a b c; do d endpoint remove $leg; done
unrecord rec-a rec-b rec-c
scan() { vm_scan "$1" --allow any --least 0; }
for leg in a c; do
    n=$([ $leg = a ] && echo 3 || echo 7)
    check "nothing in the clear was written to $leg" scan "/dev/ram$n"
    sed -n 's/^vm_scan/    vm_scan/p' check.log
done
only_planted() { # nothing else on b
    ! scan /dev/ram5 >found 2>&1 && grep -q "in the clear" found &&
        ! sed -n 's/.*LBA \([0-9]*\).*/\1/p' found | awk -v from=$((length - 64)) '$1 < from' | grep .
}
check "what was planted on b is found, and nothing else" only_planted
kill_kcmd
umount /disk
finish
