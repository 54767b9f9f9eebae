#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Compiles the shim core and libdekproto's C as kernel objects: warnings are errors, sparse checks byte order and
# address spaces, no frame is larger than 1 KiB. Usage: kbuild.sh SOURCE_DIR BUILD_DIR. Exit 77: no kernel headers.
set -eu
src=$1
out=$2/core-kbuild
headers=$(ls -d /usr/src/linux-headers-*-amd64 2>/dev/null | sort -V | tail -n 1)
if [ -z "$headers" ]; then
	echo "no kernel headers (package linux-headers-amd64)"
	exit 77
fi
command -v sparse >/dev/null || { echo "no sparse"; exit 77; }

rm -rf "$out"
mkdir -p "$out"
# Links, so that what the kernel's build leaves behind lies here and not beside the sources.
for file in "$src"/kernel-shim/core/*.[ch] "$src"/libdekproto/src/*.[ch]; do
	[ ! -e "$file" ] || ln -s "$file" "$out/"
done
objects=$(cd "$out" && ls ./*.c | sed 's|^\./||; s|\.c$|.o|' | tr '\n' ' ')
cat >"$out/Kbuild" <<EOF
obj-m := dekcore_check.o
dekcore_check-y := module.o $objects
ccflags-y := -I$src/libdekproto/include -I$src/kernel-shim/core
ccflags-y += -Wall -Wextra -Werror -Wmissing-prototypes -Wframe-larger-than=1024
# The kernel's own headers are not written for -Wextra.
ccflags-y += -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers -Wno-type-limits
EOF
cat >"$out/module.c" <<'EOF'
#include <linux/module.h>
MODULE_LICENSE("Dual MIT/GPL");
MODULE_DESCRIPTION("Checks that the shim core is kernel code; never loaded");
EOF
log=$out/build.log
if ! make -C "$headers" M="$out" C=2 CF="-D__CHECK_ENDIAN__ -Wbitwise -Wcontext" modules >"$log" 2>&1; then
	cat "$log"
	exit 1
fi
if grep -E '(warning|error):' "$log"; then
	exit 1
fi
echo "built: $(ls "$out"/*.o | wc -l) objects against $(basename "$headers")"
