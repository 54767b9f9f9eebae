#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Installs what the tests need, builds, and runs them. One word a job; none means all of them.
#   quick    the inner loop: build, and every test that is not slow (under 3 minutes)
#   style    shell scripts, formatting, SPDX lines, the size of functions
#   slow     the tests quick leaves out: kills under load, kill points, full disks
#   demo     utils/quickstart.sh on this machine
#   asan     quick, built with AddressSanitizer and UndefinedBehaviorSanitizer
#   fuzz     every fuzz target for FUZZ_SECONDS (30)
#   fresh    a bare Debian 12 root: the README's first command and `quick`, as written
#   vm       the kernel shim in virtual machines, on Linux 6.1 and 6.12 (as part of all, the longest suites on one of them)
#   layers   endpoints beneath concatenations, mirrors and paths, and live switches, in the same machines (as part of all, each
#            suite on one kernel, without the longest)
#   debug    the kernel shim's suites on a debug kernel, which is built once (not part of all)
#   mutants  faults put into the layers and the kernel shim: their tests must notice each (not part of all)
#   bench    every benchmark, with its figures and goals (not part of all)
#   soak     full sizes: 500 kills, an hour of fuzzing (not part of all)
set -uo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top" || exit 1
# shellcheck source=tests/jobs.sh
. tests/jobs.sh

all_jobs="style quick slow demo asan fuzz fresh vm layers"

usage() { sed -n '4,17s/^# \{0,1\}//p' "$0"; }

main() {
    local jobs=("$@") job
    case ${1-} in help | -h | --help) usage; exit 0 ;; esac
    if [ ${#jobs[@]} = 0 ]; then
        read -ra jobs <<<"$all_jobs"
        vm_size=-q
    fi
    for job in "${jobs[@]}"; do
        declare -F "job_$job" >/dev/null || { usage >&2; exit 2; }
    done
    [ "$(id -u)" = 0 ] || { echo "tests/run.sh: root is needed (FUSE mounts, loop devices)" >&2; exit 1; }
    for job in "${jobs[@]}"; do
        run_job "$job"
    done
    report
}

main "$@"
