# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Headers: shown, copied into a new file, put back.
answer HeaderShow <<<'{"name": "secure", "uuid": "6ba7b810-9dad-41d1-80b4-00c04fd430c8", "place": "default", "sequence": 3,
 "size": 18432, "keys": [{"id": "3f2a", "provider": "keystore", "bits": 512}],
 "ranges": [{"first": 0, "last": 8191, "key": "3f2a"}, {"first": 16384, "last": 18431, "key": "3f2a"}],
 "rekey": null, "copies": {"a": "valid", "b": "torn"}, "authenticated": null}'
answer HeaderBackup <<<'{"uuid": "6ba7b810-9dad-41d1-80b4-00c04fd430c8", "sequence": 3, "bytes": 65600}'
answer HeaderRestore <<<'{"uuid": "6ba7b810-9dad-41d1-80b4-00c04fd430c8", "sequence": 5}'
both header show /dev/sdb
run header show disk.img --header-at 1024
run header show disk.img --header head.bin
printf 'header bytes' >answers/HeaderBackup.output
both header backup /dev/sdb copy.bin
cat copy.bin; echo
run header backup /dev/sdb other.bin --header-at 9 --json
refuse HeaderBackup Corrupt "neither copy of the header is whole"
run header backup /dev/sdb third.bin
[ -e third.bin ] && echo "third.bin is there"
both header restore /dev/sdb copy.bin
run header restore /dev/sdb copy.bin --force --header head.bin
run header restore /dev/sdb missing.bin
calls
