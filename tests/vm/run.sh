#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The kernel shim's suites, each in a virtual machine of its own:
#   run.sh [-b BUILD-FOLDER] [-q] [-d FOLDER] [-s SUITE]... [KERNEL]...    kernels 6.1 and 6.12, all of FOLDER unless named
# FOLDER: `suites`, or `layers` (endpoints beneath other devices, live switches).
# Kernels run side by side, each its suites one by one. -q: what says `# once: yes` runs on the last kernel only,
# `# once: 6.1` on that one, `# once: no` on none.
# (and `debug`, which debug.sh runs with settings of its own: VM_SECONDS, VM_MEMORY, VM_ARGS for the kernel)
# Prints `ok NAME` and `FAILED NAME` lines; fails when there is one of the latter. VM_KERNELS names the folder of
# prepared kernels (build/vm).
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
build=$top/build folder=suites suites=() failures=0 quick=
while getopts b:d:qs: option; do
    case $option in
    b) build=$OPTARG ;;
    d) folder=$OPTARG ;;
    q) quick=1 ;;
    s) suites+=("$OPTARG") ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
versions=("$@")
[ ${#versions[@]} -gt 0 ] || versions=(6.1 6.12)
if [ ${#suites[@]} = 0 ]; then
    for suite in "$here/$folder"/*.sh; do suites+=("$(basename "$suite" .sh)"); done
    if [ "$folder" = suites ]; then suites+=(udev try-kernel quickstart); fi
fi
kernels=${VM_KERNELS:-$top/build/vm}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

result() { # NAME RC
    if [ "$2" = 0 ]; then echo "ok $1"; else echo "FAILED $1"; failures=$((failures + 1)); fi
}

modules="dm-mod dm-crypt dm-delay dm-flakey dm-zero dm-multipath dm-round-robin dm-mirror dm-raid raid1 dm-log-writes brd null_blk loop scsi_debug sd_mod aesni-intel xts ecb cbc gcm
ccm cryptd virtio_pci virtio_blk 9pnet_virtio 9p"
programs="bash dmsetup fio blockdev losetup blkdiscard fallocate truncate dd cmp $build/tests/shim/shim_conformance
$build/tests/vm/vm_endpoint"
for program in vm_fuzz vm_replay; do
    if [ -x "$build/tests/vm/$program" ]; then programs="$programs $build/tests/vm/$program"; fi
done

# A suite says in comments what it needs beside that: `# base: stack` (for those in layers/ it is `layers`), `# memory: 128M`, `# disk: 512M` (as /dev/vda),
# `# seconds: 900`, `# once: yes` (long, and little in it depends on the kernel's version), `# once: 6.1` (the same, on that one) or `# once: no`.
setting() { # SUITE NAME DEFAULT
    local value
    value=$(sed -n "s/^# $2: //p" "$(script_of "$1")")
    echo "${value:-$3}"
}
limit() { # SUITE: seconds
    local own
    own=$(setting "$1" seconds "${VM_SECONDS:-600}")
    echo $((own > ${VM_SECONDS:-0} ? own : VM_SECONDS))
}
script_of() { # SUITE
    if [ -e "$here/$folder/$1.sh" ]; then echo "$here/$folder/$1.sh"; else echo "$here/debug/suites/$1.sh"; fi
}
# What a kernel says when something is wrong. A suite may have cleared its log, but not the console.
complaints='BUG:|WARNING:|Oops|KASAN|UBSAN|possible (circular|recursive) locking|INFO: task .* blocked|unreferenced object|detected stalls|refcount_t'
base() { # VERSION KIND: prints the initramfs, made when the first suite asks for it
    local kernel=$kernels/$1 with="dm-mod dm-crypt dm-log-writes loop aesni-intel xts virtio_pci virtio_blk"
    local run="bash dmsetup losetup blkdiscard dd cmp $build/tests/vm/vm_endpoint $build/tests/vm/vm_replay"
    if [ "$2" = stack ] || [ "$2" = layers ]; then
        with="$modules ext4 xfs fuse crc32c_generic crc32c-intel"
        run="${programs/$build*shim_conformance/} keyctl mkfs.ext4 e2fsck mkfs.xfs xfs_repair $build/daemon/kcm/kcmd $build/utils/dekctl
$build/utils/dek-probe $build/kernel-shim/fuse/dek-shimd $build/tests/killpoint/libkillpoint.so"
    fi
    if [ "$2" = layers ]; then
        with="$with dm-mirror dm-raid raid1 dm-snapshot dm-multipath dm-round-robin dm-service-time dm-queue-length"
        run="$run lvm"
        for program in vm_load vm_scan vm_stack_dump; do
            if [ -x "$build/tests/vm/$program" ]; then run="$run $build/tests/vm/$program"; fi
        done
    fi
    if [ "$2" != suites ] && [ ! -e "$work/$1-$2" ]; then
        "$here/initramfs.sh" "$kernel" "$kernel/$2.cpio" "$with" "$run" >"$work/$1-$2" 2>&1 || cat "$work/$1-$2" >&2
    fi
    echo "$kernel/$2.cpio"
}

# The module, built with every warning an error and checked by sparse, and the initramfs.
prepare() { # VERSION
    local kernel=$kernels/$1
    "$here/kernel.sh" "$1" "$kernel" >"$work/$1.log" 2>&1 || { cat "$work/$1.log"; return 1; }
    "$top/kernel-shim/linux/build.sh" "$kernel/headers" "$kernel/dm-dek" -j2 C=1 DEK_CFLAGS=-Werror \
        >"$work/$1.log" 2>&1 || { cat "$work/$1.log"; return 1; }
    if grep -E 'warning:|error:' "$work/$1.log"; then return 1; fi
    "$here/initramfs.sh" "$kernel" "$kernel/suites.cpio" "$modules" "$programs" >"$work/$1.log" 2>&1 ||
        { cat "$work/$1.log"; return 1; }
}

run_suite() { # VERSION SUITE
    local version=$1 suite=$2 kernel=$kernels/$1 test="$work/$1-$2" start=$SECONDS rc
    mkdir "$test"
    cp "$here/guest.sh" "$here/stack.sh" "$here/recorded.sh" "$here/failing_stack.sh" "$test/"
    strip -g -o "$test/dm-dek.ko" "$kernel/dm-dek/dm-dek.ko"
    # busybox's own shell would run its applets instead of the programs that the suites mean
    { echo "suite='$version $suite'"; cat "$(script_of "$suite")"; } >"$test/suite.sh"
    echo 'exec bash /t/suite.sh' >"$test/run.sh"
    cp "$top/docs/recovery.md" "$test/"
    local disk=()
    if [ -n "$(setting "$suite" disk '')" ]; then
        truncate -s "$(setting "$suite" disk '')" "$work/$version-disk"
        disk=(-- -drive "file=$work/$version-disk,if=virtio,format=raw,cache=unsafe")
    fi
    "$here/vm.sh" -k "$kernel" -b "$(base "$version" "$(setting "$suite" base "$folder")")" \
        -m "$(setting "$suite" memory "${VM_MEMORY:-2G}")" -t "$(limit "$suite")" \
        -a "${VM_ARGS:-}" "$test" "${disk[@]}" >"$work/$version-$suite.log" 2>&1
    rc=$?
    grep -aE '^(ok|FAILED|    )' "$work/$version-$suite.log" | tr -d '\r'
    failures=$((failures + $(grep -acE '^FAILED' "$work/$version-$suite.log")))
    if grep -aE "$complaints" "$work/$version-$suite.log" && [ $rc = 0 ]; then rc=99; fi
    if [ $rc != 0 ]; then tail -n "${VM_TAIL:-30}" "$work/$version-$suite.log"; fi
    result "$version $suite ($((SECONDS - start)) s)" $rc
    rm -r "$test"
}

# Scripts with machines of their own: a cold boot of systemd, and what people are given to try.
run_script() { # VERSION NAME
    local version=$1 kernel=$kernels/$1 start=$SECONDS rc log="$work/$1-$2.log"
    case $2 in
    udev) "$here/udev.sh" "$kernel" "$build" "$kernel/dm-dek/dm-dek.ko" ;;
    quickstart) "$here/quickstart.sh" "$kernel" "$build" ;;
    try-kernel)
        VM_KERNELS=$kernels "$top/utils/try-kernel.sh" -k "$version" -b "$build" --run "set -e
            dekctl protect /dev/ram0 --name trial; dekctl protect disk.img --name image --encrypt 0-8191
            mkfs.ext4 -q /dev/dek/trial; mount /dev/dek/trial /mnt; dmsetup table | grep -c ' dek '; umount /mnt
            dekctl --json status trial | grep '\"shim\": *\"kernel\"'; dekctl detach trial; dekctl attach /dev/ram0" ;;
    *) echo "run.sh: no suite $2" && false ;;
    esac >"$log" 2>&1
    rc=$?
    grep -aE '^(ok|FAILED|    )' "$log" | sed "s/^\(ok\|FAILED\) /&$version /"
    [ $rc = 0 ] || tail -n 30 "$log"
    failures=$((failures + $(grep -acE '^FAILED' "$log")))
    result "$version $2 ($((SECONDS - start)) s)" $rc
}

is_left_out() { # VERSION SUITE
    local once=yes
    [ -n "$quick" ] || return 1
    if [ -e "$(script_of "$2")" ]; then once=$(setting "$2" once ''); elif [ "$2" != quickstart ]; then return 1; fi
    [ -n "$once" ] && [ "$1" != "${once/yes/${versions[-1]}}" ]
}

run_version() { # VERSION
    local version=$1 suite rc
    prepare "$version"
    rc=$?
    result "$version builds without a warning" $rc
    [ $rc = 0 ] || return
    for suite in "${suites[@]}"; do
        if is_left_out "$version" "$suite"; then
            continue
        elif [ -e "$(script_of "$suite")" ]; then
            run_suite "$version" "$suite"
        else
            run_script "$version" "$suite"
        fi
    done
    [ "$failures" = 0 ]
}

bad=0 running=()
for version in "${versions[@]}"; do
    run_version "$version" &
    running+=($!)
done
for pid in "${running[@]}"; do wait "$pid" || bad=1; done
[ "$bad" = 0 ]
