# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1003 # a backslash of JSON
# Answers that nobody should give: nothing controls the terminal, nothing crashes.
evil='\u001b[31mred\u001b[0m\u009b2J\u202egnp.exe\u0007\r\n\\'
answer Status <<EOF
{"volumes": [{"name": "$evil", "state": "$evil", "size": 1e300, "encrypted_blocks": -5, "node": 7, "device": ["$evil"],
  "reason": "$evil", "counters": {"$evil": 3, "read_bytes": 18446744073709551615}, "keys": {"a": 1},
  "associations": [1, null, "$evil", {"handle": "$evil", "blocks": 18446744073709551615}]}, 5, null, "x", []],
 "shim": "$evil", "keystore": [], "daemon": {"version": "$evil", "since": 9007199254740992}}
EOF
both status
run status secure
answer Topology <<EOF
{"volume": "$evil", "layers": [{"kind": "$evil", "node": "$evil", "encrypts": "yes", "why": "$evil"}, 3],
 "ranges": [{"first": 5, "last": 2, "state": "plain"}, {"first": 0, "last": 18446744073709551615, "state": "$evil"},
  {"first": "0", "last": 1}, null, {"first": -1, "last": 3, "state": {}}, {"by": "\"<b>&$evil"}]}
EOF
run topology "$(printf 'a\033[2Jb')"
run topology evil --dot
answer KeyExport <<<"{\"wrapped\": \"$evil\"}"
echo pass >pass; chmod 600 pass
run key export k --passphrase-file pass
answer KeyShow <<<"{\"attributes\": {\"$evil\": \"$evil\"}, \"volumes\": [\"$evil\", {}]}"
run key show k
answer HeaderShow <<<"{\"$evil\": \"$evil\", \"keys\": [{\"$evil\": 1}, 2], \"a\": [[], {}], \"b\": {\"c\": {}}, \"d\": [{}], \"copies\": 3}"
run header show /dev/sdb
answer EndpointCommand <<<"{\"command\": {\"$evil\": \"$evil\", \"x\": [[1], {\"first\": 1}], \"y_text\": \"only\"}, \"response\": 3, \"status\": 1, \"status_text\": \"$evil\"}"
run endpoint query u 0-1 --hex
refuse Detach Busy "$(printf 'a\033]0;title\007b\nc')"
run detach "$(printf 'x\033[1m')"
for text in '' '[]' '"text"' 'null' '{' '{"a": 1e999}' "$(head -c 100000 /dev/zero | tr '\0' '[')" \
    "{\"a\":$(printf '[%.0s' {1..500})$(printf ']%.0s' {1..500})}"; do
    printf '%s' "$text" >answers/Status.json
    run status
done
for method in Protect Erase KeyList KeyCreate KeystoreShow KeystoreEnrol HeaderShow EndpointList Version CacheFlush; do
    answer $method <<<'{}'
done
run protect d --name n
run erase d
run key list
run key create --name n
run keystore show
run keystore enrol --file f
run header show d
run endpoint list
run version
run cache flush
