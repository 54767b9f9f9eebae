#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# No secret leaves dekctl but through a descriptor: secrets.sh DEKCTL FAKE_KCMD. Plants a key and a passphrase, and looks
# for them (raw, hex, base64, either half) in the messages, the arguments and environment of dekctl, its output and
# what it leaves behind; then shows that the search finds what is there.
set -u
cd "$(dirname "$0")" || exit 1
work='' DEKCTL=$(realpath "$1") FAKE_KCMD=$(realpath "$2")
export FAKE_KCMD
# shellcheck source=tests/cli/scripted.sh
. ./scripted.sh
umask 077
start_fake
cd "$work" || exit 1
failures=0
fail() { echo "FAILED: $*"; failures=$((failures + 1)); }

mkdir -p secrets
head -c 64 /dev/urandom >secrets/key
head -c 24 /dev/urandom | base64 | tr -d '\n' >secrets/pass
head -c 24 /dev/urandom | base64 | tr -d '\n' >secrets/recovery

# search FILE...: names every planted form that is found. Python, because grep does not do binary patterns.
search() {
    python3 - secrets "$@" <<'EOF'
import base64, os, sys
folder, files = sys.argv[1], sys.argv[2:]
found = False
for name in sorted(os.listdir(folder)):
    secret = open(f"{folder}/{name}", "rb").read()
    half = len(secret) // 2
    for part in (secret, secret[:half], secret[half:]):
        forms = {"raw": part, "hex": part.hex().encode(), "HEX": part.hex().upper().encode(),
                 "base64": base64.b64encode(part).rstrip(b"=")[:-1]}
        for form, pattern in forms.items():
            for file in files:
                if pattern in open(file, "rb").read():
                    print(f"{file}: {name} ({form})")
                    found = True
sys.exit(found)
EOF
}

for method in KeyImport KeystoreInit KeystoreUnlock KeystoreEnrol KeystoreRestore; do answer $method <<<'{}'; done
answer KeyExport <<<'{"wrapped": "text"}'
cp secrets/recovery answers/KeystoreEnrol.output
cp secrets/recovery pem

# use DESCRIPTOR SECRET ARGS...: the call goes well, and the secret arrives in the descriptor, whole.
use() {
    local descriptor=$1 secret=$2
    shift 2
    "$DEKCTL" --socket "$work/bus" "$@" >>out 2>&1 || fail "dekctl $*"
    cmp -s "$descriptor" "secrets/$secret" || fail "dekctl $*: $secret did not arrive in $descriptor"
    rm -f "$descriptor"
}
use KeyImport.fd0 key key import --name k --file secrets/key
use KeyImport.fd0 key key import --name k --file - <secrets/key
use KeyImport.fd1 pass key import --name k --wrapped pem --passphrase-file secrets/pass
use KeyExport.fd0 pass key export k --passphrase-file secrets/pass
use KeyExport.fd0 pass key export k --passphrase-file - --json <secrets/pass
use KeystoreInit.fd0 pass keystore init --passphrase-file secrets/pass
use KeystoreUnlock.fd0 recovery keystore unlock --recovery-file secrets/recovery
use KeystoreEnrol.fd0 pass keystore enrol --passphrase-file secrets/pass --json
use KeystoreRestore.fd0 pass keystore restore k.bak --passphrase-file secrets/pass
rm -f answers/KeystoreEnrol.json
refuse KeyImport WrongKey "not this one"
"$DEKCTL" --socket "$work/bus" key import --name k --wrapped pem --passphrase-file secrets/pass >>out 2>&1 && fail "refusal"
refuse KeyImport Internal "no"
head -c 63 secrets/key >secrets/short
"$DEKCTL" --socket "$work/bus" key import --name k --file secrets/short >>out 2>&1 && fail "a short key was taken"
{ printf -- '-----BEGIN PRIVATE KEY-----\n'; base64 secrets/key; } >secrets/private
"$DEKCTL" --socket "$work/bus" key export k --public-key secrets/private >>out 2>&1 && fail "a private key was sent"
answer KeystoreEnrol <<<'{"slot": 1}'
cp secrets/recovery answers/KeystoreEnrol.output
"$DEKCTL" --socket "$work/bus" keystore enrol --recovery --output secrets/paper --json >>out 2>&1 || { fail enrol; tail -n 1 out; }
cmp -s <(head -c -1 secrets/paper) secrets/recovery || fail "the recovery key is not in its file"
rm -f ./*.fd[0-9]*

[ "$(grep -c . calls)" = 11 ] || fail "kcmd was asked $(grep -c . calls) times"
search dump calls cmdline environ out || fail "a secret is where it must not be"
tr '\0' ' ' <cmdline | grep -q 'key import' || fail "the arguments of dekctl were not kept"

# The search finds what is there: in an argument, in the environment, in a message.
answer KeyCreate <<<'{}'
rm -f dump calls cmdline environ
PLANTED=$(cat secrets/pass) "$DEKCTL" --socket "$work/bus" key create --name "$(od -An -v -tx1 secrets/key | tr -d ' \n')" >/dev/null
for file in dump calls cmdline environ; do
    search $file >/dev/null && fail "what was planted in $file is not found"
done
[ "$failures" = 0 ] && echo "no secret where it must not be, and the search finds planted ones"
[ "$failures" = 0 ]
