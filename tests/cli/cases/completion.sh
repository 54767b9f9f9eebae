# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154 # $work is the runner's
# Completion in bash: commands, options, names.
# shellcheck source=utils/dekctl/completion.bash
. "$OLDPWD/../../utils/dekctl/completion.bash"
answer KeyList <<<'{"keys": [{"id": "1", "name": "archive"}, {"id": "2", "name": "backup"}]}'
answer Status <<<'{"volumes": [{"name": "secure", "keys": [{"name": "archive"}]}, {"name": "other"}]}'
printf '#!/bin/sh\nexec "%s" --socket "%s" "$@"\n' "$DEKCTL" "$work/bus" >dekctl
chmod +x dekctl
complete_words() {
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
    _dekctl
    printf '%s:' "${COMP_WORDS[*]}" | show
    printf ' %s' "${COMPREPLY[@]}"
    echo
}
complete_words ./dekctl ''
complete_words ./dekctl key ''
complete_words ./dekctl --json key e
complete_words ./dekctl protect --h
complete_words ./dekctl protect /dev/sdb --name n --key ''
complete_words ./dekctl topology ''
complete_words ./dekctl key show b
complete_words ./dekctl attach ''
complete_words ./dekctl nonsense ''
