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
pids=()
dekctl() { build/utils/dekctl --socket "$work/run/bus" "$@"; }

cleanup() {
    local rc=$? pid
    mountpoint -q "$mnt" && umount "$mnt"
    [ -e "$node" ] && dekctl detach quickstart >/dev/null 2>&1
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null; done
    [ "$rc" = 0 ] || { echo; echo "quickstart.sh: failed; the log of the daemons:"; tail -n 20 "$work"/*.log; } >&2
    rm -rf --one-file-system "$work"
    exit "$rc"
}
trap cleanup EXIT

say "3. The daemons: dek-shimd encrypts, kcmd decides who encrypts and with which key"
[ -e /dev/dek/quickstart ] && { echo "/dev/dek/quickstart exists already" >&2; exit 1; }
mkdir -p "$mnt" "$work/run/shim" "$work/state"
modprobe -q fuse 2>/dev/null || true
modprobe -q loop 2>/dev/null || true
build/kernel-shim/fuse/dek-shimd --dir "$work/run/shim" >"$work/shimd.log" 2>&1 &
pids+=($!)
build/daemon/kcm/kcmd --state-dir "$work/state" --run-dir "$work/run" --socket "$work/run/bus" \
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
