# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154 # $work is the runner's
# The picture of a volume: layers, the bar to scale, the ranges; the same as a graph.
layers='"layers": [
 {"kind": "volume", "node": "/dev/dek/secure", "encrypts": false, "why": "what the applications see"},
 {"kind": "loop", "node": "/dev/loop3", "encrypts": false, "why": "a block device on the shim file"},
 {"kind": "dek", "node": "dek-shimd:secure", "encrypts": true, "why": "engine vaes512 on the CPU"},
 {"kind": "device", "node": "/dev/sdb", "encrypts": false, "why": "holds ciphertext"}]'
key='"by": "dek endpoint", "engine": "vaes512", "key": "3f2a90aa11bb22cc33dd44ee55ff6677", "association": 7'
answer Topology <<EOF
{"volume": "secure", "uuid": "6ba7b810-9dad-41d1-80b4-00c04fd430c8", $layers, "ranges": [
 {"first": 0, "last": 1023, "state": "plain"},
 {"first": 1024, "last": 1535, "state": "reserved"},
 {"first": 1536, "last": 10239, "state": "keyed", $key, "tweak_first": 192},
 {"first": 10240, "last": 11263, "state": "plain", "by": null, "engine": null, "key": null, "association": null},
 {"first": 11264, "last": 20479, "state": "keyed", $key, "tweak_first": 1408}]}
EOF
both topology secure
run topology secure --dot
COLUMNS=44 run topology secure
COLUMNS=140 run topology secure

# A tree, with a decision: layers that branch, and paths.
answer Topology <<EOF
{"volume": "db", "uuid": "u", "encryptor": "endpoints", "encryptor_why": "endpoints beneath encrypt every range", "in_the_way": [], "layers": [
 {"kind": "volume", "node": "/dev/dek/db", "depth": 0, "role": null, "path": null, "engine": null, "encrypts": false, "why": "a link"},
 {"kind": "linear", "node": "/dev/dm-9", "depth": 1, "role": "passes-on", "path": null, "engine": null, "encrypts": false, "why": "leaves the work"},
 {"kind": "linear", "node": "/dev/mapper/vg-lv", "depth": 2, "role": "passes-on", "encrypts": false, "why": "needs everything beneath it to encrypt"},
 {"kind": "multipath", "node": "/dev/mapper/mpa", "depth": 3, "role": "passes-on", "encrypts": false, "why": "needs one leg"},
 {"kind": "endpoint", "node": "/dev/mapper/dekleg-sda", "depth": 4, "role": "encrypts", "path": "active", "engine": "cpu", "encrypts": true, "why": "can encrypt all"},
 {"kind": "fence", "node": "/dev/mapper/dekleg-sdb", "depth": 4, "role": "fenced", "path": "standby", "engine": "none", "encrypts": false, "why": "can fence and not encrypt"},
 {"kind": "device", "node": "/dev/sdc", "depth": 4, "role": null, "path": "failed", "engine": null, "encrypts": false, "why": "carries no I/O"},
 {"kind": "device", "node": "/dev/sdd", "depth": 3, "role": "in-the-way", "encrypts": false, "why": "is no dek leg"}],
 "ranges": [{"first": 0, "last": 99, "state": "keyed", "by": "/dev/mapper/dekleg-sda", "engine": "cpu", "key": "k", "association": null, "tweak_first": 0}]}
EOF
run topology db
run topology db --dot

# A sliver of plain, a fence and a yield on a large volume stay visible at any scale.
answer Topology <<EOF
{"volume": "big", "uuid": "u", "layers": [], "ranges": [
 {"first": 0, "last": 999999999999, "state": "keyed", "by": "dek endpoint"},
 {"first": 1000000000000, "last": 1000000000007, "state": "plain"},
 {"first": 1000000000008, "last": 1999999999999, "state": "keyed"},
 {"first": 2000000000000, "last": 2000000000000, "state": "fenced"},
 {"first": 2000000000001, "last": 2999999999999, "state": "encrypted"},
 {"first": 3000000000000, "last": 3000000000007, "state": "yielded", "by": "dm-crypt"},
 {"first": 3000000000008, "last": 3999999999999, "state": "keyed"},
 {"first": 4500000000000, "last": 4999999999999, "state": "something-new"}]}
EOF
run topology big
answer Topology <<<'{"volume": "one", "uuid": "u", "layers": [], "ranges": [{"first": 0, "last": 0, "state": "fenced"}]}'
run topology one
answer Topology <<<'{"volume": "none", "uuid": "u"}'
run topology none
run topology none --dot
run topology none --dot --json

# Colour: only on a terminal, and not when NO_COLOR says so.
on_terminal() { script -qec "stty cols 60; TERM=xterm $1 '$DEKCTL' --socket '$work/bus' topology one" /dev/null | tr -d '\r' | sed 's/\x1b/ESC/g'; }
answer Topology <<<'{"volume": "one", "uuid": "u", "layers": [{"kind": "dek", "node": "d", "encrypts": true, "why": "w"}], "ranges": [{"first": 0, "last": 99, "state": "keyed"}, {"first": 100, "last": 149, "state": "fenced"}]}'
on_terminal ""
on_terminal NO_COLOR=1
on_terminal TERM=dumb
