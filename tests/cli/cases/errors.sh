# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154 # $work is the runner's
# Each way in which a call can fail: one sentence, advice where there is some, exit status 1.
for code in InvalidArgument NotFound Exists Busy Refused Permission WrongKey UnknownKey Corrupt Unsupported Locked \
    Timeout NoSpace Io Unavailable Internal Unheard; do
    refuse Protect $code "the sentence of $code"
    run protect /dev/sdb --name secure
done
refuse Protect Refused "there is an ext4 filesystem on it; --force overwrites it"
run protect /dev/sdb --name secure
refuse Protect Locked "the keystore is sealed: dekctl keystore unlock"
run protect /dev/sdb --name secure --json
refuse Protect Unavailable "the shim does not answer"
run protect /dev/sdb --name secure
refuse Protect Internal ""
run protect /dev/sdb --name secure
refuse Protect org.freedesktop.DBus.Error.AccessDenied "no"
run protect /dev/sdb --name secure
refuse Protect com.example.Strange "something strange"
run protect /dev/sdb --name secure

forget Protect
run protect /dev/sdb --name secure
behave Protect number
run protect /dev/sdb --name secure
behave Protect silent
run protect /dev/sdb --name secure --timeout 1
behave Protect die
run protect /dev/sdb --name secure
run status
rm -f bus
run status
run --socket "$(printf 'x%.0s' {1..120})" status

# A socket that speaks something else, or nothing.
start_fake
refuse Status NotFound "there is no volume secure"
run status secure
echo '{}' | run --socket /dev/null status
answer Version <<<'{"version": "0.1.0"}'
printf '$ dekctl version >/dev/full\n'
{ "$DEKCTL" --socket "$work/bus" version >/dev/full; } 2>&1
echo "exit $?"
