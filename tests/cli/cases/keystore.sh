# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The keystore: each kind of unsealer, and the recovery key that stands in no answer.
slots='"slots": [{"slot": 0, "kind": "file", "hint": "/var/lib/dekstack/master.key", "created": 1795262400},
 {"slot": 1, "kind": "recovery", "hint": "", "created": 1795262460}]'
answer KeystoreInit <<<"{\"path\": \"/var/lib/dekstack/keystore.db\", $slots}"
answer KeystoreShow <<<"{\"path\": \"/var/lib/dekstack/keystore.db\", \"sealed\": true, $slots, \"cache\": {\"keys\": 2, \"lifetime\": 300}}"
answer KeystoreRemove <<<"{$slots}"
answer KeystoreEnrol <<<'{"slot": 2}'
answer KeystoreRestore <<<'{"keys": 12}'
answer CacheFlush <<<'{"flushed": 3}'
for method in KeystoreUnlock KeystoreLock; do answer $method <<<'{}'; done
answer KeystoreBackup <<<'{"path": "/srv/keys.bak"}'
umask 077
echo 'correct horse' >pass
printf 'no newline' >bare
echo ABCD-EFGH >recovery

both keystore init --file master.key
run keystore init --credential dekstack-master
run keystore init --passphrase-file pass
run keystore init --passphrase-file - <bare
run keystore init --passphrase </dev/null
both keystore unlock
run keystore unlock --file /root/master.key
run keystore unlock --recovery-file recovery
run keystore unlock --recovery-file - <recovery
both keystore lock
both keystore show
run keystore enrol --passphrase-file pass
run keystore enrol --file /root/second.key --json
printf 'KKKK-LLLL-MMMM' >answers/KeystoreEnrol.output
run keystore enrol --recovery
run keystore enrol --recovery --json
run keystore enrol --recovery --json --output paper.txt
cat paper.txt
stat -c 'paper.txt has mode %a' paper.txt
run keystore enrol --recovery --output paper.txt
run keystore enrol --recovery --output /nowhere/paper.txt
: >answers/KeystoreEnrol.output
run keystore enrol --recovery --output unwritten.txt
refuse KeystoreEnrol Locked "the keystore is sealed"
run keystore enrol --recovery --output unwritten.txt
[ -e unwritten.txt ] && echo "unwritten.txt is there"
both keystore remove 1
run keystore backup keys.bak
run keystore backup /srv/keys.bak --force --json
both keystore restore keys.bak --passphrase-file pass
run keystore restore /srv/keys.bak --file master.key --force
run keystore restore keys.bak --recovery-file recovery
both cache flush
calls
