#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Builds dm-dek.ko against a kernel's headers: build.sh HEADERS OUT [make arguments, e.g. C=2 DEK_CFLAGS=-D...]
set -euo pipefail
headers=${1:?usage: build.sh HEADERS OUT [make arguments]} out=${2:?usage: build.sh HEADERS OUT}
shift 2
top=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$out"
out=$(cd "$out" && pwd)

# What is the same stays as old as it is, so that no more is compiled again than has changed.
copy() { # FILE PLACE
    local to=$out/$2
    cmp -s "$1" "$to" || { mkdir -p "${to%/*}" && cp "$1" "$to"; }
    copied+=("$to")
}
copied=()
for part in linux:kernel-shim/linux core:kernel-shim/core proto:libdekproto/src; do
    for file in "$top/${part#*:}"/*.[ch]; do
        [ ! -e "$file" ] || copy "$file" "${part%%:*}/${file##*/}"
    done
done
while read -r file; do copy "$file" "include/${file#"$top/libdekproto/include/"}"; done \
    < <(find "$top/libdekproto/include" -type f)
copy "$top/kernel-shim/linux/Kbuild" Kbuild
# A file that has gone from the tree goes here, too.
find "$out"/{linux,core,proto,include} -name '*.[ch]' | while read -r file; do
    [[ " ${copied[*]} " = *" $file "* ]] || rm "$file"
done
# BTF of a module needs pahole and the kernel's own; nothing here uses it.
exec make -s -C "$headers" M="$out" CONFIG_DEBUG_INFO_BTF_MODULES= "$@" modules
