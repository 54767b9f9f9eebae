#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# load_test.sh VM_LOAD: what it writes it reads back, goes on with, and misses when it has changed.
set -eu
load=$1
work=$(mktemp -d -p .)
trap 'rm -rf "$work"' EXIT
"$load" "$work/file" --size 16384 --seconds 1 --fsync 16 --state "$work/state" | grep -q ' errors=0 wrong=0 '
"$load" verify "$work/file" --state "$work/state"
"$load" "$work/file" --range 1000-3000 --seed 2 --state "$work/state" &
pid=$!
sleep 0.3
kill -TERM $pid
wait $pid
"$load" verify "$work/file" --state "$work/state"
printf x | dd of="$work/file" bs=1 seek=1000000 conv=notrunc 2>/dev/null
if "$load" verify "$work/file" --state "$work/state" >"$work/out"; then exit 1; fi
grep -q '^LBA 1953: pass [0-9]* was written, and there is something else' "$work/out"
truncate -s 4M "$work/file"
if "$load" verify "$work/file" --range 0-16383 --state "$work/state" >"$work/out" 2>&1; then exit 1; fi
if "$load" verify "$work/file" >"$work/out"; then exit 1; fi # nothing was looked at
