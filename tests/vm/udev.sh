#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Volumes in place, an endpoint beneath LVM, and the udev of a real Debian system: udev.sh KERNEL-FOLDER BUILD-FOLDER MODULE
# One boot makes two volumes with an ext4 and an LVM PV in their plain ranges, and an endpoint with a PV on it; the next finds
# the disks cold. Prints `ok` and `FAILED` lines.
set -uo pipefail
kernel=${1:?usage: udev.sh KERNEL-FOLDER BUILD-FOLDER MODULE} build=$2 module=$3
here=$(cd "$(dirname "$0")" && pwd)
image=$(dirname "$kernel")/systemd.squashfs
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
stop() { echo "udev.sh: $1" >&2; cat "$2" >&2; exit 1; }

"$here/image.sh" "$image" >"$work/log" 2>&1 || stop "no image" "$work/log"
"$here/initramfs.sh" "$kernel" "$work/base.cpio" "dm-mod dm-crypt loop aesni-intel xts virtio_pci virtio_blk squashfs overlay ext4 fuse autofs4
crc32c_generic crc32c-intel" "" >"$work/log" 2>&1 || stop "no initramfs" "$work/log"
mkdir "$work/test"
DESTDIR=$work/installed cmake --install "$build" >"$work/log" 2>&1 || stop "cannot be installed" "$work/log"
find "$work/installed" -path '*sbin*' -type f -exec strip {} +
rm -rf "$work/installed/usr/src" "$work"/installed/usr/local/{lib/*.a,lib/*/*.a,include,share}
release=$(cat "$kernel/release")
mkdir -p "$work/installed/lib/modules/$release/updates/dkms"
strip -g -o "$work/installed/lib/modules/$release/updates/dkms/dm-dek.ko" "$module"
tar -C "$work/installed" -cf "$work/test/dekstack.tar" .
cp "$here"/udev/* "$here/guest.sh" "$here/stack.sh" "$work/test/"
chmod +x "$work/test/boot"
for disk in fs pv state leg; do truncate -s 64M "$work/$disk.img"; done

drive() { echo -drive "file=$1,if=none,id=$2,format=raw$3" -device "virtio-blk-pci,drive=$2,serial=$2"; }
rc=0
for steps in make cold; do
    # shellcheck disable=SC2046
    "$here/vm.sh" -k "$kernel" -b "$work/base.cpio" -m 2G -t 400 -a "rdinit=/t/boot steps=$steps systemd.show_status=0" \
        "$work/test" -- $(drive "$image" root ,readonly=on) $(drive "$work/fs.img" fs ,cache=unsafe) \
        $(drive "$work/pv.img" pv ,cache=unsafe) $(drive "$work/state.img" state ,cache=unsafe) \
        $(drive "$work/leg.img" leg ,cache=unsafe) >"$work/$steps.log" 2>&1
    result=$?
    grep -aE '^(ok|FAILED|    )' "$work/$steps.log" | tr -d '\r'
    [ $result = 0 ] || { rc=1; tail -n "${LINES_OF_LOG:-30}" "$work/$steps.log"; break; }
done
exit $rc
