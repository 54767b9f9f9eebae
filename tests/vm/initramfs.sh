#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds a base initramfs: initramfs.sh KERNEL-FOLDER OUT "MODULE..." "PROGRAM..."
# busybox, the modules with all they depend on, and the programs with their libraries; tests/vm/init is PID 1.
set -euo pipefail
kernel=$1 out=$(realpath -m "$2") modules=$3 programs=$4
here=$(cd "$(dirname "$0")" && pwd)
release=$(cat "$kernel/release")
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT

mkdir -p "$tree"/{bin,sbin,dev,proc,sys,run,tmp,etc,t,mnt,lib64,usr/bin,usr/sbin,usr/lib,var/lib,lib/modules/"$release"}
cp /bin/busybox "$tree/bin/busybox"
for applet in $(/bin/busybox --list); do
    [ "$applet" = busybox ] || ln -sf busybox "$tree/bin/$applet"
done
ln -sf ../bin/busybox "$tree/sbin/modprobe" # the kernel calls this path to load what it misses

add_program() {
    local path library
    path=$(readlink -f "$(command -v "$1")") || { echo "initramfs.sh: no program $1" >&2; exit 1; }
    rm -f "$tree/bin/${1##*/}"
    cp "$path" "$tree/bin/${1##*/}"
    strip -g "$tree/bin/${1##*/}" 2>/dev/null || true # a script stays as it is
    ldd "$path" 2>/dev/null | grep -oE '/[^ ]+\.so[^ ]*' | while read -r library; do
        mkdir -p "$tree${library%/*}"
        cp -Ln "$library" "$tree$library" || true
    done
}
for program in $programs; do add_program "$program"; done

source=$(readlink -f "$kernel/modules")
base=${source%/lib/modules/*}
for module in $modules; do
    modprobe -d "${base:-/}" -S "$release" --show-depends "$module" 2>/dev/null || echo "missing $module" >&2
done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | sort -u | while read -r file; do
    relative=${file#*"/lib/modules/$release/"}
    mkdir -p "$tree/lib/modules/$release/${relative%/*}"
    case $file in
    *.xz) xz -dc "$file" >"$tree/lib/modules/$release/${relative%.xz}" ;;
    *) cp "$file" "$tree/lib/modules/$release/$relative" ;;
    esac
done
cp "$source"/modules.{builtin,order,builtin.modinfo} "$tree/lib/modules/$release/"
depmod -b "$tree" "$release"
cp "$here/init" "$tree/init"
chmod +x "$tree/init"
(cd "$tree" && find . -mindepth 1 | LC_ALL=C sort | cpio -o -H newc --quiet) >"$out"
