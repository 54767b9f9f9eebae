#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# symbols.sh LIBRARY: the protocol's C may need nothing of a C library but four functions.
set -eu

foreign=$(nm -u "$1" | awk '/ U / { print $2 }' | sort -u |
	grep -vE '^(dek_.*|mem(cpy|cmp|set|move)|__stack_chk_fail|_GLOBAL_OFFSET_TABLE_)$' || true)
if [ -n "$foreign" ]; then
	echo "not available in a kernel: $foreign"
	exit 1
fi
