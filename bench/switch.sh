#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# For how long I/O stands still in a live switch, beside a bare suspend and resume of the same device: switch.sh
# BUILD-FOLDER [KERNEL]. In a virtual machine that counts instructions, PAIRS (300) of both in turn. Prints the stalls, in
# microseconds of that machine, and `figure switch_stall_...` lines: the bare one's over ours. VM_KERNELS as for
# tests/vm/run.sh.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
build=$(realpath "${1:?usage: switch.sh BUILD-FOLDER [KERNEL]}")
version=${2:-6.12}
kernel=${VM_KERNELS:-$top/build/vm}/$version
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$top/tests/vm/kernel.sh" "$version" "$kernel" >&2
"$top/kernel-shim/linux/build.sh" "$kernel/headers" "$kernel/dm-dek" -j2 >&2
"$top/tests/vm/initramfs.sh" "$kernel" "$kernel/switch.cpio" \
    "dm-mod dm-crypt brd loop ext4 crc32c_generic crc32c-intel aesni-intel xts" \
    "bash chrt dmsetup blockdev mkfs.ext4 $build/tests/vm/vm_load $build/daemon/kcm/kcmd $build/utils/dekctl $build/utils/dek-probe" >&2
mkdir "$work/test"
cp "$top/tests/vm/guest.sh" "$top/tests/vm/stack.sh" "$work/test/"
strip -g -o "$work/test/dm-dek.ko" "$kernel/dm-dek/dm-dek.ko"
cp "$top/bench/switch_guest.sh" "$work/test/suite.sh"
echo 'exec bash /t/suite.sh' >"$work/test/run.sh"
if ! "$top/tests/vm/vm.sh" -i -k "$kernel" -b "$kernel/switch.cpio" -m 2G -t 1800 -a "PAIRS=${PAIRS:-300}" "$work/test" \
    >"$work/log" 2>&1; then
    tail -n 60 "$work/log" >&2
    exit 1
fi
tr -d '\r' <"$work/log" | grep -aE '^(cost|figure) '
