# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the suites of layers share, inside the guest: devices whose every write is recorded, a load that knows what it
# wrote, and the scan of all that was recorded.

# RAM disks /dev/ram0 and on, each of so many MiB; /dev/ram1 is start_stack's.
disks() { # COUNT MIB
    modprobe brd rd_nr="$1" rd_size=$(($2 * 1024)) && modprobe dm-log-writes
}

# /dev/mapper/NAME: DEVICE, what is written to it recorded on LOG
record() { # NAME DEVICE LOG
    dmsetup create "$1" --table "0 $(blockdev --getsz "$2") log-writes $2 $3"
}
# The log is whole when its device has gone.
unrecord() { for recorded in "$@"; do dmsetup remove "$recorded" || return; done; }

begin_load() { # TARGET [VM_LOAD ARGUMENTS...]
    vm_load "$@" --state /tmp/load.state >/tmp/load.log 2>&1 &
    load=$!
}
loaded() { kill -0 "$load" 2>/dev/null || { cat /tmp/load.log; false; }; }
end_load() { # nothing was lost, and no error seen; prints what it did
    kill -TERM "$load"
    wait "$load"
    local rc=$?
    cat /tmp/load.log
    return $rc
}
load_did() { sed -n 's/^writes=/    writes=/p' /tmp/load.log; }

# Who encrypts a volume, in kcmd's words: endpoint, endpoints, software.
who() { d --json status "$1" | sed -n 's/.*"encryptor": *"\([^"]*\)".*/\1/p'; }
by() { [ "$(who "$1")" = "$2" ] || { d --json status "$1"; false; }; } # NAME WHO
up() { d --json status "$1" | grep -q '"state": *"up"'; }

# No key is in the table of NAME, shown or not, but where it is in the kernel's keyring.
keyless() { # NAME KEY-FILE
    local hex
    hex=$(od -An -v -tx1 "$2" | tr -d ' \n')
    for show in '' --showkeys; do
        # shellcheck disable=SC2086
        dmsetup table $show "$1" >/tmp/table || return
        if grep -q -i -e "${hex:0:32}" -e "${hex:${#hex}/2:32}" /tmp/table; then echo "the key is in the table"; return 1; fi
        if grep ' crypt ' /tmp/table | grep -v ' crypt [a-z0-9-]* :[0-9]*:logon:'; then echo "not by the keyring"; return 1; fi
    done
}
crypt_lines() { dmsetup table "$1" | grep -c ' crypt '; }
