# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# seconds: 1500
# base: stack
# Power fails at every flush and FUA write: what dm-log-writes recorded of header and keystore updates is played back up to
# each, and must read as before the update or as after it; as after it once the command had said so.
# once: 6.1
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
# shellcheck source=tests/vm/stack.sh
. /t/stack.sh
cd /tmp || exit
load
modprobe dm-log-writes
start_stack --shim kernel
head -c 64 /dev/urandom >k64
d key import --name k64 --file k64 >/dev/null

recorded() { # NAME MiB: the device /dev/mapper/NAME, its writes recorded in NAME.log
    truncate -s "$2M" "$1.img"
    truncate -s 128M "$1.log"
    dmsetup create "$1" --table "0 $(($2 * 2048)) log-writes $(loop "$1.img" 512) $(loop "$1.log" 512)"
}
mark() { # NAME WORD: device-mapper splits a message at spaces
    dmsetup message "$1" 0 mark "$2" || check "$1: mark '$2'" false
}
unrecord() {
    dmsetup remove "$1"
    losetup -j "$1.img" -j "$1.log" 2>/dev/null | cut -d: -f1 | while read -r l; do losetup -d "$l"; done
}
text() { yes "$1" | dd of=/dev/dek/v bs=64k seek="$2" count="$3" iflag=fullblock oflag=direct conv=fsync; }
sequence() { dek-probe "$@" "$device" | sed -n 's/^sequence: *//p'; }

# ---- headers: in their default place, and in place

# Every point of the log; says how many there were and how often each sequence was found.
replay_headers() { # NAME PROBE-ARGUMENTS...
    log=$1.log
    shift
    rm -f replay.img
    truncate -s 64M replay.img
    local next=0 least=0 seen='' points=0 n what arg
    while read -r n what arg; do
        vm_replay "$log" apply replay.img $next "$n" || return 1
        next=$((n + 1)) points=$((points + 1))
        dek-probe "$@" replay.img >probe.log 2>&1
        rc=$? now=$(sed -n 's/^sequence: *//p' probe.log)
        if [ "$what" = mark ] && [[ $arg = [0-9]* ]]; then least=$arg; fi
        if [ "$what" = mark ] && [ "$arg" = erasing ]; then least=0; fi
        if [ $rc != 0 ] && [ $rc != 4 ] || [ "${now:-0}" -lt "$least" ]; then
            echo "after entry $n ($what $arg): at least sequence $least is expected, dek-probe ends with $rc and says"
            cat probe.log
            return 1
        fi
        seen="$seen ${now:-none}"
    done < <(vm_replay "$log" points)
    echo "$points points, sequences: $(echo "$seen" | tr ' ' '\n' | sed '/^$/d' | uniq -c | tr -s '\n ' ' ')"
    # in place nothing is resized: none, the first and the restored one
    [ $points -gt 15 ] && [ "$(echo "$seen" | tr ' ' '\n' | sed '/^$/d' | sort -u | wc -l)" -ge 3 ]
}

for place in default in-place; do
    probe=() arguments=(--encrypt 0-32767)
    if [ $place = in-place ]; then probe=(--header-at 1024) arguments=(--in-place --header-at 1024 --encrypt 2048-32767); fi
    recorded "$place" 64
    device=/dev/mapper/$place
    check "$place: protect" d protect "$device" --name v --key k64 "${arguments[@]}"
    mark "$place" "$(sequence "${probe[@]}")"
    check "$place: text in the keyed range" text "what is written to the volume" 16 32
    check "$place: text in a plain one" text "what lies beside it" 320 1
    check "$place: a backup of the header" d header backup "$device" "$place.backup" "${probe[@]}"
    for size in 65536 81920 98304; do
        if [ $place = default ]; then check "$place: resize to $size" d resize v --size $size; fi
        mark "$place" "$(sequence "${probe[@]}")"
    done
    check "$place: detach" d detach v
    mark "$place" "$(sequence "${probe[@]}")"
    check "$place: attach" d attach "$device" "${probe[@]}"
    mark "$place" "$(sequence "${probe[@]}")"
    d detach v >/dev/null
    mark "$place" restoring
    check "$place: an old header is put back" d header restore "$device" "$place.backup" "${probe[@]}" --force
    mark "$place" erasing
    check "$place: erase" d erase "$device" "${probe[@]}" --force
    mark "$place" erased
    unrecord "$place"
    check "$place: at every point the header is the old one or the new one" replay_headers "$place" "${probe[@]}"
    sed 's/^/    /' check.log
    check "$place: all of it played back is what the device holds" cmp replay.img "$place.img"
    check "$place: in the log what is plain is found" grep -aq "what lies beside it" "$place.log"
    check "$place: nothing of the keyed range is, in any write" refused grep -aq "what is written to the volume" "$place.log"
    check "$place: after the last there is none" refused dek-probe "${probe[@]}" replay.img
    rm -f "$place".* replay.img
done

# ---- the keystore, on ext4

kill_kcmd
recorded keys 64
mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 /dev/mapper/keys
mkdir -p /keys
mount -o commit=1 /dev/mapper/keys /keys
state=/keys/state
mkdir -p $state
sync
mark keys mounted
start_kcmd --shim kernel
answers
check "a keystore" d keystore init --file $state/master.key
mark keys init
for key in one two three; do # `check` has a variable `name`
    check "key $key" d key import --name $key --file k64
    mark keys "has:$key"
done
mark keys losing:two
check "key two is destroyed" d key destroy two --force
mark keys lost:two
kill_kcmd
umount /keys
unrecord keys

# Power failed here: the keys that were promised are there, and the one that is destroyed is not.
keystore_after() { # NAMES DESTROYED
    rm -f keys.copy
    dd if=keys.now of=keys.copy bs=1M conv=sparse 2>/dev/null || return 1
    mount -o loop keys.copy /keys || return 1
    start_kcmd --shim kernel
    answers && d --json key list >list.log 2>&1
    local rc=$? name
    kill_kcmd
    umount /keys
    [ $rc = 0 ] || { cat list.log; return 1; }
    for name in $1; do
        grep -q "\"$name\"" list.log || { echo "$name is missing"; cat list.log; return 1; }
    done
    if [ -n "$2" ] && grep -q "\"$2\"" list.log; then echo "$2 is there again"; cat list.log; return 1; fi
}
replay_keystore() {
    rm -f keys.now
    truncate -s 64M keys.now
    local next=0 promised='' destroyed='' begun='' points=0 n what arg text
    while IFS=' :' read -r n what arg text; do
        vm_replay keys.log apply keys.now $next "$n" || return 1
        next=$((n + 1))
        if [ "$what" = mark ]; then
            case $arg in
            init) begun=1 ;;
            has) promised="$promised $text" ;;
            losing) promised=${promised/ $text/} ;;
            lost) destroyed=$text ;;
            dm-log-writes-end) break ;;
            esac
        fi
        [ -n "$begun" ] || continue
        points=$((points + 1))
        keystore_after "$promised" "$destroyed" || { echo "after entry $n ($what $arg $text), promised:$promised"; return 1; }
    done < <(vm_replay keys.log points)
    echo "$points points"
    [ $points -gt 8 ]
}
check "at every point the keystore opens, with every key that was promised" replay_keystore
sed 's/^/    /' check.log
check "the module goes" rmmod dm_dek
finish
