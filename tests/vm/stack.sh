# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the suites of the whole stack share, inside the guest: kcmd of its own, dekctl against it, a disk for images.
run=/run/dekstack state=/run/state kcmd_log=/tmp/kcmd.log

d() { dekctl --socket /run/bus "$@"; }

# Output that shows what is looked for; all of it when it does not.
shows() { # PATTERN COMMAND...
    pattern=$1
    shift
    "$@" >/tmp/shows 2>&1
    grep -q -e "$pattern" /tmp/shows || { cat /tmp/shows; false; }
}
# Fails, and says why.
fails() { # PATTERN COMMAND...
    pattern=$1
    shift
    if "$@" >/tmp/shows 2>&1; then cat /tmp/shows; return 1; fi
    grep -q -e "$pattern" /tmp/shows || { cat /tmp/shows; false; }
}
eventually() { # COMMAND...
    for _ in $(seq 150); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.2
    done
    "$@"
}

# Both paths lead to the same device.
same() { [ -e "$1" ] && [ "$(readlink -f "$1")" = "$(readlink -f "$2")" ]; }

start_kcmd() { # [ARGUMENTS...]
    # shellcheck disable=SC2086
    env ${kcmd_env:-} kcmd --state-dir "$state" --run-dir "$run" --socket /run/bus --dev-dir /dev/dek "$@" >>"$kcmd_log" 2>&1 &
    kcmd=$!
}
answers() { eventually d version; }
kill_kcmd() {
    kill -9 "$kcmd"
    wait "$kcmd" 2>/dev/null
}

start_stack() { # [KCMD ARGUMENTS...]
    mkdir -p "$run/shim" "$state" /disk /v
    modprobe ext4
    modprobe brd rd_nr=2 rd_size=393216
    mkfs.ext4 -q /dev/ram1 && mount /dev/ram1 /disk
    start_kcmd "$@"
    answers && d keystore init --file "$state/master.key"
}

make_keys() { # k64 and k32, in files and in the keystore
    local n
    for n in 64 32; do head -c $n /dev/urandom >k$n && d key import --name k$n --file k$n || return; done
}
pattern() { yes "0123456789abcde" | head -c 66060288 >pattern; } # 63 MiB: a volume in an image of 64
put_files() { # on what is mounted at /v; their sums in the file sums
    local n
    for n in 1 2 3 4; do yes "file $n of the volume, in the clear" | head -c 3000000 >"/v/file$n"; done
    (cd /v && sha256sum file*) >sums
}

finish() {
    verdict && return
    echo "    kcmd's log:"
    sed 's/^/    /' "$kcmd_log" | tail -n 60
    return 1
}
