# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# seconds: 1500
# once: 6.1
# Multipath maps of the controller's over two SCSI hosts that reach one disk: paths that fail, return, go and come under load,
# paths added and taken away, all of them gone while I/O waits; what is no path to the same disk is refused.
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
# shellcheck source=tests/vm/stack.sh
. /t/stack.sh
cd /tmp || exit
modprobe brd rd_nr=4 rd_size=393216
load
check "kcmd" start_stack --shim kernel
check "keys" make_keys
modprobe sd_mod
modprobe scsi_debug dev_size_mb=64 add_host=2 per_host_store=0 vpd_use_hostno=0
paths() { for disk in /sys/block/sd*; do basename "$disk"; done; }
check "two paths" eventually eval '[ "$(paths | wc -l)" = 2 ]'
[ "$bad" = 0 ] || finish || exit
a=$(paths | head -n 1) b=$(paths | tail -n 1)
host() { readlink -f "/sys/block/$1/device" | grep -o 'host[0-9]*' | tail -n 1; }
host_b=$(host "$b")

check "what is no path to the same disk is refused" fails "not paths to one disk" d endpoint create "/dev/$a" /dev/ram0 --multipath mp
check "two blank disks, too" fails "nothing in their first MiB\|not paths to one disk" d endpoint create /dev/ram2 /dev/ram3 --multipath mp
check "nothing was made" shows "No devices found" dmsetup ls
check "a map over both" d endpoint create "/dev/$a" "/dev/$b" --multipath mp --queue-if-no-path
check "bio-based, no handler" shows 'queue_if_no_path .*queue_mode bio 0 1 1 service-time 0 2 ' dmsetup table mp
check "its legs answer so that it tries elsewhere" shows 'fence:transport' dmsetup table "dekleg-$a"
check "its UUID" shows '^DEKMP-' dmsetup info -c --noheadings -o uuid mp
check "a path is no leg of its own" fails "endpoint already" d endpoint create "/dev/$a"
check "the list" shows '"multipath": *"mp"' d --json endpoint list
check "one of its paths is not removed beneath it as the last" d endpoint remove "$b"
check "one path is left" shows 'bio 0 1 1 service-time 0 1 ' dmsetup table mp
check "and that one stays" fails "last path" d endpoint remove "$a"
check "a path is added" d endpoint create "/dev/$b" --multipath mp --group 2
check "in its group" shows 'bio 0 2 1 service-time 0 1 .* service-time 0 1 ' dmsetup table mp
d endpoint remove "$b"
d endpoint create "/dev/$b" --multipath mp

states() { dmsetup status mp | grep -o '[0-9]*:[0-9]* [AF] ' | cut -d' ' -f2 | tr -d '\n'; }
are() { [ "$(states)" = "$1" ] || [ "$(states)" = "${2:-$1}" ]; }
check "a volume on it" d protect /dev/mapper/mp --name v --key k64
begin() {
    fio --name=v --filename=/dev/dek/v --rw=randrw --bs=4k --iodepth=8 --direct=1 --ioengine=libaio --size=48M --verify=crc32c \
        --verify_backlog=64 --verify_fatal=1 --runtime=900 --time_based >fio.log 2>&1 &
    fio=$!
    sleep 2
}
end() {
    kill -INT $fio
    wait $fio
    grep -q 'READ: .*io=[1-9]' fio.log && ! grep -E 'err= *[1-9]|verify:' fio.log
}
moves() { # I/O goes on
    local before
    before=$(cut -d' ' -f1-8 "/sys/block/$(basename "$(readlink -f /dev/dek/v)")/stat")
    sleep 2
    [ "$before" != "$(cut -d' ' -f1-8 "/sys/block/$(basename "$(readlink -f /dev/dek/v)")/stat")" ]
}

# ---- fails and returns
begin
check "both paths work" eventually are AA
echo offline >"/sys/block/$b/device/state"
check "a path fails" eventually are AF FA
check "I/O goes on" moves
echo running >"/sys/block/$b/device/state"
check "it returns and is reinstated" eventually are AA
dmsetup message mp 0 fail_path "$(dmsetup status mp | grep -o '[0-9]*:[0-9]* A' | head -n 1 | cut -d' ' -f1)"
check "one that somebody failed, too" eventually are AA

