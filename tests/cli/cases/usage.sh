# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What is wrong with a command line is found before kcmd is asked: exit status 2.
run
run no-such-command
run key
run key no-such-command
run no-such-command --help
run key no-such-command --help
run key create no-such-argument
run key create
run key create --name
run key create --name a --bits 128
run key create --name a --attribute novalue
run key import --name a
run key import --name a --file x --wrapped y
run key import --name a --wrapped - --passphrase-file -
run key import --name a --file x --passphrase-file y
run key state archive destroyed
run key export archive --passphrase-file a --public-key b
run protect
run protect /dev/sdb
run protect /dev/sdb --name ''
run protect '' --name a
run protect /dev/sdb --name a --name b
run protect /dev/sdb --name a extra
run protect /dev/sdb --name a --encrypt 10-5
run protect /dev/sdb --name a --encrypt 0-9,5-12
run protect /dev/sdb --name a --encrypt ''
run protect /dev/sdb --name a --encrypt 0x10-0x20
run protect /dev/sdb --name a --encrypt 0-99999999999999999999
run protect /dev/sdb --name a --encrypt 0-7@
run protect /dev/sdb --name a --data-unit 8192
run protect /dev/sdb --name a --tweak plain64
run protect /dev/sdb --name a --header-at -1
run protect /dev/sdb --name a --header-at 010x
run protect /dev/sdb --name a --header-at 1 --header f
run protect /dev/sdb --name a --shim windows
run protect /dev/sdb --name $'\xff\xfe'
run switch secure
run switch secure --to mars
run keystore init
run keystore init --file a --credential b
run keystore unlock --passphrase-file a --recovery-file b
run keystore remove one
run keystore enrol --file a --output b
run keystore restore
run keystore restore a
run endpoint query u
run endpoint update u 0-7 --key k
run endpoint disassociate u --association zzz
run endpoint disassociate u --association 0x
run endpoint disassociate u --association 99999999999999999999
run header backup /dev/sdb
run detach
run detach a --wait forever
run status --timeout -1
run topology
[ -e calls ] && echo "kcmd was asked"
run protect --help
