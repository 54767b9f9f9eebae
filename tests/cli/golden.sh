#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Golden output of dekctl: golden.sh [--update] DEKCTL FAKE_KCMD [CASE...]. Each cases/NAME.sh runs dekctl against a
# scripted kcmd; what it prints must be cases/NAME.out. --update writes that instead: read the difference.
set -u
cd "$(dirname "$0")" || exit 1
update=
[ "${1-}" = --update ] && { update=1; shift; }
[ $# -ge 2 ] || { echo "usage: golden.sh [--update] DEKCTL FAKE_KCMD [CASE...]" >&2; exit 2; }
work='' DEKCTL=$(realpath "$1") FAKE_KCMD=$(realpath "$2")
export FAKE_KCMD
shift 2
[ $# -gt 0 ] || { set -- cases/*.sh; set -- "${@##*/}"; set -- "${@%.sh}"; }

# What cases are written in, besides scripted.sh.
show() { sed "s|$work|WORK|g"; }
run() {
    local rc
    printf '$ dekctl'
    [ $# = 0 ] || printf ' %q' "$@" | show
    echo
    "$DEKCTL" --socket "$work/bus" "$@" >"$work/stdout" 2>"$work/stderr"
    rc=$?
    show <"$work/stdout"
    sed 's/^/2> /' "$work/stderr" | show
    [ "$rc" = 0 ] || echo "exit $rc"
    echo
}
both() { run "$@"; run "$@" --json; }
# What kcmd was asked since the last time, and the descriptors that came along.
calls() {
    local file
    echo "kcmd was asked:"
    sed 's/^/   /' "$work/calls" | show
    for file in "$work"/*.fd[0-9]*; do
        [ -e "$file" ] && echo "   ${file##*/}: $(wc -c <"$file") bytes, $(md5sum <"$file" | cut -c1-8)"
    done
    rm -f "$work"/calls "$work"/*.fd[0-9]*
    echo
}

run_case() (
    # shellcheck source=tests/cli/scripted.sh
    . ./scripted.sh
    cd "$work" || exit 1
    start_fake
    # shellcheck source=/dev/null
    . "$OLDPWD/cases/$1.sh"
)

failed=0
for name; do
    got=$(mktemp)
    run_case "$name" >"$got" 2>&1
    # Whatever kcmd says, nothing that controls a terminal comes out.
    if LC_ALL=C grep -n -a -P '[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80[\xaa-\xae]' "$got"; then
        failed=$((failed + 1))
        echo "FAILED: $name: control characters"
    fi
    if [ -n "$update" ]; then
        cp "$got" "cases/$name.out"
    elif ! diff -u "cases/$name.out" "$got"; then
        failed=$((failed + 1))
        echo "FAILED: $name"
    fi
    rm -f "$got"
done
echo "$# cases, $failed failed"
[ "$failed" = 0 ]
