# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# seconds: 1500
# base: stack
# kcmd and dekctl as they are installed, on the kernel shim: protect to detach, both shims beside each other, what fails closed.
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
# shellcheck source=tests/vm/stack.sh
. /t/stack.sh
cd /tmp || exit

check "kcmd without the module" start_stack --shim auto
check "keys" make_keys
check "the kernel shim is asked for and is not there" fails "is dm-dek loaded" d protect /dev/ram0 --name disk --key k64 --shim kernel
check "nothing was made" shows "No devices found" dmsetup ls
check "nor the other one" fails "is dek-shimd running" d protect /dev/ram0 --name disk --key k64 --shim fuse
check "no endpoint answers: dm-crypt encrypts" d protect /dev/ram0 --name disk --key k64
check "status says so" shows '"encryptor": *"software"' d --json status disk
check "its table names the key's place" sh -c "dmsetup table --showkeys dek-disk | grep -q ' crypt aes-xts-plain64 :64:logon:'"
check "it takes data" dd if=/dev/urandom of=/dev/dek/disk bs=64k count=4 oflag=direct
check "detached" d detach disk
check "nothing is left" shows "No devices found" dmsetup ls
d erase /dev/ram0 --force >/dev/null
dd if=/dev/zero of=/dev/ram0 bs=1M count=4 oflag=direct 2>/dev/null
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
pattern
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
