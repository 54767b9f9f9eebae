#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs TEST/run.sh as root in a fresh virtual machine:
#   vm.sh -k KERNEL-FOLDER -b BASE.cpio [-t SECONDS] [-m MEMORY] [-s CPUS] [-i] [-I] [-a "KERNEL ARGS"] [-o FOLDER] TEST [-- QEMU ARGS]
# -I connects the terminal with the guest's console.
# -i counts instructions (one CPU; the guest's clock is its instruction count, repeatable to under 1 %).
# -o shares FOLDER with the guest as /out. Exit status: the guest's; 124 time limit, 126 it died without a verdict.
set -uo pipefail
seconds=300 memory=1G cpus=2 icount='' args='' out='' input=/dev/null foreground=''
while getopts k:b:t:m:s:iIa:o: option; do
    case $option in
    k) kernel=$OPTARG ;;
    b) base=$OPTARG ;;
    t) seconds=$OPTARG ;;
    m) memory=$OPTARG ;;
    s) cpus=$OPTARG ;;
    i) icount=1 ;;
    I) input=/dev/stdin foreground=--foreground ;;
    a) args=$OPTARG ;;
    o) out=$OPTARG ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
test_folder=$1
shift
[ "${1:-}" = -- ] && shift

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/root"
ln -s "$(realpath "$test_folder")" "$work/root/t"
{ cat "$base" && (cd "$work/root" && find -L t | LC_ALL=C sort | cpio -oL -H newc --quiet); } >"$work/initrd"

accel=(-accel "tcg,thread=multi,tb-size=256")
if [ -n "$icount" ]; then accel=(-accel "tcg,thread=single" -icount "shift=0,sleep=off") cpus=1; fi
share=()
if [ -n "$out" ]; then
    mkdir -p "$out"
    share=(-fsdev "local,id=out,path=$out,security_model=none" -device "virtio-9p-pci,fsdev=out,mount_tag=out")
    args="$args 9p_out"
fi
boot() {
    timeout $foreground -k 5 "$seconds" qemu-system-x86_64 "${accel[@]}" -machine pc -cpu max -smp "$cpus" -m "$memory" \
    -nodefaults -no-user-config -display none -no-reboot -serial stdio -monitor none \
    -device isa-debug-exit,iobase=0xf4,iosize=0x04 -kernel "${VMLINUX:-$kernel/vmlinux}" -initrd "$work/initrd" \
    -append "console=ttyS0 panic=-1 oops=panic mitigations=off tsc=reliable no_timer_check quiet loglevel=4 $args" \
    "${share[@]}" "$@" <"$input"
}
# The kernel patches its own code while it comes up, and the emulator may let another processor run half of it (an oops by int3
# before there is a process). Such a machine has done nothing yet, and is started again.
for _ in 1 2 3; do
    if [ -n "$foreground" ]; then boot "$@"; else boot "$@" >"$work/console"; fi
    rc=$?
    if [ -n "$foreground" ] || grep -q '^vm: up' "$work/console" || ! grep -q 'int3: 0000' "$work/console"; then break; fi
done
[ -n "$foreground" ] || cat "$work/console"
if [ "$rc" -ge 33 ] && [ "$rc" -le 233 ] && [ $((rc % 2)) = 1 ]; then exit $(((rc - 33) / 2)); fi
if [ "$rc" = 124 ] || [ "$rc" = 137 ]; then echo "vm: time limit of $seconds s"; exit 124; fi
echo "vm: ended without a verdict (QEMU's exit status $rc): panic, reset or hang"
exit 126
