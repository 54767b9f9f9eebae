# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What tests of dekctl share: a scripted kcmd in a folder of its own. The caller sets DEKCTL and FAKE_KCMD.
unset NO_COLOR COLUMNS
export TZ=UTC LC_ALL=C.UTF-8
work=$(mktemp -d /tmp/dekctl-test.XXXXXX)
fake_pid=

stop_fake() {
    [ -z "$fake_pid" ] || { kill "$fake_pid" 2>/dev/null; wait "$fake_pid" 2>/dev/null; }
    fake_pid=
}
trap 'stop_fake; rm -rf "$work"' EXIT

start_fake() {
    stop_fake
    mkdir -p "$work/answers"
    rm -f "$work/ready"
    mkfifo "$work/ready"
    "$FAKE_KCMD" "$work/bus" "$work" >"$work/ready" &
    fake_pid=$!
    read -r _ <"$work/ready"
}

# answer METHOD: the JSON is on standard input. refuse METHOD CODE SENTENCE. forget METHOD.
answer() { forget "$1"; cat >"$work/answers/$1.json"; }
refuse() { forget "$1"; printf '%s %s\n' "$2" "$3" >"$work/answers/$1.error"; }
behave() { forget "$1"; touch "$work/answers/$1.$2"; }
forget() { rm -f "$work/answers/$1".*; }
