#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what dekstack needs on Debian 12: setup.sh SECTION... (build, run, test; see packages.txt).
# Asks the package manager only for what is missing, so a second call is quick and needs no network.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
[ $# -gt 0 ] || { echo "usage: setup.sh build|run|test ..." >&2; exit 2; }

wanted=$(for section in "$@"; do
    awk -v want="[$section]" '/^#/ || !NF {next} /^\[/ {on = ($0 == want); next} on' "$here/packages.txt"
done)
[ -n "$wanted" ] || { echo "setup.sh: no such section: $*" >&2; exit 2; }

missing=
for package in $wanted; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

[ "$(id -u)" = 0 ] || { echo "setup.sh: root is needed to install:$missing" >&2; exit 1; }
echo "setup.sh: installing$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -q >/dev/null
# shellcheck disable=SC2086  # a list of words
apt-get install -q -y --no-install-recommends $missing >/dev/null
