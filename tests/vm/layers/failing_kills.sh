# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# seconds: 5400
# memory: 3G
# once: no
# kcmd is killed at every step of what it does when the engine of endpoints beneath two volumes fails under load: nobody sees an
# error, nothing is written in the clear, and the next kcmd comes to the same end.
# STEPS: which ones, "1 5 9", say; all of them otherwise.
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
# shellcheck source=tests/vm/stack.sh
. /t/stack.sh
# shellcheck source=tests/vm/recorded.sh
. /t/recorded.sh
cd /tmp || exit
pause=20000 # microseconds: what is recorded has to hold all of it
# shellcheck source=tests/vm/failing_stack.sh
. /t/failing_stack.sh
both_begin
moved_or_killed() { ! kill -0 "$kcmd" 2>/dev/null || both software; }
killed=0
kill_kcmd
for n in ${STEPS:-$(seq 80)}; do
    rm -f armed steps
    kcmd_env="LD_PRELOAD=/bin/libkillpoint.so KILLPOINT_AT=$n KILLPOINT_IOCTL=1 KILLPOINT_PREFIX=/dev KILLPOINT_ARM=/tmp/armed KILLPOINT_LOG=/tmp/steps"
    start_kcmd --switch-back 1
    kcmd_env=
    answers
    eventually both endpoints >/dev/null || break
    touch armed
    knob failure 1
    within 10 moved_or_killed
    if kill -0 "$kcmd" 2>/dev/null; then break; fi
    sed "$n!d; s/^/    /" steps
    wait "$kcmd" 2>/dev/null
    rm -f armed
    start_kcmd --switch-back 1
    answers
    step="killed at step $n"
    check "$step: dm-crypt has both" within 25 both software
    check "$step: the loads go on" both_loaded
    knob failure 0
    check "$step: back again" eventually both endpoints
    check "$step: the legs are as they were" within 5 eval 'own a && own b'
    kill_kcmd
    killed=$((killed + 1))
done
check "there were steps to be killed at: $killed" [ $killed -ge 3 ]
kill_kcmd
rm -f armed
knob failure 0
start_kcmd --switch-back 1
answers
check "the legs encrypt after all that" eventually both endpoints
knob failure 1
check "not killed, both are moved" within 10 both software
knob failure 0
check "and are back" eventually both endpoints
sleep 1
both_end

kill_kcmd
umount /disk
dmsetup remove disk-a
dmsetup remove disk-b
check "the module goes when kcmd has" rmmod dm_dek
finish
