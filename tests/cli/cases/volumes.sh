# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Volumes: every option arrives, and what comes back is shown.
volume='{"name": "secure", "uuid": "6ba7b810-9dad-41d1-80b4-00c04fd430c8", "device": "/dev/sdb",
 "node": "/dev/dek/secure", "block_device": "/dev/loop3", "place": "in-place", "header_at": 1024, "header": null,
 "offset": 0, "size": 20480, "data_unit": 4096, "logical_block": 4096, "tweak": "unit",
 "endpoint_policy": "prefer", "read_only": false, "cipher": "aes-xts-plain64", "shim": "fuse", "engine": "vaes512",
 "state": "up", "reason": "", "sequence": 3,
 "keys": [{"id": "3f2a90aa11bb22cc33dd44ee55ff6677", "name": "archive", "provider": "keystore", "bits": 512,
   "state": "active"}],
 "associations": [{"handle": 7, "key": "3f2a90aa11bb22cc33dd44ee55ff6677", "ranges": 2, "blocks": 17920}],
 "encrypted_blocks": 17920, "plain_blocks": 2048,
 "counters": {"reads": 1200, "writes": 48, "flushes": 2, "read_bytes": 4915200, "write_bytes": 196608,
   "encrypted_bytes": 196608, "decrypted_bytes": 4718592, "plain_bytes": 196608, "fence_hits": 0, "refused": 0,
   "waited": 0, "errors": 0, "in_flight": 0, "restarts": 1}}'
waiting='{"name": "late", "uuid": "7ba7b810-9dad-41d1-80b4-00c04fd430c8", "device": "/srv/late.img",
 "node": "/dev/dek/late", "size": 2097152, "encrypted_blocks": 2097152, "shim": "fuse", "engine": "vaes512",
 "state": "waiting-for-keys", "reason": "the keystore is sealed", "read_only": true}'
others='"shim": {"kind": "fuse", "build": "dek-shimd 0.1.0", "engine": "vaes512", "engines": ["cpu"],
   "takeover": true, "life": "9f", "up": true},
 "keystore": {"present": true, "sealed": false}, "daemon": {"version": "0.1.0", "pid": 4711, "since": 1795262400}'

for method in Protect Attach Switch Resize; do answer $method <<<"$volume"; done
answer Detach <<<'{}'
answer Erase <<<'{"uuid": "6ba7b810-9dad-41d1-80b4-00c04fd430c8", "erased": [1024], "keys_destroyed": ["3f2a"]}'

run protect /dev/sdb --name secure
run protect disk.img --name secure --key archive --encrypt 1536-10239,11264-20479 --encrypt 30720-@other \
    --data-unit 512 --tweak lba512 --in-place --header-at 1024 --force --shim fuse --endpoint hardware-only
run protect ./a/../disk.img --name secure --encrypt all --header head.bin
run --json protect /dev/sdb --name secure
run attach /dev/sdb
run attach /dev/sdb --header-at 2048 --force --shim auto --name other
run attach /dev/sdb --header /srv/head.bin --json
run switch secure --to software
run resize secure
run resize secure --size 4096 --json
run detach secure
run detach secure --wait 5 --json
both erase /dev/sdb
run erase /dev/sdb --destroy-keys --force --header-at 7
calls

answer Status <<<"{\"volumes\": [$volume, $waiting], $others}"
both status
answer Status <<<"{\"volumes\": [$volume], $others}"
both status secure
answer Status <<<"{\"volumes\": [$waiting], $others}"
run status late
answer Status <<<'{"volumes": [], "shim": {"kind": "fuse", "up": false, "takeover": false}, "keystore": {"present": true, "sealed": true}, "daemon": {}}'
run status
answer Status <<<'{"volumes": [], "keystore": {"present": false, "sealed": true}}'
run status
answer Status <<<'{"keystore": {"present": true, "sealed": true, "trouble": {"code": "corrupt", "reason": "the keystore is damaged"}}}'
run status
answer Status <<<'{"keystore": {"present": true, "sealed": true, "trouble": {"code": "unsupported", "reason": "it is newer"}}}'
run status
answer Attach <<<"$waiting"
run attach /srv/late.img
calls
