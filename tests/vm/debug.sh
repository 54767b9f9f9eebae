#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The kernel shim on the debug kernel: KASAN, lockdep, kmemleak, fault injection.
#   debug.sh [-b BUILD-FOLDER] [SUITE]...    the suites of run.sh and of debug/suites, unless named
# Prints what run.sh prints, and fails besides on whatever KASAN, lockdep, kmemleak or the kernel itself complains of.
# The kernel is built once (minutes) and kept in VM_KERNELS/debug (build/vm/debug); see debug/kernel.sh.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
arguments=()
while getopts b: option; do
    case $option in
    b) arguments+=(-b "$OPTARG") ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
if [ $# = 0 ]; then
    # swap.sh needs so little memory that the checkers' own would be all of it
    for suite in "$here"/suites/*.sh "$here"/debug/suites/*.sh; do
        suite=$(basename "$suite" .sh)
        [ "$suite" = swap ] || set -- "$@" "$suite"
    done
fi
for suite in "$@"; do arguments+=(-s "$suite"); done
export VM_SECONDS=${VM_SECONDS:-1500} VM_MEMORY=${VM_MEMORY:-3G}
# The checkers are several times slower: fewer reloads, and a console that shows what they say.
export VM_ARGS="${VM_ARGS:-} loglevel=6 kmemleak=on RELOADS=20 SECONDS_OF_LOAD=6"
exec "$here/run.sh" "${arguments[@]}" debug
