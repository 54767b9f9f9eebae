# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# seconds: 1500
# base: stack
# docs/recovery.md typed out against volumes that kcmd made: a whole volume, two ranges, in place; and volumes that grow.
# once: 6.1
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
# shellcheck source=tests/vm/stack.sh
. /t/stack.sh
cd /tmp || exit

load
check "kcmd" start_stack --shim kernel
check "keys" make_keys

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
    bash -e block.sh
}
cleared() {
    umount /mnt
    dmsetup remove rescue && keyctl purge logon dekstack:k1
    losetup -j /disk/disk.img | cut -d: -f1 | xargs -r losetup -d
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
pattern
dd if=pattern of=/dev/dek/img bs=1M oflag=direct 2>/dev/null
d detach img
check "the plain ranges are plain" cmp -n 8388608 -i 1048576:0 /disk/disk.img pattern
check "the encrypted ones are not" refused cmp -s -n 4096 -i 9437184:8388608 /disk/disk.img pattern
loop=$(losetup -r -f --show /disk/disk.img)
export loop # which the first example has left set
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
losetup -d "$doc"

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
d detach img


umount /disk
kill "$kcmd"
wait "$kcmd"
check "the module goes when kcmd has" rmmod dm_dek
finish
