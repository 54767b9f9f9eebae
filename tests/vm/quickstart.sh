#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# utils/quickstart.sh where the kernel can load the module: this machine's own files, read-only, beneath a layer in memory,
# with a prepared kernel: quickstart.sh KERNEL-FOLDER BUILD-FOLDER. What it would build has been built before: under emulation a
# compiler takes too long, so cmake and ninja do nothing in the guest, and the module is only linked again if it has to be.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
kernel=$(realpath "${1:?usage: quickstart.sh KERNEL-FOLDER BUILD-FOLDER}") build=$(realpath "$2")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$here/initramfs.sh" "$kernel" "$work/base.cpio" "dm-mod dm-crypt loop ext4 crc32c_generic crc32c-intel aesni-intel xts overlay 9pnet_virtio 9p virtio_pci" \
    "" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
"$top/kernel-shim/linux/build.sh" "$kernel/headers" "$build/dm-dek" -j2 >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
mkdir "$work/test"
release=$(cat "$kernel/release")
cat >"$work/test/run.sh" <<GUEST
for module in virtio_pci dm-mod dm-crypt loop ext4 aesni-intel xts overlay 9pnet_virtio 9p; do modprobe \$module; done
mkdir -p /low /layer /new
mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=512000,cache=loose host /low || exit 1
mount -t tmpfs -o size=1g layer /layer && mkdir /layer/upper /layer/work
mount -t overlay -o lowerdir=/low,upperdir=/layer/upper,workdir=/layer/work new /new || exit 1
for folder in proc sys dev run; do mount --bind /\$folder /new/\$folder; done
mkdir -p /new/lib/modules/$release && ln -sfn '$kernel/headers' /new/lib/modules/$release/build
[ '$build' = '$top/build' ] || ln -sfn '$build' '/new$top/build'
mkdir /new/run/built && ln -s /bin/true /new/run/built/cmake && ln -s /bin/true /new/run/built/ninja
exec chroot /new /bin/bash -c 'cd "$top" && export PATH=/run/built:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin && utils/quickstart.sh'
GUEST
"$here/vm.sh" -k "$kernel" -b "$work/base.cpio" -m 3G -t 600 "$work/test" -- -fsdev "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap" \
    -device virtio-9p-pci,fsdev=host,mount_tag=host | tr -d '\r' >"$work/out"
rc=${PIPESTATUS[0]}
cat "$work/out"
[ "$rc" = 0 ] && grep -q "The kernel's shim: module dm-dek" "$work/out" && grep -q "files are as they were written" "$work/out"
