#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Makes the debug kernel ready: kernel.sh FOLDER. Debian's linux-source-6.1 with kernel.patch, configured by
# kernel.config; FOLDER gets what tests/vm/kernel.sh gives (vmlinux, release, modules, headers). Built again only when
# the source's version, the configuration, the patch or this script changes. NICE: see nice(1).
set -euo pipefail
mkdir -p "${1:?usage: kernel.sh FOLDER}"
out=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
package=linux-source-6.1
jobs=${JOBS:-$(nproc)}
export KBUILD_BUILD_TIMESTAMP=1970-01-01 KBUILD_BUILD_USER=dekstack KBUILD_BUILD_HOST=vm

version=$(apt-cache show --no-all-versions "$package" | sed -n 's/^Version: //p')
[ -n "$version" ] || { echo "kernel.sh: no $package among this machine's packages" >&2; exit 1; }
hash=$(cd "$here" && { echo "$version"; cat kernel.config kernel.patch kernel.sh; } | sha256sum | cut -d' ' -f1)
[ "$(cat "$out/ready" 2>/dev/null)" = "$hash" ] && exit 0
rm -f "$out/ready"

unpack() {
    rm -rf "$out/src" "$out/package"
    mkdir -p "$out/src" "$out/package"
    (cd "$out/package" && apt-get download -q "$package=$version" >/dev/null 2>&1 && dpkg-deb -x ./*.deb .)
    # capitals: the build needs Documentation/Kconfig and Makefile, and nothing else of it
    tar -xf "$out/package/usr/src/$package.tar.xz" -C "$out/src" --strip-components=1 \
        --exclude='*/Documentation/[a-z]*' --exclude='*/tools/testing/*' --exclude='*/sound/*.[ch]'
    rm -rf "$out/package"
    patch -s -d "$out/src" -p1 <"$here/kernel.patch"
    echo "$version" >"$out/src/.debian"
}

configure() {
    make -s -C "$out/src" allnoconfig KCONFIG_ALLCONFIG="$here/kernel.config" >/dev/null
    local missing
    missing=$(grep '^CONFIG_' "$here/kernel.config" | grep -vxFf "$out/src/.config" || true)
    [ -z "$missing" ] || { echo "kernel.sh: not in the configuration that results: $missing" >&2; exit 1; }
}

unpack
configure
nice -n "${NICE:-10}" make -s -C "$out/src" -j"$jobs" bzImage modules
release=$(make -s -C "$out/src" kernelrelease)
rm -rf "$out/root"
make -s -C "$out/src" INSTALL_MOD_PATH="$out/root" DEPMOD=true modules_install
depmod -b "$out/root" "$release"
# not the uncompressed one: its PVH entry runs before KASAN can
cp "$out/src/arch/x86/boot/bzImage" "$out/vmlinux"
ln -sfn "$out/root/lib/modules/$release" "$out/modules"
ln -sfn "$out/src" "$out/headers"
echo "$release" >"$out/release"
echo "$hash" >"$out/ready"
