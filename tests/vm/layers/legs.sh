# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# seconds: 3000
# once: no
# Endpoints beneath other devices: made, kept by the host's configuration, made again, removed; what is refused; kcmd killed
# at every step.
# STEPS: which ones, "1 5 9", say; all of them otherwise.
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
# shellcheck source=tests/vm/stack.sh
. /t/stack.sh
cd /tmp || exit
modprobe brd rd_nr=6 rd_size=393216

check "kcmd without the module" start_stack --shim kernel
check "keys" make_keys
check "no endpoint without the module" fails "is dm-dek loaded" d endpoint create /dev/ram2
check "nothing is configured" refused ls /run/state/endpoints
load
sleep 3

file() { echo "/run/state/endpoints/$1.json"; }
check "create" d endpoint create /dev/ram2
check "its device" [ -b /dev/mapper/dekleg-ram2 ]
check "its UUID is no volume's" shows '^DEKLEG-' dmsetup info -c --noheadings -o uuid dekleg-ram2
check "over all of the device, in volumes' data units" shows '^0 786432 dek .* 1:2 0 4096' dmsetup table dekleg-ram2
check "the configuration" shows '"device": *"/dev/ram2"' cat "$(file ram2)"
check "for root alone" [ "$(stat -c %a "$(file ram2)")" = 600 ]
check "the list" shows 'dekleg-ram2 .*/dev/ram2' d endpoint list
check "the list as JSON" shows '"leg": *"ram2"' d --json endpoint list
check "it takes writes" dd if=/dev/urandom of=/dev/mapper/dekleg-ram2 bs=1M count=4 oflag=direct conv=notrunc
blockdev --flushbufs /dev/ram2
check "as they are" cmp -n 4194304 /dev/ram2 /dev/mapper/dekleg-ram2
check "create with everything said" d endpoint create /dev/ram3 --name second --data-unit 512 --fence hold --no-engine
check "its table" shows 'dek .* 1:3 0 512 2 fence:hold engine:none' dmsetup table dekleg-second
check "the list has no engine" shows 'second *none .*hold' d endpoint list
check "the configuration, too" shows '"engine": *false' cat "$(file second)"
check "LVM's line" shows 'global_filter = \[ "r|^/dev/ram4$|" \]' d endpoint create /dev/ram4
check "remove" d endpoint remove ram4

