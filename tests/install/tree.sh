#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tree.sh BUILD-FOLDER CMAKE VERSION: installs into an empty root and looks at what is there.
set -euo pipefail
build=$1 cmake=$2 version=$3
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
bad=0
check() { # WHAT COMMAND...
    local what=$1
    shift
    if "$@" >"$root.log" 2>&1; then echo "ok $what"; else echo "FAILED $what"; cat "$root.log"; bad=1; fi
    rm -f "$root.log"
}

DESTDIR=$root "$cmake" --install "$build" >/dev/null
prefix=$(sed -n 's/^CMAKE_INSTALL_PREFIX:PATH=//p' "$build/CMakeCache.txt")
source=usr/src/dekstack-$version

# What the module is made of is listed by its source folders; the rest by name.
expected() {
    local part
    sed -e "s/@VERSION@/$version/" -e "s|@PREFIX@|${prefix#/}|" "$here/files.txt" | grep -v '^#'
    for part in linux:kernel-shim/linux core:kernel-shim/core proto:libdekproto/src; do
        (cd "$top/${part#*:}" && ls -- *.[ch]) | sed "s|^|$source/${part%%:*}/|"
    done
    (cd "$top/libdekproto/include" && find . -name '*.h') | sed "s|^\./|$source/include/|"
    (cd "$top/libdekproto/include" && find . -name '*.h' -o -name '*.hpp') | sed "s|^\./|${prefix#/}/include/|"
}
(cd "$root" && find . -type f -o -type l) | sed 's|^\./||' | sort >"$root.is"
expected | sort >"$root.should"
check "every file, and no other" diff -u "$root.should" "$root.is"
rm -f "$root.is" "$root.should"
check "no build folder or source tree is named in it" \
    sh -c "! grep -rlI -e '$build' -e '$top' '$root' --exclude='dek*' --exclude=kcmd"

# DKMS, with a tree of its own; it makes itself a key for signing where there is none.
had_key=; [ ! -e /var/lib/dkms/mok.key ] || had_key=yes
for kernel in /usr/src/linux-headers-*-amd64 ${DEK_HEADERS:-}; do
    release=$(cat "$kernel/include/config/kernel.release" 2>/dev/null) || continue
    mkdir -p "$root/dkms"
    check "DKMS builds the module for $release" dkms build "dekstack/$version" -k "$release" --kernelsourcedir "$kernel" \
        --dkmstree "$root/dkms" --sourcetree "$root/usr/src" --installtree "$root/dkms-installed" --no-depmod
    check "and it is one" sh -c "modinfo -F license '$root/dkms/dekstack/$version/$release/x86_64/module'/dm-dek.ko* | grep -qx GPL"
done
rm -rf "$root/dkms"
[ -n "${had_key:-}" ] || rm -f /var/lib/dkms/mok.key /var/lib/dkms/mok.pub
# dkms.conf is shell; what it says is checked as DKMS reads it.
check "dkms.conf" bash -c "set -u; kernel_source_dir=/k dkms_tree=/var/lib/dkms
    . '$root/$source/dkms.conf'
    [ \"\$PACKAGE_NAME/\$PACKAGE_VERSION\" = 'dekstack/$version' ] && [ \"\${BUILT_MODULE_NAME[0]}\" = dm-dek ] &&
    [ \"\${MAKE[0]}\" = 'make -C /k M=/var/lib/dkms/dekstack/$version/build CONFIG_DEBUG_INFO_BTF_MODULES= modules' ]"

if command -v systemd-analyze >/dev/null; then
    # Units are checked against a root that has the programs they start, but not systemd's own units.
    for unit in kcmd dek-shimd dekattach@archive; do
        file=$root$prefix/lib/systemd/system/${unit/@archive/@}.service
        sed "s|=$prefix/sbin/|=$root$prefix/sbin/|" "$file" >"$root/$unit.service"
        check "$unit.service" systemd-analyze verify --man=no --recursive-errors=no "$root/$unit.service"
    done
fi

# What systemd makes of a boot with this line in fstab, beside the installed units: cycles, mostly.
boot_with() { # LINE
    local units=$root.units generator=/lib/systemd/system-generators/systemd-fstab-generator unit
    rm -rf "$units"
    mkdir -p "$units/multi-user.target.wants"
    for unit in kcmd dek-shimd dekattach@; do
        sed "s|=$prefix/sbin/[a-z-]*|=/bin/true|" "$root$prefix/lib/systemd/system/$unit.service" >"$units/$unit.service"
    done
    ln -s ../kcmd.service ../dek-shimd.service "$units/multi-user.target.wants/"
    echo "$1" >"$units/fstab"
    SYSTEMD_FSTAB=$units/fstab "$generator" "$units" "$units" "$units"
    [ -e "$units/srv.mount" ] || echo "no mount"
    SYSTEMD_UNIT_PATH=$units:/lib/systemd/system systemd-analyze verify --man=no multi-user.target 2>&1
    rm -rf "$units"
}
if command -v systemd-analyze >/dev/null && [ -x /lib/systemd/system-generators/systemd-fstab-generator ]; then
    line=$(grep '^/dev/dek/NAME' "$top/docs/man/dekattach@.service.8" | sed 's/NAME/archive/g')
    check "fstab's line of dekattach@.service(8)" [ -z "$(boot_with "$line")" ]
    check "which needs its nofail" [ -n "$(boot_with "${line/nofail,/}" | grep -s "ordering cycle")" ]
fi
if command -v udevadm >/dev/null && udevadm verify --help >/dev/null 2>&1; then
    check "the udev rule" udevadm verify "$root$prefix/lib/udev/rules.d/63-dekstack.rules"
fi
exit $bad
