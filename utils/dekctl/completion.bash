# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Completion of dekctl in bash: commands and options as --help lists them, names of volumes and keys as kcmd knows
# them, files for the rest.
_dekctl_names() { # LIST MEMBER: from the JSON of a listing, one name a line
    "${COMP_WORDS[0]}" --timeout 2 --json "$1" ${3:+"$3"} 2>/dev/null | sed -n "s/^      \"$2\": \"\(.*\)\",\{0,1\}\$/\1/p"
}

_dekctl() {
    local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} help word command=()
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        [[ $word == [a-z]* && ${#command[@]} -lt 2 ]] || continue
        case ${command[0]-} in
        '' | key | keystore | header | endpoint | cache) command+=("$word") ;;
        esac
    done
    help=$("${COMP_WORDS[0]}" "${command[@]}" --help 2>/dev/null)
    COMPREPLY=()
    case "$before ${command[*]}" in
    '--key '*) mapfile -t COMPREPLY < <(compgen -W "$(_dekctl_names key name list)" -- "$current") && return ;;
    esac
    if [[ $current == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "--json --socket --timeout $(grep -o -- '^ *\(-h,\)\?--[a-z-]*' <<<"$help" |
            sed 's/.*--/--/')" -- "$current")
    elif [[ $help == *Subcommands:* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(sed -n '/^Subcommands:/,/^$/s/^  \([a-z]*\) .*/\1/p' <<<"$help")" -- "$current")
    else
        case ${command[*]} in
        detach | topology | switch | resize | status)
            mapfile -t COMPREPLY < <(compgen -W "$(_dekctl_names status name)" -- "$current") ;;
        'key show' | 'key state' | 'key destroy' | 'key export')
            mapfile -t COMPREPLY < <(compgen -W "$(_dekctl_names key name list)" -- "$current") ;;
        esac
    fi
}
complete -o default -F _dekctl dekctl
