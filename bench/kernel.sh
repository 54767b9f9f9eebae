#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Instructions per I/O of the kernel shim, beside dm-linear and dm-crypt in the same boot: kernel.sh BUILD-FOLDER [KERNEL]...
# In virtual machines that count instructions: repeatable to a per cent, on a busy host too. Prints the costs and
# `figure K<kernel>_NAME VALUE GOAL` lines: the peer's instructions over ours. VM_KERNELS as for tests/vm/run.sh.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
build=$(realpath "${1:?usage: kernel.sh BUILD-FOLDER [KERNEL]...}")
shift
kernels=${VM_KERNELS:-$top/build/vm}
[ $# -gt 0 ] || set -- 6.1 6.12
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

prepare() { # KERNEL-FOLDER
    local kernel=$1 shim=$top/kernel-shim/linux
    "$shim/build.sh" "$kernel/headers" "$kernel/dm-dek" -j2 >&2
    "$shim/build.sh" "$kernel/headers" "$kernel/dm-dek-null" -j2 DEK_CFLAGS=-DDEK_MEASURE_NULL_CIPHER=1 >&2
    mkdir -p "$kernel/measure"
    cp "$shim"/measure/* "$kernel/measure/"
    make -s -C "$kernel/headers" M="$(realpath "$kernel/measure")" CONFIG_DEBUG_INFO_BTF_MODULES= modules >&2
    "$top/tests/vm/initramfs.sh" "$kernel" "$kernel/bench.cpio" "dm-mod dm-crypt brd aesni-intel xts" \
        "bash dmsetup fio dd $build/tests/vm/vm_endpoint"
}

boot() { # KERNEL-FOLDER SUITE KERNEL-ARGUMENT: the costs
    local test=$work/$2
    rm -rf "$test" && mkdir "$test"
    cp "$top/tests/vm/guest.sh" "$test/"
    strip -g -o "$test/dm-dek.ko" "$1/dm-dek/dm-dek.ko"
    strip -g -o "$test/dm-dek-null.ko" "$1/dm-dek-null/dm-dek.ko"
    strip -g -o "$test/dek-measure.ko" "$1/measure/dek-measure.ko"
    { echo "suite=$2"; cat "$top/bench/kernel_guest.sh"; } >"$test/suite.sh"
    echo 'exec bash /t/suite.sh' >"$test/run.sh"
    if ! "$top/tests/vm/vm.sh" -i -k "$1" -b "$1/bench.cpio" -m 3G -t 900 -a "$3" "$test" >"$work/log" 2>&1; then
        tail -n 40 "$work/log" >&2
        return 1
    fi
    tr -d '\r' <"$work/log" | grep -a '^cost '
}

figures() { # KERNEL, costs on stdin
    awk -v k="K${1//./}" '
        { c[$2 " " $3] = $4; print }
        function figure(name, peer, ours, goal61, goal612) {
            printf "figure %s_%s %.3f %s\n", k, name, peer / ours, k == "K61" ? goal61 : goal612
        }
        END {
            figure("read_4k_vs_ideal", c["ideal r4"], c["dek r4"], 0.97, 0.97)
            figure("write_4k_vs_ideal", c["ideal w4"], c["dek w4"], 0.92, 0.92)
            figure("write_4k_vs_ideal_noinit", c["noinit-ideal w4"], c["noinit-dek w4"], 0.93, 0.93)
            figure("read_4k_vs_dmcrypt", c["crypt r4"], c["dek r4"], 1.25, 1.15)
            figure("write_4k_vs_dmcrypt", c["crypt w4"], c["dek w4"], 1.7, 1.5)
            figure("read_4k_vs_nowq", c["nowq r4"], c["dek r4"], 1.01, 1.01)
            figure("write_4k_vs_nowq", c["nowq w4"], c["dek w4"], 1.15, 1.15)
            figure("read_128k_vs_nowq", c["nowq r128"], c["dek r128"], 1.0, 1.0)
            figure("write_128k_vs_nowq", c["nowq w128"], c["dek w128"], 1.25, 1.25)
            figure("null_read_vs_linear", c["linear r4"], c["null r4"], 0.95, 0.95)
            figure("null_write_vs_linear", c["linear w4"], c["null w4"], 0.88, 0.88)
            figure("plain_vs_linear", c["linear r4"] + c["linear w4"], c["plain r4"] + c["plain w4"], 0.97, 0.97)
            figure("60_vs_100k_ranges", c["ranges60 r4"], c["ranges100k r4"], 0.99, 0.99)
            figure("install_100k", 5, c["install 100k"], 1.0, 1.0)
        }'
}

for version in "$@"; do
    "$top/tests/vm/kernel.sh" "$version" "$kernels/$version"
    prepare "$kernels/$version"
    boot "$kernels/$version" all init_on_alloc=1 >"$work/costs"
    boot "$kernels/$version" write init_on_alloc=0 | sed 's/^cost /cost noinit-/' >>"$work/costs"
    figures "$version" <"$work/costs"
done
