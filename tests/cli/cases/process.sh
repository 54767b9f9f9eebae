# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154 # $work is the runner's
# Versions and events.
answer Version <<<'{"version": "0.1.0", "abi": 1, "protocol": 1}'
both version
run --version
cat >answers/events <<'EOF'
{"event": "volume-attached", "time": 1795262400, "volume": "secure"}
not JSON
{"event": "fence-hit", "time": 1795262401, "volume": "secure", "lba": 4096, "ranges": [1, 2], "note": null}
{"event": "keystore-sealed", "time": 1795262402}
EOF
# Interrupted once all of them are there: a clean end.
follow() {
    echo "\$ dekctl events $*"
    "$DEKCTL" --socket "$work/bus" events "$@" >followed 2>&1 &
    local pid=$!
    for _ in $(seq 100); do grep -qs keystore-sealed followed && break; sleep 0.05; done
    kill -INT $pid
    wait $pid
    echo "exit $?"
    cat followed
    echo
}
follow
follow --json
# kcmd goes away and comes back: it is waited for.
seen() { for _ in $(seq 100); do grep -qs "$1" followed && break; sleep 0.05; done; }
rm -f followed
echo '$ dekctl events'
"$DEKCTL" --socket "$work/bus" events >followed 2>&1 &
pid=$!
seen keystore-sealed
stop_fake
seen waiting
echo '{"event": "shim-up", "time": 1795262403}' >answers/events
start_fake
seen shim-up
kill -INT $pid
wait $pid
echo "exit $?"
cat followed
echo
# Nobody there to begin with: an error.
stop_fake
run events
