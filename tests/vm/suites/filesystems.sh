# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# base: stack
# XFS, and ext4 with 1 KiB blocks on 512-byte data units, over the kernel shim; checked by their own checkers, and read by dm-crypt.
# once: yes
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
load
modprobe ext4
modprobe xfs
modprobe brd rd_nr=1 rd_size=393216
sectors=$((393216 * 2 - 2048))
mkdir -p /v

fill() {
    mkdir -p /v/a/b && for n in $(seq 200); do head -c $((n * 137)) /dev/urandom >"/v/a/b/small$n" || return; done
    dd if=/dev/urandom of=/v/big bs=64k count=400 conv=fsync && rm -r /v/a/b/small1* && fsync_all
    (cd /v && find . -type f -exec sha256sum {} + | sort -k 2 >/tmp/sums)
}
fsync_all() { sync; }
reads_well() { (cd /v && sha256sum -c /tmp/sums >/dev/null); }

filesystem() { # TITLE UNIT RULE CHECKER MKFS...
    title=$1 unit=$2 rule=$3 checker=$4
    shift 4
    dek v 1 $sectors /dev/ram0 2048 "$unit"
    e 1 map 1 2048+$sectors
    e 1 associate "$key1" "$unit" "$rule" 2048 0 2048+$sectors >/dev/null
    check "$title: made" "$@" /dev/mapper/v
    check "$title: mounted" mount /dev/mapper/v /v
    check "$title: filled" fill
    fio --name=f --directory=/v --rw=randrw --bsrange=512-16k --bs_unaligned --size=24M --verify=crc32c --verify_fatal=1 \
        --runtime=8 --time_based --fsync=32 >fio.log 2>&1
    check "$title: fio verifies" [ $? = 0 ]
    check "$title: unmounted" umount /v
    # shellcheck disable=SC2086
    check "$title: its checker is content" $checker /dev/mapper/v
    dmsetup remove v
    dmsetup create c --table "$(crypt_table $sectors "$key1" 0 /dev/ram0 2048 "$unit" "$rule")"
    check "$title: dm-crypt mounts it" mount /dev/mapper/c /v
    check "$title: and reads every file" reads_well
    umount /v
    dmsetup remove c
}
filesystem "XFS" 4096 unit "xfs_repair -n" mkfs.xfs -q -f -K
filesystem "XFS, lba512" 4096 lba512 "xfs_repair -n" mkfs.xfs -q -f -K
filesystem "ext4, 1 KiB, 512" 512 unit "e2fsck -fn" mkfs.ext4 -q -F -b 1024
filesystem "ext4, 1 KiB, 1024" 1024 lba512 "e2fsck -fn" mkfs.ext4 -q -F -b 1024
check "the module goes" rmmod dm_dek
verdict
