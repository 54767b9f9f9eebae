# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Keys: material and passphrases travel as descriptors; nothing else does.
key='{"id": "3f2a90aa11bb22cc33dd44ee55ff6677", "name": "archive", "provider": "keystore", "state": "active",
 "algorithm": "AES", "bits": 512, "created": 1795262400, "changed": 1795266000,
 "attributes": {"owner": "storage team"}'
for method in KeyCreate KeyImport KeyState KeyDestroy; do answer $method <<<"$key}"; done
answer KeyShow <<<"$key, \"volumes\": [\"secure\", \"other\"]}"
answer KeyList <<<"{\"keys\": [$key}, {\"id\": \"00ff\", \"name\": \"\", \"state\": \"destroyed\", \"bits\": 256, \"provider\": \"keystore\", \"created\": 0}]}"
answer KeyExport <<<'{"wrapped": "dekstack wrapped key 1\nAAAA\nBBBB\n"}'
umask 077
answer KeyState <<<"$key, \"warnings\": [\"key 3f2a is in use by volume secure\", 7]}"
both key state archive deactivated
answer KeyState <<<"$key}"
calls
head -c 64 /dev/zero | tr '\0' k >raw64
head -c 32 raw64 >raw32
head -c 33 raw64 >raw33
echo 'correct horse' >pass
printf 'wrapped text\n' >wrapped
: >empty
printf -- '-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n' >public.pem
printf -- '-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n' >private.pem

both key create --name archive
run key create --name archive --bits 256 --attribute owner=me --attribute room=7=8
both key import --name archive --file raw64
run key import --name archive --file raw32
run key import --name archive --file - <raw64
run key import --name archive --wrapped wrapped --passphrase-file pass
run key import --name archive --wrapped wrapped --passphrase-file - <pass
calls
chmod 644 raw64
run key import --name archive --file raw64
run key import --name archive --file raw33
run key import --name archive --file empty
run key import --name archive --file missing
run key import --name archive --file - </dev/null
cat raw64 raw64 | run key import --name archive --file -
run key import --name archive --wrapped wrapped </dev/null
both key export archive --passphrase-file pass
run key export archive --public-key public.pem --output out.txt
cat out.txt
stat -c 'out.txt has mode %a' out.txt
run key export archive --public-key public.pem --output out.txt
run key export archive --public-key private.pem
run key export archive --public-key raw64
run key export archive --passphrase-file empty
refuse KeyExport Refused "the key is not active"
run key export archive --passphrase-file pass --output gone.txt
[ -e gone.txt ] && echo "gone.txt is there"
both key list
run key list --all
answer KeyList <<<'{"keys": []}'
run key list
both key show archive
answer KeyShow <<<"$key, \"volumes\": []}"
run key show archive
both key state archive deactivated
both key destroy archive
run key destroy archive --force
calls
