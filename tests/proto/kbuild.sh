#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# kbuild.sh SOURCE BUILD: compiles libdekproto's C as kernel code, warnings as errors, through sparse where
# there is one, against every set of kernel headers found. 77: there is none.
set -eu

source=$1 build=$2
tried=0

compile() {
	rm -rf "$build"
	mkdir -p "$build"
	cp -r "$source/include" "$source"/src/*.c "$build"
	objects=$(cd "$build" && echo *.c | sed 's/\.c/.o/g')
	cat >"$build/Kbuild" <<-EOF
		obj-m := dekproto.o
		dekproto-y := $objects
		ccflags-y := -I$build/include -Wall -Werror -Wvla -Wframe-larger-than=1024
	EOF
	sparse=
	if command -v sparse >/dev/null; then
		sparse="C=2 CF=-D__CHECK_ENDIAN__"
	fi
	# shellcheck disable=SC2086 # words on purpose
	make -C "$1" M="$build" $sparse $objects >"$build/log" 2>&1 || {
		cat "$build/log"
		exit 1
	}
	# sparse only warns.
	if grep -E "(warning|error):" "$build/log"; then
		exit 1
	fi
	for object in $objects; do
		test -s "$build/$object"
	done
	echo "compiled against $1${sparse:+, checked by sparse}"
}

for headers in /usr/src/linux-headers-*-amd64 /lib/modules/*/build; do
	if [ -f "$headers/Makefile" ] && [ "$(readlink -f "$headers")" != "${last:-}" ]; then
		last=$(readlink -f "$headers")
		compile "$headers"
		tried=1
	fi
done
[ "$tried" = 1 ] || exit 77