# What is refused.
before=$(cat /run/state/endpoints/* | sha256sum) tables=$(dmsetup table)
check "no device" fails "No such file" d endpoint create /dev/none
check "a file" fails "no block device" d endpoint create /bin/busybox
check "the same again" fails "endpoint already" d endpoint create /dev/ram2
check "a name that is taken" fails "another endpoint named second" d endpoint create /dev/ram4 --name second
check "a name that is none" fails "is no name" d endpoint create /dev/ram4 --name ../x
check "a data unit that is none" fails "data unit" d endpoint create /dev/ram4 --data-unit 1000
check "one mounted" fails "mounted" d endpoint create /dev/ram1
check "an endpoint's own device" fails "dekstack's own" d endpoint create /dev/mapper/dekleg-ram2
dmsetup create odd --table "0 4097 linear /dev/ram4 0"
check "a size that is no multiple" fails "no multiple" d endpoint create /dev/mapper/odd --data-unit 4096
check "one that is beneath another device" fails "in use by" d endpoint create /dev/ram4
dmsetup remove odd
check "groups without a map" fails "multipath" d endpoint create /dev/ram4 --group 2
d protect /dev/ram4 --name v --key k64
check "an attached volume" fails "attached as volume v\|in use" d endpoint create /dev/ram4
d detach v
check "a volume's header" fails "holds volume v" d endpoint create /dev/ram4
check "but for force" d endpoint create /dev/ram4 --force
check "and removed by its device" d endpoint remove /dev/ram4
dd if=/dev/zero of=/dev/ram4 bs=1M count=4 2>/dev/null
mkfs.ext4 -q /dev/ram4
check "what holds something keeps its block size" d endpoint create /dev/ram4
check "512 that is" shows ' 1:4 0 512' dmsetup table dekleg-ram4
check "removed again" d endpoint remove ram4
dd if=/dev/zero of=/dev/ram4 bs=1M count=4 2>/dev/null
check "an unknown one is not removed" fails "no endpoint" d endpoint remove none
check "all this changed nothing" [ "$before$tables" = "$(cat /run/state/endpoints/* | sha256sum)$(dmsetup table)" ]

# Something lies on them: a concatenation, as LVM makes it, and a volume on that.
dmsetup create lv --table "0 196608 linear /dev/mapper/dekleg-ram2 8192
196608 196608 linear /dev/mapper/dekleg-second 8192"
check "remove beneath a device is refused" fails "in use by" d endpoint remove ram2
check "a volume on it" d protect /dev/mapper/lv --name v --key k64
check "takes writes" dd if=/dev/urandom of=/dev/dek/v bs=1M count=8 oflag=direct conv=notrunc
sum=$(head -c 8M /dev/dek/v | sha256sum)
kill_kcmd
check "kcmd is killed; the endpoint stays" dd if=/dev/dek/v of=/dev/null bs=1M count=8 iflag=direct
start_kcmd
answers
check "and is left alone" shows ' dek ' dmsetup table dekleg-ram2
check "its volume is up" eventually shows '"state": *"up"' d --json status v
check "and reads" [ "$sum" = "$(head -c 8M /dev/dek/v | sha256sum)" ]
d detach v
dmsetup remove lv

# Made again: at the start, at boot, when a device comes later.
kill_kcmd
dmsetup remove dekleg-ram2
dmsetup remove dekleg-second
check "kcmd --endpoints makes them" kcmd --endpoints --state-dir "$state" --run-dir "$run"
check "both" [ "$(dmsetup ls | grep -c dekleg-)" = 2 ]
check "again: nothing to do" kcmd --endpoints --state-dir "$state" --run-dir "$run"
check "they take writes" dd if=/dev/urandom of=/dev/mapper/dekleg-ram2 bs=1M count=1 oflag=direct conv=notrunc
check "udev is told" shows '^DEK_ENDPOINT=ram2$' kcmd --endpoint-of /dev/ram2 --state-dir "$state"
check "of others not" refused kcmd --endpoint-of /dev/ram5 --state-dir "$state"
dmsetup remove dekleg-ram2
start_kcmd
answers
check "kcmd makes what is missing" eventually [ -b /dev/mapper/dekleg-ram2 ]
check "while kcmd runs --endpoints leaves it to that" kcmd --endpoints --state-dir "$state" --run-dir "$run"
dmsetup create late --table "0 196608 linear /dev/ram4 0"
d endpoint create /dev/mapper/late
kill_kcmd
dmsetup remove dekleg-late
dmsetup remove late
start_kcmd
answers
check "one whose device is gone is listed as missing" shows 'late' d endpoint list
dmsetup create late --table "0 190000 linear /dev/ram4 0"
check "another device of its name is not taken" eventually grep -q 'another device than before' $kcmd_log
check "nothing is made over it" refused dmsetup info dekleg-late
dmsetup remove late
dmsetup create late --table "0 196608 linear /dev/ram4 0"
check "the device comes: so does the endpoint" eventually [ -b /dev/mapper/dekleg-late ]
check "removed" d endpoint remove late
dmsetup remove late

# Files that are none.
for text in '' '[]' '{}' '{"version":1}' "$(sed 's/"data_unit": 4096/"data_unit": 3/' "$(file ram2)")" "$(head -c 100000 /dev/zero | tr '\0' '[')"; do
    echo "$text" >"$(file bad)"
    check "kcmd goes on beside a bad file" d endpoint list
done
check "its name is taken" fails "another endpoint named bad" d endpoint create /dev/ram4 --name bad
kill_kcmd
start_kcmd
answers
check "and starts beside one" eventually [ -b /dev/mapper/dekleg-ram2 ]
check "it says so" eventually grep -q 'configuration-not-understood' $kcmd_log
rm "$(file bad)"

# Killed at every step of create and of remove.
# shellcheck disable=SC2317
consistent() { # all of it or nothing
    answers
    sleep 0.5
    local rc=0
    if [ -e "$(file ram4)" ]; then
        eventually dd if=/dev/zero of=/dev/mapper/dekleg-ram4 bs=4k count=1 oflag=direct conv=notrunc,nocreat || rc=1
        d endpoint remove ram4 || rc=1
    fi
    if dmsetup ls | grep -E 'dekleg\.|dekleg-ram4'; then rc=1; fi
    # shellcheck disable=SC2010 # busybox's find has no -printf
    if ls /run/state/endpoints | grep -v -e '^ram2.json$' -e '^second.json$' | grep -v 'new-'; then rc=1; fi
    return $rc
}
steps() { # WHAT COMMAND...
    what=$1
    shift
    for n in ${STEPS:-$(seq 60)}; do
        kill_kcmd
        rm -f /tmp/armed
        kcmd_env="LD_PRELOAD=/bin/libkillpoint.so KILLPOINT_AT=$n KILLPOINT_IOCTL=1 KILLPOINT_PREFIX=/ KILLPOINT_ARM=/tmp/armed" start_kcmd
        answers
        "$prepare"
        touch /tmp/armed
        "$@" >/tmp/step 2>&1
        sleep 0.2
        kill -0 "$kcmd" 2>/dev/null && break
        wait "$kcmd" 2>/dev/null
        start_kcmd
        check "$what, killed at step $n" consistent
    done
    kill_kcmd # it may have come to the step since, by looking at what was made
    rm -f /tmp/armed
    start_kcmd
    answers
    check "$what: steps to be killed at: $n" [ $n -gt 4 ]
}
prepare=true
steps create d endpoint create /dev/ram4
check "removed again" d endpoint remove ram4
made() { d endpoint create /dev/ram4 >/tmp/made 2>&1; } # not to the terminal, which would be told of its progress
prepare=made
steps remove d endpoint remove ram4

check "remove several" d endpoint remove ram2 /dev/ram3
check "no device is left" shows "No devices found" dmsetup ls
check "no file either" [ -z "$(ls /run/state/endpoints)" ]
kill_kcmd
umount /disk
check "the module goes when kcmd has" rmmod dm_dek
finish
