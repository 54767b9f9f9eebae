#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Makes a small Debian 12 root with systemd, udev and LVM, as a squashfs: image.sh OUT. Kept as long as the list below
# is the same. dekstack is not in it: udev.sh lays it over.
set -euo pipefail
out=${1:?usage: image.sh OUT.squashfs}
packages=systemd-sysv,udev,dbus,lvm2,dmsetup,e2fsprogs,kmod,util-linux,libaio1,libargon2-1,libsqlite3-0,libkeyutils1,libmimalloc2.0,libnl-genl-3-200,libssl3
exec 9>"$out.lock"
flock 9 # another kernel's tests may be at it
[ "$(cat "$out.packages" 2>/dev/null)" = "$packages" ] && [ -e "$out" ] && exit 0
work=$(mktemp -d /var/tmp/dekstack-image.XXXXXX)
trap 'rm -rf --one-file-system "$work"' EXIT
sources=/etc/apt/sources.list.d/debian.sources
[ -f "$sources" ] || sources=/etc/apt/sources.list
mmdebstrap --mode=root --variant=minbase --include="$packages" --skip=check/empty --dpkgopt=path-exclude='/usr/share/locale/*' \
    --dpkgopt=path-exclude='/usr/share/doc/*' --dpkgopt=path-exclude='/usr/share/man/*' \
    --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*' bookworm "$work" "$sources"
# Nobody logs in, nothing waits for a network; a machine ID, so that it is no first boot.
: >"$work/etc/fstab"
echo 0123456789abcdef0123456789abcdef >"$work/etc/machine-id"
echo vm >"$work/etc/hostname"
for unit in getty@tty1 serial-getty@ttyS0 getty-static systemd-networkd systemd-timesyncd apt-daily.timer apt-daily-upgrade.timer \
    dpkg-db-backup.timer e2scrub_reap e2scrub_all.timer systemd-firstboot; do
    case $unit in *.timer) ;; *) unit=$unit.service ;; esac
    ln -sf /dev/null "$work/etc/systemd/system/$unit"
done
mksquashfs "$work" "$out.new" -comp zstd -Xcompression-level 3 -noappend -quiet -no-progress
mv "$out.new" "$out"
echo "$packages" >"$out.packages"
