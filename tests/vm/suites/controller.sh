# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# seconds: 1500
# base: stack
# kcmd and dekctl as they are installed, on the kernel shim: protect to erase, recovery without dekstack, kills.
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
# shellcheck source=tests/vm/stack.sh
. /t/stack.sh
cd /tmp || exit

check "kcmd without the module" start_stack --shim auto
head -c 64 /dev/urandom >k64
head -c 32 /dev/urandom >k32
check "keys" bash -c 'for n in 64 32; do dekctl --socket /run/bus key import --name k$n --file k$n; done'
check "the kernel shim is asked for and is not there" fails "is dm-dek loaded" d protect /dev/ram0 --name disk --key k64 --shim kernel
check "and auto looks for the other one then" fails "is dek-shimd running" d protect /dev/ram0 --name disk --key k64
check "nothing was made" shows "No devices found" dmsetup ls
load
sleep 3 # kcmd looks for the module every two seconds, and then listens

# A block device.
d events --json >events.log &
check "protect a block device" d protect /dev/ram0 --name disk --key k64
check "status says kernel" shows '"shim": *"kernel"' d --json status disk
check "and the node" shows '"block_device": *"/dev/dm-0"' d --json status disk
check "topology says keyed, by the kernel shim" shows '"state": *"keyed"' d --json topology disk
check "the link" [ "$(readlink -f /dev/dek/disk)" = /dev/dm-0 ]
check "the name for dmsetup" shows '^dek-disk' dmsetup ls
check "an event: the endpoint" eventually grep -q endpoint-up events.log
check "an event: the association" eventually grep -q association-made events.log
check "mkfs" mkfs.ext4 -q /dev/dek/disk
mkdir -p /v
put_files() { for n in 1 2 3 4; do yes "file $n of the volume, in the clear" | head -c 3000000 >"/v/file$n"; done; (cd /v && sha256sum file*) >sums; }
check "mount" mount /dev/dek/disk /v
check "files" put_files
check "detach of a mounted volume is refused" fails "mounted" d detach disk
check "and nothing has changed" shows '"state": *"up"' d --json status disk
check "it takes writes" dd if=/dev/urandom of=/v/more bs=64k count=4 conv=fsync
umount /v
exec 7</dev/dek/disk
check "detach of an open one, too" fails "open" d detach disk
exec 7<&-
check "detach" d detach disk
check "no device is left" shows "No devices found" dmsetup ls
check "nor a link" refused [ -e /dev/dek/disk ]
check "an event: it has gone" eventually grep -q endpoint-down events.log
check "no plaintext on the disk" refused bash -c "head -c 64M /dev/ram0 | tr -d '\\0' | grep -q 'in the clear'"
check "attach" d attach /dev/ram0
mount /dev/dek/disk /v
check "the files are as they were" bash -c 'cd /v && sha256sum -c /tmp/sums'
umount /v
check "by name it cannot be attached twice" fails "attached already" d attach /dev/ram0
d detach disk

# docs/recovery.md, as it is written: the N-th block of commands of section 4, and 5's end.
block() { awk -v want="$1" '/^```sh/ {n++; on = n == want; next} /^```/ {on = 0} on' /t/recovery.md >block.sh; }
keyctl new_session >/dev/null # section 2
disk_img() { # PROTECT ARGUMENTS...
    rm -f /disk/disk.img
    truncate -s 64M /disk/disk.img
    d protect /disk/disk.img --name img "$@"
}
rescued() { # BLOCK
    block "$1"
    cp k64 volume.key
    ln -sf /disk/disk.img disk.img
    [ -e /dev/loop9 ] || mknod /dev/loop9 b 7 9
    bash -e block.sh
}
cleared() {
    umount /mnt
    dmsetup remove rescue && keyctl purge logon dekstack:k1
    [ ! -e /sys/block/loop9/loop/backing_file ] || losetup -d /dev/loop9
}
check "protect an image" disk_img --key k64
check "a loop device lies beneath" shows /disk/disk.img losetup -a
mkfs.ext4 -q /dev/dek/img
mount /dev/dek/img /v
check "files on it" put_files
umount /v
check "detach the image" d detach img
check "the loop device has gone" refused shows /disk/disk.img losetup -a
check "recovery.md, the whole volume" rescued 2
check "all files are there without dekstack" bash -c 'cd /mnt && sha256sum -c /tmp/sums'
cleared
check "protect, two ranges" disk_img --key k64 --encrypt 16384-65535,81920-129023
yes "0123456789abcde" | head -c 66060288 >pattern
dd if=pattern of=/dev/dek/img bs=1M oflag=direct 2>/dev/null
d detach img
check "the plain ranges are plain" cmp -n 8388608 -i 1048576:0 /disk/disk.img pattern
check "the encrypted ones are not" refused cmp -s -n 4096 -i 9437184:8388608 /disk/disk.img pattern
losetup -r /dev/loop9 /disk/disk.img
keyctl padd logon dekstack:k1 @s <k64 >/dev/null
check "recovery.md, two ranges" rescued 3
check "reads what was written" cmp -n 66060288 /dev/mapper/rescue pattern
cleared

