# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Rehearsal mode: off by default; then an engine that is full, busy or broken on command, and what I/O meets that needs it.
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
knobs=/sys/module/dm_dek/parameters
modprobe brd rd_nr=2 rd_size=32768
for module in dm-multipath dm-round-robin dm-mirror; do modprobe $module; done
patience() { echo "$1" >$knobs/engine_patience; }
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
for name in capacity busy version failure; do
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
check "full: a Query is answered No Memory" answer $no_memory e 1 query 2048+1024
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

check "whole: a Query is answered Success" e 1 query 2048+1024
knob failure 1
patience 0
check "broken: a Query is answered Invalid HW State" answer $hw_state e 1 query 2048+1024
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
check "repaired: a Query is answered Success" e 1 query 2048+1024
check "repaired: what was written before is there" get
check "repaired: writes pass" put seek=4
check "repaired: a new key is taken" associate 5120+1024
e 1 disassociate "$first"
dmsetup remove v
patience 30

# ---- one that fails and comes back ----
length=65536
is() { [ "$1" = "$2" ] || { echo "$1, not $2"; false; }; }
waits() { # PID: it goes on waiting
    sleep 1 && kill -0 "$1"
}
take() { dd if=/dev/mapper/v of=/tmp/got bs=4k count=1 iflag=direct "$@" 2>/dev/null && cmp -n 4096 /tmp/plain /tmp/got; }
give() { dd if=/tmp/plain of="/dev/mapper/${1:-v}" bs=4k count=1 oflag=direct seek="${2:-0}" 2>/dev/null; } # [VOLUME [BLOCK]]
seconds() { # AT-LEAST AT-MOST COMMAND...: it fails within that time
    local start=$SECONDS
    ! "${@:3}" && [ $((SECONDS - start)) -ge "$1" ] && [ $((SECONDS - start)) -le "$2" ] || { echo "$((SECONDS - start)) s"; false; }
}
load_on() { # VOLUME LOOPS: random writes, beside the blocks that are read and written alone, read back and compared
    fio --name=v --filename="/dev/mapper/$1" --rw=randwrite --bsrange=4k-64k --ioengine=libaio --iodepth=8 --direct=1 \
        --offset=8m --size=4m --verify=crc32c --verify_fatal=1 --loops="$2" >/tmp/fio.log 2>&1
}
ends_well() { wait "$1" || { tail -n 8 /tmp/fio.log; false; }; }
leg() { # NAME NUMBER DEVICE OPTIONS...: with a key for all of it
    dek "$1" "$2" $length "$3" 0 4096 "${@:4}" && e "$2" map 1 0+$length && e "$2" associate "$key1" 4096 unit 0 0 0+$length
}
check "its patience is 30 seconds" is "$(cat $knobs/engine_patience)" 30
# Behind a queue: there a bio that comes back is at its end, in memory it is as it went.
modprobe loop
disk=$(losetup -f --show --direct-io=on /dev/ram0)
handle=$(leg v 2 "$disk")
flaps() { # ROUNDS: as long as the load goes on
    load_on v "$1" &
    local fio=$! rounds=0
    while kill -0 $fio 2>/dev/null; do
        knob failure 1 && sleep 0.7 && knob failure 0 && sleep 0.4
        rounds=$((rounds + 1))
    done
    ends_well $fio && echo "$rounds rounds" && [ $rounds -ge 3 ]
}
check "an engine that fails and comes back is no error, and all is right" flaps 4
eval "$(e 2 stats)"
# shellcheck disable=SC2154
check "some I/O met it: $errors, and waited: $waited" [ "$errors" -gt 0 -a "$waited" -gt 0 ]
# shellcheck disable=SC2154
check "none waits, none is in flight" [ "$waiting" = 0 -a "$in_flight" = 0 ]
give v 3
hold_two() { # the engine fails a read and a write
    knob failure 1
    take skip=3 &
    reader=$!
    give v "$1" &
    writer=$!
}
hold_two 4
check "a read waits" waits $reader
check "so does a write" kill -0 $writer
check "they count as waiting, however often they are tried" sh -c \
    "for n in $(seq -s' ' 40); do vm_endpoint $(uuid_of 2) stats | grep -x waiting=2 || exit 1; done"
token=$(timeout 2 vm_endpoint "$(uuid_of 2)" quiesce 0+$length)
check "no command waits for them" [ -n "$token" ]
knob failure 0
check "and they wait for that one" waits $writer
e 2 release "$token"
check "the read ends" wait $reader
check "and the write" wait $writer
hold_two 4
check "through a noflush suspend" sh -c "sleep 0.5; dmsetup suspend --noflush --nolockfs v && dmsetup resume v"
check "they wait" waits $writer
check "an Update is not held up" timeout 2 vm_endpoint "$(uuid_of 2)" update "$handle" "$key2" 4096 unit 0 0 0+$length
start=${EPOCHREALTIME/./}
check "a Disassociate is not held up" timeout 2 vm_endpoint "$(uuid_of 2)" disassociate "$handle"
wait $reader
check "then they meet the fence: the read" [ $? != 0 ]
wait $writer
check "and the write, at once" [ $? != 0 -a $((${EPOCHREALTIME/./} - start)) -lt 1500000 ]
knob failure 0
handle=$(e 2 associate "$key1" 4096 unit 0 0 0+$length)

