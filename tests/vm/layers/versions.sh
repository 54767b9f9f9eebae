# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# seconds: 900
# memory: 3G
# once: yes
# Two endpoints that speak different versions of the protocol, beneath others: the lower one is what is agreed on, who needs
# more is told so, and a volume over both is encrypted by them.
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
# shellcheck source=tests/vm/stack.sh
. /t/stack.sh
# shellcheck source=tests/vm/recorded.sh
. /t/recorded.sh
cd /tmp || exit
for module in dm-mirror dm-multipath dm-round-robin; do modprobe "$module"; done
# shellcheck source=tests/vm/failing_stack.sh
. /t/failing_stack.sh
record rec-a /dev/mapper/disk-a /dev/ram3
record rec-b /dev/mapper/disk-b /dev/ram5
knob version 3
check "a leg of version 3" d endpoint create /dev/mapper/rec-a --name a
knob version 2
check "a leg of version 2" d endpoint create /dev/mapper/rec-b --name b
knob version 0
answer() { # EXPECTED ARGUMENTS...
    vm_stack_dump handshake "${@:2}" >answer 2>&1
    [ "$(cat answer)" = "$1" ] || { cat answer; false; }
}
lacks() { echo "Bad Version: $1 needs version $2 of the protocol, and beneath it there is $3"; }

half=$((length / 2))
dmsetup create concatenation --table "0 $half linear $a 0
$half $half linear $b 0"
dmsetup create stripes --table "0 $length striped 2 128 $a 0 $b 0"
dmsetup create mirror --table "0 $length mirror core 2 64 nosync 2 $a 0 $b 0 1 handle_errors"
dmsetup create paths --table "0 $length multipath 2 queue_mode bio 0 1 1 round-robin 0 2 1 $a 1 $b 1"
dmsetup create alone --table "0 $length linear $a 0"
dmsetup create stripes-part --table "0 $half linear /dev/mapper/stripes 128"
check "over the newer one alone: 3" answer "version 3" /dev/mapper/alone 9
check "and no more than was asked for" answer "version 2" /dev/mapper/alone 2
for device in concatenation:linear stripes:striped mirror:mirror paths:multipath stripes-part:linear; do
    kind=${device#*:} device=${device%:*}
    check "$device: the lower of both" answer "version 2" /dev/mapper/$device 9
    check "$device: one is one" answer "version 1" /dev/mapper/$device 1
    check "$device: who needs 2 has it" answer "version 2" /dev/mapper/$device 9 2
    # In a layer over another it is the lower one that refuses.
    who="$kind /dev/mapper/$device"
    if [ $device = stripes-part ]; then who="striped /dev/mapper/stripes"; fi
    check "$device: who needs 3 is told" answer "$(lacks "$who" 3 2)" /dev/mapper/$device 9 3
done
dmsetup remove stripes-part alone paths mirror concatenation stripes

check "stripes over both" dmsetup create stripes --table "0 $length striped 2 128 $a 0 $b 0"
check "protect" d protect /dev/mapper/stripes --name v --key k64
check "both encrypt" by v endpoints
begin_load /dev/dek/v --fsync 32 --pause 4000 --most 32
sleep 2
check "it goes on" loaded
check "nothing was lost" end_load
load_did
check "all of it is there" vm_load verify /dev/dek/v --state load.state
check "detach" d detach v
dmsetup remove stripes
check "no legs" no_legs
finish