# The protocol document's example, in place.
truncate -s $((20480 * 512)) /disk/doc.img
doc=$(losetup -f --show /disk/doc.img)
check "the document's example" d protect "$doc" --name doc --key k32 --in-place --header-at 1024 --encrypt 1536-10239,11264-20479 --data-unit 512
over() { for at in "0 1024" "1536 18944"; do dd if=pattern of=/dev/dek/doc bs=512 skip="${at% *}" seek="${at% *}" count="${at#* }" oflag=direct conv=notrunc || return; done; }
check "written outside the header" over
check "the header takes no write" refused dd if=pattern of=/dev/dek/doc bs=512 seek=1024 count=8 oflag=direct
d detach doc
check "plain before and between" bash -c "cmp -n 524288 $doc pattern && cmp -n 524288 -i 5242880 $doc pattern"
check "encrypted else" bash -c "! cmp -s -n 512 -i 786432 $doc pattern && ! cmp -s -n 512 -i 5767168 $doc pattern"
ln -sf "$doc" /dev/sdb
cp k32 volume.key
block 4
check "recovery.md, in place" bash -e block.sh
check "reads what was written, in place" bash -c "cmp -n 524288 /dev/mapper/rescue pattern && cmp -n 9699328 -i 786432 /dev/mapper/rescue pattern"
dmsetup remove rescue
check "attach in place" d attach "$doc"
check "it reads the same" cmp -n 9699328 -i 786432 /dev/dek/doc pattern
d detach doc

# It grows: a device, and an image.
rm -f /disk/disk.img
truncate -s 64M /disk/disk.img /disk/dev.img
grown=$(losetup -f --show /disk/dev.img)
d protect "$grown" --name dev --key k64 >/dev/null 2>&1
d protect /disk/disk.img --name img --key k64 >/dev/null 2>&1
dd if=pattern of=/dev/dek/dev bs=1M oflag=direct 2>/dev/null
truncate -s 96M /disk/dev.img /disk/disk.img
losetup -c "$grown"
check "resize of the device" d resize dev
check "resize of the image" d resize img
check "their sizes" [ "$(blockdev --getsz /dev/dek/dev) $(blockdev --getsz /dev/dek/img)" = "194560 194560" ]
check "what was there is there" cmp -n 66060288 /dev/dek/dev pattern
check "the tail is keyed" dd if=pattern of=/dev/dek/dev bs=1M seek=80 count=4 oflag=direct
check "and not plain" refused cmp -s -n 4096 -i $((81 << 20)):0 /disk/dev.img pattern
check "cutting what is encrypted is refused" refused d resize dev --size 129024
check "and it goes on" dd if=/dev/dek/dev of=/dev/null bs=1M count=4 iflag=direct
d detach dev
losetup -d "$grown"

# kcmd is killed; the volume is not.
fio --name=v --filename=/dev/dek/img --rw=randrw --bs=4k --iodepth=8 --direct=1 --ioengine=libaio --size=64M --verify=crc32c \
    --verify_backlog=64 --verify_fatal=1 --runtime=20 --time_based >fio.log 2>&1 &
fio=$!
up() { d --json status img | grep -q '"state": *"up"'; }
for n in 1 2 3; do
    sleep 1
    kill_kcmd
    check "kill $n: I/O goes on without kcmd" kill -0 $fio
    start_kcmd
    answers
    check "kill $n: kcmd finds its volume" eventually up
done
check "fio saw nothing of it" wait $fio
check "the image's loop device is the same" shows /disk/disk.img losetup -a

