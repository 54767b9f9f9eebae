#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# dekstack on this machine, in one go: installs what it needs, builds, and protects a disk image: an ext4
# filesystem on /dev/dek/quickstart, files written, detached, attached again and verified, and a picture
# of what is plain and what is cipher in the raw image. Everything it makes is in a temporary folder and
# goes when it ends; an installed dekstack, its keys and its volumes are not touched.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top"

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '  # %s\n' "$*"; "$@"; }

[ "$(id -u)" = 0 ] || { echo "quickstart.sh: run it as root: sudo utils/quickstart.sh" >&2; exit 1; }

say "1. What dekstack needs (Debian packages)"
sh utils/setup.sh build run
say "2. Building"
# Without the tests, unless the folder was set up for them already.
[ -e build/CMakeCache.txt ] || set -- -DBUILD_TESTING=OFF
cmake -S . -B build -G Ninja "$@" >/dev/null
ninja -C build dek-shimd kcmd dekctl dek-probe | tail -n 1

work=$(mktemp -d /var/tmp/dekstack-quickstart.XXXXXX)
mnt=$work/mnt image=$work/disk.img node=/dev/dek/quickstart
pids=() shim=fuse why='' loaded=''
dekctl() { build/utils/dekctl --socket "$work/run/bus" "$@"; }

cleanup() {
    local rc=$? pid
    mountpoint -q "$mnt" && umount "$mnt"
    [ -e "$node" ] && dekctl detach quickstart >/dev/null 2>&1
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null; done
    [ -z "$loaded" ] || rmmod dm_dek
    [ "$rc" = 0 ] || { echo; echo "quickstart.sh: failed; the log of the daemons:"; tail -n 20 "$work"/*.log; } >&2
    rm -rf --one-file-system "$work"
    exit "$rc"
}
trap cleanup EXIT

# The kernel shim where this kernel can load it; `why` not, otherwise.
load_module() {
    local headers modules_disabled=/proc/sys/kernel/modules_disabled
    headers=/lib/modules/$(uname -r)/build
    [ ! -e /dev/dek-control ] || return 0
    modprobe -q dm-mod 2>/dev/null || true
    if [ ! -e "$modules_disabled" ] || [ "$(cat "$modules_disabled")" != 0 ]; then
        why="this kernel loads no modules"
    elif [ ! -e /sys/class/misc/device-mapper ]; then
        why="this kernel has no device-mapper"
    elif [ ! -e "$headers/Makefile" ]; then
        why="the headers of kernel $(uname -r) are not installed"
    elif ! kernel-shim/linux/build.sh "$headers" build/dm-dek >"$work/module.log" 2>&1; then
        why="the module cannot be built: $(tail -n 1 "$work/module.log")"
    elif ! insmod build/dm-dek/dm-dek.ko 2>"$work/module.log"; then
        why="the kernel refuses the module: $(tail -n 1 "$work/module.log")"
    else
        loaded=1
    fi
    [ -z "$why" ]
}

say "3. A shim encrypts; kcmd decides who encrypts and with which key"
[ -e /dev/dek/quickstart ] && { echo "/dev/dek/quickstart exists already" >&2; exit 1; }
mkdir -p "$mnt" "$work/run/shim" "$work/state"
modprobe -q fuse 2>/dev/null || true
modprobe -q loop 2>/dev/null || true
if load_module; then
    shim=kernel
    echo "  The kernel's shim: module dm-dek"
else
    echo "  The userspace shim, dek-shimd, because $why"
    build/kernel-shim/fuse/dek-shimd --dir "$work/run/shim" >"$work/shimd.log" 2>&1 &
    pids+=($!)
fi
build/daemon/kcm/kcmd --shim "$shim" --state-dir "$work/state" --run-dir "$work/run" --socket "$work/run/bus" \
    >"$work/kcmd.log" 2>&1 &
pids=("$!" "${pids[@]}")
for _ in $(seq 100); do dekctl version >/dev/null 2>&1 && break; sleep 0.1; done
run dekctl version
run dekctl keystore init --file "$work/state/master.key"

say "4. A disk: 64 MiB, the first 8 MiB of the volume and a stretch in the middle stay plain"
run truncate -s 64M "$image"
run dekctl protect "$image" --name quickstart --encrypt 16384-65535,81920-
run dekctl topology quickstart

say "5. A filesystem on it, and files"
run mkfs.ext4 -q -E nodiscard "$node"
run mount "$node" "$mnt"
for i in $(seq 12); do
    head -c 3M >"$mnt/file$i" < <(yes "dekstack quickstart: this line is file $i, and it is no secret")
done
(cd "$mnt" && sha256sum file* >SHA256SUMS && tail -n 3 SHA256SUMS)
run umount "$mnt"

say "6. Detached, attached again, verified"
run dekctl detach quickstart
run build/utils/dek-probe "$image"
run dekctl attach "$image"
run fsck.ext4 -fn "$node"
run mount "$node" "$mnt"
(cd "$mnt" && sha256sum --quiet -c SHA256SUMS && echo "  all $(wc -l <SHA256SUMS) files are as they were written")
run umount "$mnt"
run dekctl status quickstart
run dekctl detach quickstart

say "7. What lies on the raw disk"
run utils/show-image.py "$image"

say "Done. Next: README.md has a ten-line tour; 'man docs/man/dekctl.8' has every command."
