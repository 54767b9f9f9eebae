# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The protocol by hand: what was sent and what came back, side by side.
uuid=6ba7b810-9dad-41d1-80b4-00c04fd430c8
answer EndpointList <<<"{\"endpoints\": [
 {\"uuid\": \"$uuid\", \"endpoint_id\": \"0x1122334455667788\", \"name\": \"secure\", \"device\": \"/dev/sdb\", \"first\": 2048,
  \"count\": 18432, \"map_generation\": 2, \"ranges\": 3, \"associations\": 1, \"tokens\": 0, \"data_unit\": 4096,
  \"engine\": \"cpu\", \"fence\": \"eio\", \"recovering\": true},
 {\"uuid\": \"u2\", \"name\": \"new\", \"map_generation\": 0, \"ranges\": 0, \"fence\": \"hold\", \"recovering\": false}]}"
both endpoint list
answer EndpointList <<<'{"endpoints": []}'
run endpoint list
head='"version": 1, "opcode": 2, "opcode_text": "Query"'
map='"map": [{"first": 2048, "last": 4095, "count": 2048}, {"first": 8192, "last": 8199, "count": 8}]'
answer EndpointCommand <<<"{\"command\": {$head, \"status\": 0, \"status_text\": \"Success\", $map, \"hex\": \"$(printf '0a0b0c0d0e0f1011%.0s' 1 2 3 4 5 6)$(printf '00%.0s' {1..64})01\"},
 \"response\": {$head, \"status\": 0, \"status_text\": \"Success\", \"endpoint_id\": \"0x1122334455667788\", $map, \"hex\": \"zz\"},
 \"status\": 0, \"status_text\": \"Success\"}"
both endpoint query $uuid 2048-4095,8192-8199
run endpoint query $uuid 2048-4095 --hex
run endpoint handshake $uuid
run endpoint handshake $uuid --class DDM
run endpoint associate $uuid 2048-4095 --key archive --data-unit 4096 --tweak unit --device-origin 2048 \
    --logical-origin 0 --chunk 128 --stripes 4 --leg 2 --association 7
run endpoint update $uuid 2048-4095 --key archive --association 7
run endpoint disassociate $uuid --association 7
run endpoint disassociate $uuid --association 0xfedcba9876543210
run endpoint disassociate $uuid --association 0xFG
answer EndpointCommand <<<"{\"command\": {$head}, \"response\": {$head, \"status\": 4, \"status_text\": \"Invalid Range\"}, \"status\": 4, \"status_text\": \"Invalid Range\"}"
both endpoint query $uuid 0-7
answer EndpointCommand <<<'{}'
run endpoint query $uuid 0-7
calls

# Legs beneath other devices.
answer EndpointList <<<"{\"endpoints\": [{\"uuid\": \"$uuid\", \"name\": \"dekleg-sdb\", \"leg\": \"sdb\", \"device\": \"/dev/sdb\", \"engine\": \"none\",
 \"fence\": \"transport\", \"map_generation\": 1, \"ranges\": 0}], \"missing\": [{\"name\": \"sdc\", \"engine\": \"auto\", \"fence\": \"eio\", \"device\": \"/dev/sdc\"}]}"
both endpoint list
answer EndpointCreate <<<'{"legs": [{"name": "sdb"}], "advice": ["a line for LVM", 7]}'
both endpoint create /dev/sdb /dev/sdc --multipath mp --queue-if-no-path --fence transport --no-engine --group 2 --data-unit 512
run endpoint create /dev/sdb --name one --force
run endpoint create
run endpoint create /dev/sdb --fence none
answer EndpointRemove <<<'{"removed": ["sdb"]}'
both endpoint remove sdb /dev/sdc
calls