hold_two 4
check "while it is broken" waits $writer
token=$(e 2 quiesce 0+$length)
check "they wait at a hold" waits $writer
e 2 disassociate "$handle"
check "the CPU takes the place of what is broken" e 2 engine cpu
check "nor is there room in what is broken" knob capacity 1
handle=$(e 2 associate "$key1" 4096 unit 0 0 0+$length)
check "there are no errors of the device's" kill -0 $reader $writer
e 2 release "$token"
check "the read ends" wait $reader
check "and the write" wait $writer
check "what is written there is right" take skip=4
e 2 disassociate "$handle"
knob capacity 0
knob failure 0
check "the accelerator again" e 2 engine accel
handle=$(e 2 associate "$key1" 4096 unit 0 0 0+$length)
check "reads what the CPU has written" take skip=4

patience 2
knob failure 1
check "patience over: a write fails" seconds 2 4 give v 5
check "and a read" seconds 2 4 take skip=3
patience 60
echo 2 >$knobs/suspend_patience
hold_two 6
sleep 0.5
check "a suspend with flush waits no longer than its own patience" timeout 5 dmsetup suspend v
dmsetup resume v
wait $reader
check "which fails the read" [ $? != 0 ]
wait $writer
check "and the write" [ $? != 0 ]
hold_two 6
sleep 0.5
dmsetup wipe_table --noflush --nolockfs v
wait $reader
check "the read goes with the table" [ $? != 0 ]
wait $writer
check "so does the write" [ $? != 0 ]
dmsetup remove v
check "the module goes while it fails and its volume is gone" rmmod dm_dek

# ---- one that fails for good: dm-crypt takes over ----
load rehearsal=1
leg v 2 "$disk" >/dev/null
give v 3
load_on v 4 &
fio=$!
sleep 0.5
hold_two 4
moved() {
    dmsetup load v --table "$(crypt_table $length "$key1" 0 "$disk" 0 4096 unit)" &&
        dmsetup suspend --noflush --nolockfs v && dmsetup resume v
}
check "it fails under load, which waits" waits $fio
check "another table takes over" moved
check "the read is right" wait $reader
check "the write ends" wait $writer
check "and is right" take skip=4
check "no error, and all that was written before and since is right" ends_well $fio
dmsetup remove v
check "no endpoint is left" rmmod dm_dek
losetup -d "$disk"

# ---- beneath others ----
load rehearsal=1
leg p1 1 /dev/ram0 1 fence:transport >/dev/null
dmsetup create p2 --table "$(crypt_table $length "$key1" 0 /dev/ram0 0 4096 unit)" # a path with an engine of its own
dmsetup create mp --table "0 $length multipath 2 queue_mode bio 0 1 1 round-robin 0 2 1 /dev/mapper/p1 1 /dev/mapper/p2 1"
path_state() { dmsetup status mp | grep -o "$(dmsetup info -c --noheadings -o major,minor "$1") [AF]" | cut -d' ' -f2; }
load_on mp 3 &
fio=$!
sleep 0.5
knob failure 1
check "a path whose engine fails is no error" ends_well $fio
check "but a failed path" is "$(path_state p1)$(path_state p2)" FA
knob failure 0
dmsetup message mp 0 reinstate_path "$(dmsetup info -c --noheadings -o major,minor p1)"
check "repaired, it serves, and all is right" load_on mp 1
check "both do" is "$(path_state p1)$(path_state p2)" AA
dmsetup remove mp
dmsetup remove p1
dmsetup remove p2

for disk in /dev/ram0 /dev/ram1; do dd if=/dev/zero of=$disk bs=1M oflag=direct 2>/dev/null; done
leg m1 3 /dev/ram0 1 fence:hold >/dev/null
leg m2 4 /dev/ram1 1 fence:hold >/dev/null
dmsetup create mir --table "0 $length mirror core 2 1024 nosync 2 /dev/mapper/m1 0 /dev/mapper/m2 0 1 handle_errors"
patience 0
load_on mir 2 &
fio=$!
sleep 0.5
knob failure 1
check "a mirror's legs hold, whatever the patience" sh -c "sleep 2; kill -0 $fio"
check "and stay in" sh -c "dmsetup status mir | grep -q ' AA '"
knob failure 0
check "repaired, they go on without an error" ends_well $fio
check "in place" sh -c "dmsetup status mir | grep -q ' AA '"
sum() { dd if="$1" bs=1M iflag=direct 2>/dev/null | md5sum; }
check "and hold the same" is "$(sum /dev/ram0)" "$(sum /dev/ram1)"
dmsetup remove mir
dmsetup remove m1
dmsetup remove m2
rmmod dm_dek
load rehearsal=1
check "and comes back whole" [ "$(cat $knobs/rehearse_failure)" = 0 ]
check "the module goes" rmmod dm_dek
verdict
