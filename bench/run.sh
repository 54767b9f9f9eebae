#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Benchmarks against the real peer, in one run: bench/run.sh cipher|volume|lookup|kernel|switch ...
# Prints `figure NAME VALUE GOAL` for each ratio (higher is better) and fails when one misses its goal.
set -uo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top" || exit 1
build=${BUILD:-build}
[ $# -gt 0 ] || { sed -n '3,4s/^# //p' "$0" >&2; exit 2; }

sh utils/setup.sh build run test bench || exit 1
cmake -S . -B "$build" -G Ninja -DBUILD_TESTING=ON >/dev/null || exit 1
ninja -C "$build" bench_cipher bench_lookup dek-shimd kcmd dekctl dek-probe vm_endpoint vm_load >/dev/null || exit 1
grep -m 1 'model name' /proc/cpuinfo | sed 's/.*: /on /'

out=$(mktemp)
trap 'rm -f "$out"' EXIT
for group in "$@"; do
    case $group in
    cipher) "$build/bench/bench_cipher" ;;
    lookup) "$build/bench/bench_lookup" ;;
    volume) bench/volume.py "$build" ;;
    kernel) bench/kernel.sh "$build" ;;
    switch) bench/switch.sh "$build" ;;
    *) echo "bench/run.sh: no group $group" >&2; exit 2 ;;
    esac | tee -a "$out" || exit 1
done
awk '$1 == "figure" {n++; if ($3 + 0 < $4 + 0) {print "missed: " $0; bad = 1}} END {exit bad || !n}' "$out"