# ---- unplugged, and back as another device
echo 1 >"/sys/block/$b/device/delete"
check "unplugged: failed" eventually are AF FA
check "I/O goes on" moves
echo '- - -' >"/sys/class/scsi_host/$host_b/scan"
check "plugged in again" eventually eval '[ "$(paths | wc -l)" = 2 ]'
c=$(paths | grep -vx "$a")
check "the path is back" eventually are AA
on() { dmsetup deps -o devno "dekleg-$b" | grep -q "($(sed 's/:/, /' "/sys/block/$1/dev"))"; }
check "over the new device" eventually on "$c"
check "nothing hidden is left" refused eval "dmsetup ls | grep 'dekleg\\.'"
check "I/O goes on" moves
kill_kcmd
start_kcmd
answers
check "kcmd is killed, and finds all as it should be" eventually are AA
check "no error, nothing lost" end

# ---- all of them gone: I/O waits for one that comes
begin
for disk in "$a" "$c"; do echo offline >"/sys/block/$disk/device/state"; done
check "all paths fail" eventually are FF
check "I/O waits" refused moves
check "and nobody is told of an error" kill -0 $fio
echo running >"/sys/block/$a/device/state"
check "one returns" eventually are AF FA
check "I/O goes on" eventually moves
echo running >"/sys/block/$c/device/state"
check "the other one" eventually are AA
check "no error, nothing lost, again" end

# ---- all of them gone, and kcmd killed: the next one must not wait for what only it can bring back
up() { shows '"state": *"up"' d --json status v; }
begin
for disk in "$a" "$c"; do echo offline >"/sys/block/$disk/device/state"; done
check "killed without paths: all fail" eventually are FF
kill_kcmd
start_kcmd
check "killed without paths: kcmd answers" answers
check "killed without paths: it says what it waits for" eventually shows 'does not answer' d --json status v
echo running >"/sys/block/$a/device/state"
check "killed without paths: one returns" eventually are AF FA
check "killed without paths: I/O goes on" eventually moves
check "killed without paths: the volume is up" eventually up
echo running >"/sys/block/$c/device/state"
check "killed without paths: the other one" eventually are AA
check "killed without paths: no error, nothing lost" end

# ---- nor does who wants to read a header there hold up everybody else, or the next kcmd
d detach v
for disk in "$a" "$c"; do echo offline >"/sys/block/$disk/device/state"; done
check "attached without paths: all fail" eventually are FF
check "attached without paths: it does not answer" fails 'does not answer' d attach /dev/mapper/mp
check "attached without paths: nor does its header" fails 'does not answer' d header show /dev/mapper/mp
check "attached without paths: what may be there is not erased" fails 'does not answer' d erase /dev/mapper/mp --header-at 0 --force
check "attached without paths: or written over" fails 'does not answer' d protect /dev/mapper/mp --name w --force
kill -9 "$kcmd" # it is gone when its read has ended
start_kcmd
check "attached without paths: killed while it reads, the next one answers" answers
d attach /dev/mapper/mp --wait 120 >attach.log 2>&1 &
attach=$!
sleep 8
check "attached without paths: it is tried again" kill -0 $attach
for disk in "$a" "$c"; do echo running >"/sys/block/$disk/device/state"; done
check "attached without paths: they return" eventually are AA
check "attached without paths: then it is attached" wait $attach
sed 's/^/    /' attach.log

# ---- kcmd away: made anew from the configuration
d detach v
kill_kcmd
dmsetup remove mp
for leg in $(dmsetup ls | sed -n 's/^\(dekleg-[^ \t]*\).*/\1/p'); do dmsetup remove "$leg"; done
check "kcmd --endpoints makes map and legs" kcmd --endpoints --state-dir "$state" --run-dir "$run"
check "both paths" shows 'service-time 0 2 ' dmsetup table mp
start_kcmd
answers
check "the volume attaches" d attach /dev/mapper/mp
check "removal of a map in use is refused" fails "something lies on mp" d endpoint remove mp
d detach v
check "removed" d endpoint remove mp
check "no device is left" shows "No devices found" dmsetup ls
# shellcheck disable=SC2010 # names of kcmd's own making
check "no file either" [ -z "$(ls /run/state/endpoints /run/state/multipath | grep json)" ]
kill_kcmd
umount /disk
check "the module goes when kcmd has" rmmod dm_dek
finish
