#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Builds dm-dek.ko against a kernel's headers: build.sh HEADERS OUT [make arguments, e.g. C=2 DEK_CFLAGS=-D...]
set -euo pipefail
headers=${1:?usage: build.sh HEADERS OUT [make arguments]} out=${2:?usage: build.sh HEADERS OUT}
shift 2
top=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$out"/{linux,core,proto}
out=$(cd "$out" && pwd)
for part in linux:kernel-shim/linux core:kernel-shim/core proto:libdekproto/src; do
    rm -f "$out/${part%%:*}"/*.[ch]
    cp -pu "$top/${part#*:}"/*.[ch] "$out/${part%%:*}/" 2>/dev/null || true
done
rm -rf "$out/include" && cp -rp "$top/libdekproto/include" "$out/include"
cp "$top/kernel-shim/linux/Kbuild" "$out/Kbuild"
# BTF of a module needs pahole and the kernel's own; nothing here uses it.
exec make -s -C "$headers" M="$out" CONFIG_DEBUG_INFO_BTF_MODULES= "$@" modules
