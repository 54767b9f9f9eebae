# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What a hold leaves behind: bios that go on in pieces after they were merged below, and commands that nobody waits
# for any more.
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
load

# One request at a time, so that others meet, and are merged, in the scheduler before it.
modprobe null_blk nr_devices=1 gb=1 memory_backed=1 queue_mode=2 irqmode=2 completion_nsec=3000000 hw_queue_depth=1 submit_queues=1 bs=4096
scheduler='' # a small kernel has none
if echo mq-deadline >/sys/block/nullb0/queue/scheduler; then scheduler=1; fi
echo 64 >/sys/block/nullb0/queue/nr_requests
dek v 1 262144 /dev/nullb0 0 4096
e 1 map 1 0+1024
dd if=/dev/urandom of=/tmp/plain bs=512k count=1 2>/dev/null
for n in $(seq 0 31); do # borders every 32 LBAs
    e 1 associate "$key1" 4096 unit 0 0 $((n * 32))+32 >/dev/null
done
dd if=/tmp/plain of=/dev/mapper/v bs=512k count=1 oflag=direct 2>/dev/null
fio --name=busy --filename=/dev/mapper/v --rw=randread --bs=4k --ioengine=libaio --iodepth=4 --direct=1 --offset=64m --size=32m \
    --time_based --runtime=600 >/dev/null 2>&1 &
busy=$!
read_units() { # NAME FIRST COUNT
    dd if=/dev/mapper/v of="/tmp/got-$1" bs=$((4096 * $3)) count=1 skip=$((4096 * $2)) iflag=direct,skip_bytes 2>/dev/null &&
        cmp -n $((4096 * $3)) -i 0:$((4096 * $2)) "/tmp/got-$1" /tmp/plain
}
# The first read is cut at a border, and the second is what can be merged behind its first piece.
merged_some() {
    for _ in $(seq 15); do
        token=$(e 1 quiesce 0+1024)
        readers=()
        for border in $(seq 4 4 48); do
            read_units "a$border" $((border - 1)) 2 &
            readers+=($!)
            sleep 0.05
            read_units "b$border" "$border" 1 &
            readers+=($!)
        done
        sleep 0.2
        e 1 release "$token"
        for reader in "${readers[@]}"; do wait "$reader" || return 1; done
    done
}
check "pieces that were merged below go on and read what was written" merged_some
[ -z "$scheduler" ] || check "some were merged" sh -c "awk '{exit \$2 == 0}' /sys/block/nullb0/stat"
kill -INT $busy
wait $busy
eval "$(e 1 stats)"
# shellcheck disable=SC2154
check "no error" [ "$errors" = 0 -a "$in_flight" = 0 ]
dmsetup remove v

# A command is killed while it waits for old I/O, and never sent again; I/O is slow and never stops.
modprobe brd rd_nr=1 rd_size=65536
modprobe dm-delay
dmsetup create slow --table "0 131072 delay /dev/ram0 0 60"
dek v 2 131072 /dev/mapper/slow 0 4096
e 2 map 1 0+131072
handle=$(e 2 associate "$key1" 4096 unit 0 0 0+65536)
fio --name=busy --filename=/dev/mapper/v --rw=randread --bs=4k --ioengine=libaio --iodepth=8 --direct=1 --size=32m \
    --time_based --runtime=60 >/tmp/busy.log 2>&1 &
busy=$!
sleep 1
e 2 update "$handle" "$key2" 4096 unit 0 0 0+65536 &
command=$!
sleep 0.05
check "an Update waits for I/O" kill -KILL $command
disassociated() {
    for _ in $(seq 30); do
        if e 2 disassociate "$handle"; then return 0; fi
        sleep 0.2
    done
    false
}
check "what it left unfinished settles under load" disassociated
kill -INT $busy
wait $busy
dmsetup remove v
dmsetup remove slow
check "the module goes" rmmod dm_dek
verdict
