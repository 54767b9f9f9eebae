# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# seconds: 1500
# base: small
# memory: 168M
# disk: 640M
# Swap on an encrypted volume: twice the memory there is in use, for a minute (SWAP_SECONDS).
# once: yes
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
modprobe virtio_pci
modprobe virtio_blk
load
memory=$(awk '/^MemTotal/ {print $2}' /proc/meminfo)
check "no more than 128 MiB: $memory KiB" [ "$memory" -le 131072 ]
sectors=$(cat /sys/class/block/vda/size)
dek swap 1 "$sectors" /dev/vda 0 4096
e 1 map 1 0+"$sectors"
e 1 associate "$key1" 4096 unit 0 0 0+"$sectors" >/dev/null
check "swap on it" sh -c 'mkswap /dev/mapper/swap && swapon /dev/mapper/swap'

# 256 MiB in memory's filesystem, of which half is always out.
mkdir /fill
mount -t tmpfs -o size=400M fill /fill
fill() { for n in $(seq 16); do dd if=/dev/urandom of="/fill/$n" bs=1M count=16 2>/dev/null || return; done; (cd /fill && sha256sum [0-9]* >sums); }
check "filled" fill
check "half of it is swapped out" sh -c 'awk "/pswpout/ {exit \$2 < 32768}" /proc/vmstat'
end=$(($(cut -d. -f1 /proc/uptime) + ${SWAP_SECONDS:-60})) rounds=0 bad_rounds=0
while [ "$(cut -d. -f1 /proc/uptime)" -lt "$end" ]; do
    (cd /fill && sha256sum -c sums >/dev/null) || bad_rounds=$((bad_rounds + 1))
    n=$((rounds % 16 + 1))
    dd if=/dev/urandom of=/fill/$n bs=1M count=16 conv=notrunc 2>/dev/null
    (cd /fill && sha256sum [0-9]* >sums)
    rounds=$((rounds + 1))
done
check "read back as written, $rounds rounds" [ "$rounds" -gt 0 -a "$bad_rounds" = 0 ]
eval "$(e 1 stats)"
# shellcheck disable=SC2154
check "nothing was fenced or failed" [ "$fence_hits" = 0 ]
check "nobody was killed for memory" refused sh -c 'dmesg | grep -i "out of memory"'
umount /fill
dd if=/dev/vda of=/tmp/start bs=4k count=1 2>/dev/null
check "swap off" swapoff /dev/mapper/swap
check "swap's signature is not on the disk" refused grep -q SWAPSPACE2 /tmp/start
dmsetup remove swap
verdict
