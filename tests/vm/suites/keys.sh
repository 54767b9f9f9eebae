# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Keys that do not come in the clear give the same ciphertext; those that are not what they should be are refused.
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
load
modprobe brd rd_nr=1 rd_size=65536
dd if=/dev/urandom of=/tmp/plain bs=64k count=4 2>/dev/null
dek v 1 65536 /dev/ram0 0 4096
e 1 map 1 0+32768
for how in "" logon: wrapped: encrypted:; do
    handle=$(e 1 associate "$how$key1" 4096 unit 0 0 0+32768)
    check "key by '$how': taken" [ -n "$handle" ]
    check "key by '$how': written" dd if=/tmp/plain of=/dev/mapper/v bs=64k count=4 oflag=direct
    e 1 disassociate "$handle"
    dmsetup create c --table "$(crypt_table 32768 "$key1" 0 /dev/ram0 0 4096 unit)"
    check "key by '$how': dm-crypt reads it" cmp -n 262144 /tmp/plain /dev/mapper/c
    dmsetup remove c
    dd if=/dev/zero of=/dev/ram0 bs=64k count=4 oflag=direct 2>/dev/null
done
twice=$(printf '%064d%064d' 1 1)
for how in "" logon: wrapped: encrypted:; do
    check "key by '$how' with equal halves: refused" refused e 1 associate "$how$twice" 4096 unit 0 0 0+32768
done
check "a wrapped key with a flipped bit: refused" refused env FLIP=1 vm_endpoint "$(uuid_of 1)" associate "wrapped:$key1" 4096 unit 0 0 0+32768
check "a wrapped key without its KEK: refused" refused env NO_KEK=1 vm_endpoint "$(uuid_of 1)" associate "wrapped:$key1" 4096 unit 0 0 0+32768
check "a reference to no key: refused" refused env NO_KEK=1 vm_endpoint "$(uuid_of 1)" associate "logon:$key1" 4096 unit 0 0 0+32768
check "nothing came of those" sh -c "vm_endpoint $(uuid_of 1) list | grep -q 'associations 0'"
check "and nothing can be written" refused dd if=/tmp/plain of=/dev/mapper/v bs=64k count=4 oflag=direct
dmsetup remove v
check "the module goes" rmmod dm_dek
verdict
