#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Makes one of Debian 12's kernels ready to boot and to build against: kernel.sh 6.1|6.12 FOLDER.
# FOLDER gets: vmlinux (uncompressed, boots in a second), vmlinuz, release, and the links modules
# (lib/modules/RELEASE) and headers. 6.1 is the installed one; 6.12 is unpacked beside it, not installed.
set -euo pipefail
version=${1:?usage: kernel.sh 6.1|6.12 FOLDER}
mkdir -p "${2:?usage: kernel.sh 6.1|6.12 FOLDER}"
out=$(cd "$2" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
[ "$version" != debug ] && [ -e "$out/ready" ] && exit 0

installed() {
    local image
    image=$(find /boot -name 'vmlinuz-6.1.*-amd64' | sort -V | tail -n 1)
    [ -n "$image" ] || { echo "kernel.sh: linux-image-amd64 is not installed" >&2; exit 1; }
    release=${image#/boot/vmlinuz-}
    cp "$image" "$out/vmlinuz"
    ln -sfn "/lib/modules/$release" "$out/modules"
    ln -sfn "/usr/src/linux-headers-$release" "$out/headers"
}

# One absolute path in the headers' Makefile names the place they are meant to be installed in.
relocate_headers() {
    sed -i "s|/usr/src/linux-headers|$out/root/usr/src/linux-headers|g" "$out/headers/Makefile"
    local scripts=$out/root/usr/lib/linux-kbuild-6.12/scripts
    [ -d "$scripts" ] || scripts=$(find "$out/root/usr/lib" -maxdepth 2 -name scripts | head -n 1)
    for link in scripts tools; do
        ln -sfn "${scripts%/*}/$link" "$out/headers/$link"
    done
}

unpacked() {
    local image package
    image=$(apt-cache search --names-only '^linux-image-6\.12\..*\+deb12-amd64-unsigned$' |
        cut -d' ' -f1 | sort -V | tail -n 1)
    [ -n "$image" ] || { echo "kernel.sh: no 6.12 kernel among this machine's packages" >&2; exit 1; }
    release=${image#linux-image-} && release=${release%-unsigned}
    mkdir -p "$out/debs" "$out/root"
    (cd "$out/debs" && apt-get download -q "$image" "linux-headers-$release" \
        "linux-headers-${release%-amd64}-common" "linux-kbuild-${release%-amd64}" >/dev/null 2>&1)
    for package in "$out"/debs/*.deb; do dpkg-deb -x "$package" "$out/root"; done
    rm -r "$out/debs"
    mkdir -p "$out/root/lib"
    cp "$out/root/boot/vmlinuz-$release" "$out/vmlinuz"
    local modules=$out/root/usr/lib/modules/$release
    [ -d "$modules" ] || modules=$out/root/lib/modules/$release
    depmod -b "${modules%/lib/modules/*}" "$release" 2>/dev/null || depmod -b "$out/root" "$release"
    ln -sfn "$modules" "$out/modules"
    ln -sfn "$out/root/usr/src/linux-headers-$release" "$out/headers"
    relocate_headers
}

case $version in
debug) exec "$here/debug/kernel.sh" "$out" ;;
6.1) installed ;;
6.12) unpacked ;;
*) echo "kernel.sh: 6.1 or 6.12, not $version" >&2; exit 2 ;;
esac
echo "$release" >"$out/release"
"$here/vmlinux.py" "$out/vmlinuz" "$out/vmlinux"
touch "$out/ready"
