#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Makes a bare Debian 12 root (nothing but `sudo` on top of the essentials), puts this checkout in it and
# runs there, word for word, the README's first command and `tests/run.sh quick`. The root shares the
# machine's kernel, /dev, its package sources and, so that nothing is compiled twice, its compiler cache; everything
# else is its own.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top"
root=$(mktemp -d /var/tmp/dekstack-fresh.XXXXXX)

cleanup() {
    local rc=$?
    grep -o " ${root}[^ ]*" /proc/self/mountinfo | sort -r | xargs -r -n1 umount -l 2>/dev/null || true
    rm -rf --one-file-system "$root"
    exit "$rc"
}
trap cleanup EXIT

echo "fresh: making a bare root"
sources=/etc/apt/sources.list.d/debian.sources
[ -f "$sources" ] || sources=/etc/apt/sources.list
mmdebstrap --mode=root --variant=minbase --include=sudo,ca-certificates --skip=check/empty \
    bookworm "$root" "$sources" >/dev/null 2>"$root.log" || { cat "$root.log"; exit 1; }
rm -f "$root.log"
cp -a /etc/apt/apt.conf.d/. "$root/etc/apt/apt.conf.d/" 2>/dev/null || true

echo "fresh: copying the checkout"
mkdir -p "$root/root/dekstack"
git ls-files -z | tar --null -T - -c | tar -x -C "$root/root/dekstack"

cache=$(ccache -k cache_dir 2>/dev/null || true)
[ -d "$cache" ] || cache=$(mktemp -d "$root/tmp/ccache.XXXXXX")
mkdir -p "$root/root/.cache/ccache"

command=$(sed -n 's/^\(sudo utils\/quickstart\.sh\).*/\1/p' README.md | head -n 1)
[ -n "$command" ] || { echo "fresh: README.md does not name its first command"; exit 1; }
cat >"$root/root/steps" <<STEPS
set -e
cd /root/dekstack
export HOME=/root LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
echo "fresh: $command"
$command
echo "fresh: sudo tests/run.sh quick"
sudo tests/run.sh quick
STEPS

# A PID namespace of its own: whatever a step leaves running ends with it.
unshare --mount --pid --fork --propagation private sh -c "
    mount --bind '$root' '$root' && mount --rbind /dev '$root/dev' && mount -t sysfs sys '$root/sys' && mount -t tmpfs run '$root/run' &&
    cp -L /etc/resolv.conf '$root/etc/resolv.conf' 2>/dev/null
    mount -t proc proc '$root/proc' && mount --bind '$cache' '$root/root/.cache/ccache' &&
    exec env -i TERM=dumb http_proxy='${http_proxy:-}' https_proxy='${https_proxy:-}' \
        /usr/sbin/chroot '$root' bash /root/steps" </dev/null
echo "fresh: all steps done"
