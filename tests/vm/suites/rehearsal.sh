# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Rehearsal mode: off by default; then an engine that is full, busy or broken on command.
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
knobs=/sys/module/dm_dek/parameters
modprobe brd rd_nr=1 rd_size=65536
knob() { echo "$2" >$knobs/rehearse_"$1"; }
answer() { # STATUS COMMAND...: the command fails with this status of the protocol
    status=$1
    shift
    ! "$@" 2>/tmp/answer.log && grep -q "status $status\$" /tmp/answer.log || { cat /tmp/answer.log; false; }
}
busy=3 no_memory=2 hw_state=1 # enum dek_status
associate() { e 1 associate "$key1" 4096 unit 0 0 "$1"; }
put() { dd if=/tmp/plain of=/dev/mapper/v bs=64k count=1 oflag=direct "$@"; }
get() { dd if=/dev/mapper/v of=/tmp/got bs=64k count=1 iflag=direct && cmp /tmp/plain /tmp/got; }
dd if=/dev/urandom of=/tmp/plain bs=64k count=1 2>/dev/null

load
for name in capacity busy failure; do
    check "off: rehearse_$name cannot be set" refused knob $name 1
done
check "off: the engine is the CPU's" sh -c "vm_endpoint $(uuid_of 0) version | grep -q aes"
rmmod dm_dek
check "off: not at load either" refused insmod /t/dm-dek.ko rehearse_capacity=1

load rehearsal=1
check "it says what it is" [ "$(e 0 version)" = rehearsal ]
check "only 0 and 1 are a failure's states" refused knob failure 2
dek v 1 65536 /dev/ram0 0 4096
e 1 map 1 0+16384 32768+128

knob capacity 2
first=$(associate 0+1024)
second=$(associate 1024+1024)
check "full: a third key is answered No Memory" answer $no_memory associate 2048+1024
check "full: the two go on" put
check "full: and read back" get
e 1 disassociate "$second"
check "one out, one in" associate 2048+1024
knob capacity 0
check "no limit any more" associate 3072+1024

knob busy 2
check "busy once" answer $busy associate 4096+1024
check "busy twice" answer $busy associate 4096+1024
check "and then not" associate 4096+1024

knob failure 1
check "broken: a new key is answered Invalid HW State" answer $hw_state associate 5120+1024
check "broken: a write fails" refused put
check "broken: a read fails" refused get
check "broken: a write elsewhere in a key's range leaves nothing" refused put seek=4
check "broken: nothing has come to the device in the clear or otherwise" cmp -n 65536 -i 262144:0 /dev/ram0 /dev/zero
check "broken: plain ranges pass" put seek=200
eval "$(e 1 stats)"
# shellcheck disable=SC2154 # from the statistics
check "broken: counted as errors ($errors)" [ "$errors" -ge 3 ]
knob failure 0
check "repaired: what was written before is there" get
check "repaired: writes pass" put seek=4
check "repaired: a new key is taken" associate 5120+1024
e 1 disassociate "$first"
dmsetup remove v
knob failure 1
check "the module goes while it is broken" rmmod dm_dek
load rehearsal=1
check "and comes back whole" [ "$(cat $knobs/rehearse_failure)" = 0 ]
check "the module goes" rmmod dm_dek
verdict