# Killed between suspend and resume; a table that the endpoint refuses beside it.
kill_kcmd
dmsetup suspend dek-img
check "a table that would cut it is loaded" dmsetup reload dek-img --table "$(dmsetup table dek-img | sed 's/^0 [0-9]*/0 65536/')"
check "and refused when it comes live" refused dmsetup resume dek-img
start_kcmd
answers
check "kcmd has it stand up again" eventually shows 'State: *ACTIVE' dmsetup info dek-img
check "with its size" eventually shows '^0 194560 ' dmsetup table dek-img
check "and it reads" dd if=/dev/dek/img of=/dev/null bs=1M count=4 iflag=direct
check "its tail, too" dd if=/dev/dek/img of=/dev/null bs=1M skip=90 count=4 iflag=direct

# The records are gone: found by the header.
kill_kcmd
rm -rf "$run"/volumes
start_kcmd
answers
check "without records kcmd knows it by its header" eventually up
check "and by the image's path" shows '/disk/disk.img' d --json status img
# Killed between create and expose: hidden, the record not complete.
kill_kcmd
uuid=$(dmsetup info -c --noheadings -o uuid dek-img)
dmsetup rename dek-img "dek.new.${uuid#DEK-}"
sed -i 's/"complete": *true/"complete":false/' "$run"/volumes/*
start_kcmd
answers
check "half made: it is made" eventually up
check "under its name" shows '^dek-img' dmsetup ls
check "the link" shows "/$(dmsetup info -c --noheadings -o blkdevname dek-img)\$" readlink -f /dev/dek/img
d detach img

# Killed at every durable call of an attach, and at any time: nothing half made stays.
# shellcheck disable=SC2317
consistent() {
    answers
    sleep 0.3
    if up; then
        dmsetup ls | grep -q '^dek-img' && d detach img || return 1
    fi
    ! dmsetup ls | grep -q dek && ! losetup -a | grep -q disk.img && ! d status img 2>/dev/null
}
kill_kcmd
n=1
while :; do
    kcmd_env="LD_PRELOAD=/bin/libkillpoint.so KILLPOINT_AT=$n KILLPOINT_PREFIX=/run/dekstack/volumes" start_kcmd
    eventually bash -c "! kill -0 $kcmd 2>/dev/null || dekctl --socket /run/bus version"
    d attach /disk/disk.img >/dev/null 2>&1 && break
    wait $kcmd 2>/dev/null
    start_kcmd
    check "killed at call $n" consistent
    kill_kcmd
    n=$((n + 1))
done
check "there were calls to be killed at: $n" [ $n -gt 4 ]
d detach img
for n in 1 2 3 4 5 6 7 8; do
    d attach /disk/disk.img >/dev/null 2>&1 &
    attach=$!
    sleep 0.0$((n * 12 % 100))
    kill_kcmd
    wait $attach
    start_kcmd
    check "killed during an attach, $n" consistent
done

# Both shims beside each other.
modprobe fuse
dek-shimd --dir "$run/shim" >/tmp/shimd.log 2>&1 &
shimd=$!
check "the userspace shim" eventually [ -e "$run/shim/control/control" ]
truncate -s 64M /disk/user.img
check "a volume on it" d protect /disk/user.img --name user --key k64 --shim fuse
check "auto still takes the kernel's" d attach /dev/ram0
check "each says whose it is" shows '"shim": *"fuse"' d --json status user
check "each says whose it is, too" shows '"shim": *"kernel"' d --json status disk
dd if=pattern of=/dev/dek/user bs=1M oflag=direct 2>/dev/null
check "detach that one" d detach user
check "the kernel shim reads what it wrote" d attach /disk/user.img --shim kernel
check "the same bytes" cmp -n 66060288 /dev/dek/user pattern
d detach user
kill $shimd
wait $shimd

# Fail closed.
d detach disk
kill_kcmd
state=/run/other
mkdir -p $state
start_kcmd
answers
d keystore init --file $state/master.key
check "a host without the key" fails "key" d attach /dev/ram0
check "has nothing made" shows "No devices found" dmsetup ls
kill_kcmd
state=/run/state
start_kcmd
answers
for at in 300 65836; do yes | dd of=/dev/ram0 bs=1 seek=$at count=64 conv=notrunc 2>/dev/null; done
check "a header that is torn twice" refused d attach /dev/ram0
check "makes nothing, either" shows "No devices found" dmsetup ls
umount /disk
kill "$kcmd"
wait "$kcmd"
check "the module goes when kcmd has" rmmod dm_dek
finish
