# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the suites share, inside the guest. A suite calls `check NAME COMMAND...` and ends with `verdict`.
# shellcheck disable=SC2034 # used by the suites
key1=$(printf '%064d%064d' 1 2)
# shellcheck disable=SC2034
key2=$(printf '%064d%064d' 3 4)
: "${suite:=unnamed}" # set by run.sh
bad=0

check() { # NAME COMMAND...
    name=$1
    shift
    if "$@" >/tmp/check.log 2>&1; then
        echo "ok $suite: $name"
    else
        echo "FAILED $suite: $name"
        sed 's/^/    /' /tmp/check.log
        bad=$((bad + 1))
    fi
}

refused() { ! "$@"; }

verdict() { [ "$bad" = 0 ]; }

uuid_of() { printf 'dec0dec0-0000-0000-0000-%012d' "$1"; }
e() { # NUMBER COMMAND...: a call to endpoint NUMBER
    number=$1
    shift
    vm_endpoint "$(uuid_of "$number")" "$@"
}

# dek NAME NUMBER LENGTH DEVICE OFFSET UNIT [OPTIONS...]: a volume with endpoint NUMBER
dek() {
    volume=$1 number=$2 length=$3
    shift 3
    dmsetup create "$volume" --table "0 $length dek $(uuid_of "$number") $*"
}

crypt_table() { # LENGTH KEY IV-OFFSET DEVICE OFFSET UNIT unit|lba512
    case $6/$7 in
    512/*) options="1 sector_size:512" ;;
    */unit) options="2 sector_size:$6 iv_large_sectors" ;;
    *) options="1 sector_size:$6" ;;
    esac
    echo "0 $1 crypt aes-xts-plain64 $2 $3 $4 $5 $options"
}

loop() { # FILE BLOCK-SIZE: prints the device
    losetup --find --show --sector-size "$2" "$1"
}

load() {
    for module in dm-mod dm-crypt aesni-intel xts loop; do modprobe "$module" 2>/dev/null; done
    # shellcheck disable=SC2068
    insmod /t/dm-dek.ko $@
}
