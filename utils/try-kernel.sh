#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# dekstack's kernel module without touching your kernel: a shell as root in a virtual machine with the module loaded, kcmd
# running, dekctl ready, and disks to play with. It goes when the shell ends, and all that is in it.
#   try-kernel.sh [-k 6.1|6.12] [-b BUILD-FOLDER] [--run COMMAND]
# --run: runs the command instead of a shell, and ends with its exit status. VM_KERNELS: folder of prepared kernels.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
version=6.1 build='' command=''
usage() { sed -n '5,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
while [ $# -gt 0 ]; do
    case $1 in
    -k) version=${2:?} && shift 2 ;;
    -b) build=${2:?} && shift 2 ;;
    --run) command=${2:?} && shift 2 ;;
    *) usage ;;
    esac
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
step() { # WHAT COMMAND...: its output only if it fails
    [ -n "$command" ] || echo "$1" >&2
    shift
    "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
}

if [ -z "$build" ]; then
    build=$top/build
    step "packages" sh "$top/utils/setup.sh" build run vm
    [ -e "$build/CMakeCache.txt" ] || step "configuring" cmake -S "$top" -B "$build" -G Ninja -DBUILD_TESTING=OFF
    step "building" ninja -C "$build" kcmd dekctl dek-probe
fi
kernel=${VM_KERNELS:-$top/build/vm}/$version
step "kernel $version" "$top/tests/vm/kernel.sh" "$version" "$kernel"
step "module" "$top/kernel-shim/linux/build.sh" "$kernel/headers" "$kernel/dm-dek-try" -j2
step "initramfs" "$top/tests/vm/initramfs.sh" "$kernel" "$work/base.cpio" "dm-mod dm-crypt loop brd ext4 crc32c_generic crc32c-intel aesni-intel xts" \
    "bash dmsetup losetup mkfs.ext4 e2fsck $build/daemon/kcm/kcmd $build/utils/dekctl $build/utils/dek-probe"

mkdir "$work/test"
strip -g -o "$work/test/dm-dek.ko" "$kernel/dm-dek-try/dm-dek.ko"
cp "$top"/tests/vm/{guest,stack}.sh "$work/test/"
cat >"$work/test/try.sh" <<'GUEST'
. /t/guest.sh
. /t/stack.sh
load
start_stack >/dev/null || { cat "$kcmd_log"; exit 1; }
ln -s /run/bus /run/dekstack/bus
truncate -s 64M /disk/disk.img
export PS1='\[\e[1m\]dekstack\[\e[0m\] \w # ' TERM=linux
cd /disk
if [ -e /t/command ]; then exec bash /t/command; fi
cat <<'TEXT'

The module is loaded, kcmd runs, the keystore is open. /dev/ram0 is an empty disk of 384 MiB, /disk/disk.img an image.
    dekctl protect /dev/ram0 --name trial && mkfs.ext4 -q /dev/dek/trial && mount /dev/dek/trial /mnt
    dekctl status trial; dmsetup table; dekctl topology trial
`exit` ends it.
TEXT
setsid cttyhack bash --norc -i
exit 0
GUEST
echo 'exec bash /t/try.sh' >"$work/test/run.sh"
if [ -n "$command" ]; then
    printf '%s\n' "$command" >"$work/test/command"
    "$top/tests/vm/vm.sh" -k "$kernel" -b "$work/base.cpio" -m 2G -t "${TRY_SECONDS:-300}" "$work/test" | tr -d '\r'
    exit "${PIPESTATUS[0]}"
fi
exec "$top/tests/vm/vm.sh" -I -k "$kernel" -b "$work/base.cpio" -m 2G -t 86400 "$work/test"
