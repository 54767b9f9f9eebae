# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# In the virtual machine, whose clock counts instructions: PAIRS of a switch and a bare suspend and resume, in turn, while
# one process submits I/O every 200 us, up to 8 at a time, before all others on the one CPU. A stall is the longest time
# within one of them in which nothing that was under way ended.
# shellcheck source=tests/vm/guest.sh
. /t/guest.sh
# shellcheck source=tests/vm/stack.sh
. /t/stack.sh
cd /tmp || exit
load
start_stack --shim kernel >/dev/null 2>&1
head -c 64 /dev/urandom >k64
d key import --name k64 --file k64 >/dev/null && d protect /dev/ram0 --name v --key k64 >/dev/null || exit 1
chrt -f 50 vm_load /dev/dek/v --depth 8 --pause 200 --most 8 --range 0-65535 --stalls stalls --stalls-from 250 >load.log 2>&1 &
load=$!

timed() { # WHAT COMMAND...
    local what=$1 began=${EPOCHREALTIME/./}
    shift
    "$@" >/tmp/timed.log 2>&1 || { cat /tmp/timed.log; exit 1; }
    echo "$what $began ${EPOCHREALTIME/./}" >>windows
    sleep 0.1
}
# shellcheck disable=SC2086
bare() { dmsetup suspend $flags dek-v && dmsetup resume dek-v; }
flags="--noflush --nolockfs" # what a switch asks for

sides=(software endpoint)
for n in 1 2 3 4; do timed warm bare && timed warm d switch v --to ${sides[n % 2]}; done
for n in $(seq "${PAIRS:-300}"); do
    side=${sides[n % 2]}
    if [ $((n / 2 % 2)) = 0 ]; then
        timed bare bare
        timed "$side" d switch v --to "$side"
    else
        timed "$side" d switch v --to "$side"
        timed bare bare
    fi
done
kill -TERM $load
wait $load || { cat load.log; exit 1; }

awk -v pairs="${PAIRS:-300}" '
    FNR == NR { began[NR] = $1; stall[NR] = $2; stalls = NR; next }
    $1 != "warm" {
        most = 0
        for (i = 1; i <= stalls; i++) if (began[i] >= $2 - 300 && began[i] <= $3 && stall[i] > most) most = stall[i]
        if (!most) { missed++; next } # the load was comparing what it had read, which nobody waits for
        what = $1 == "bare" ? "bare" : "switch"
        found[what, ++count[what]] = most
        found[$1 "-one", ++count[$1 "-one"]] = most
    }
    function at(what, share,    i, j, n, v, list) {
        n = count[what]
        for (i = 1; i <= n; i++) {
            v = found[what, i]
            for (j = i - 1; j >= 1 && list[j] > v; j--) list[j + 1] = list[j]
            list[j + 1] = v
        }
        return list[int((n - 1) * share) + 1]
    }
    END {
        if (count["bare"] + count["switch"] + missed != 2 * pairs || missed > pairs / 20) {
            print "not all were seen, but for " missed + 0
            exit 1
        }
        print "cost missed " missed + 0
        split("bare switch software-one endpoint-one", kinds, " ")
        for (k = 1; k <= 4; k++) printf "cost %s median %d p95 %d\n", kinds[k], at(kinds[k], 0.5), at(kinds[k], 0.95)
        printf "figure switch_stall_median %.3f 0.83\n", at("bare", 0.5) / at("switch", 0.5)
        printf "figure switch_stall_p95 %.3f 0.83\n", at("bare", 0.95) / at("switch", 0.95)
    }' stalls windows
