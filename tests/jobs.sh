# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The jobs of tests/run.sh. Each counts its tests into `passed` and `failed` and never stops the others.
passed=0 failed=0 timings=() vm_size='' limit_minutes=${LIMIT_MINUTES:-75}
logs=$(mktemp -d /tmp/dekstack-tests.XXXXXX)

note_result() { # NAME RC
    if [ "$2" = 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $1"; fi
}

run_job() {
    local start=$SECONDS
    echo "== $1"
    "job_$1"
    timings+=("$(printf '%-8s %5d s' "$1" $((SECONDS - start)))")
}

report() {
    echo "== time of each job"
    printf '   %s\n' "${timings[@]}"
    if [ $((SECONDS / 60)) -ge "$limit_minutes" ]; then
        echo "FAILED: took $((SECONDS / 60)) minutes, the limit is $limit_minutes"
        failed=$((failed + 1))
    fi
    [ "$failed" = 0 ] && rm -rf "$logs"
    echo "$passed passed, $failed failed"
    [ "$failed" = 0 ] && [ "$passed" -gt 0 ]
    exit
}

# build FOLDER TARGET [CMAKE ARGS]: configures and builds; a failure counts as one test.
build() {
    local folder=$1 target=$2 log="$logs/build-${1##*/}.log"
    shift 2
    if cmake -S . -B "$folder" -G Ninja -DBUILD_TESTING=ON "$@" >"$log" 2>&1 &&
        ninja -C "$folder" "$target" >>"$log" 2>&1; then
        note_result "build $folder" 0
    else
        tail -n 60 "$log"
        note_result "build $folder" 1
        return 1
    fi
}

# run_ctest FOLDER CTEST-ARGS...: adds ctest's own counts.
run_ctest() {
    local folder=$1 xml="$logs/ctest.xml" total bad
    shift
    rm -f "$xml"
    ctest --test-dir "$folder" --output-on-failure --no-tests=error --output-junit "$xml" "$@" |
        grep -v -e '^ *Start ' -e '^$'
    total=$(sed -n 's/.*[ \t]tests="\([0-9]*\)".*/\1/p' "$xml" | head -n 1)
    bad=$(sed -n 's/.*[ \t]failures="\([0-9]*\)".*/\1/p' "$xml" | head -n 1)
    if [ -z "$total" ] || [ "$total" = 0 ]; then
        note_result "ctest $folder $*" 1
        return
    fi
    passed=$((passed + total - bad)) failed=$((failed + bad))
}

setup() { sh utils/setup.sh "$@" || { note_result "setup $*" 1; return 1; }; }

job_style() {
    setup style || return
    git ls-files '*.sh' .ci/run | xargs -r shellcheck -x -S warning
    note_result "shellcheck" $?
    git ls-files '*.cpp' '*.hpp' 'daemon/*.h' 'utils/*.h' 'kernel-shim/fuse/*.h' 'tests/*.h' 'bench/*.h' |
        xargs -r clang-format --dry-run -Werror
    note_result "clang-format" $?
    tests/style.py
    note_result "SPDX lines, length of functions" $?
}

job_quick() {
    setup build run test || return
    build build all && run_ctest build -L quick -j2
}

job_slow() {
    setup build run test || return
    build build all && run_ctest build -L slow
}

job_demo() {
    utils/quickstart.sh >"$logs/demo.log" 2>&1
    local rc=$?
    [ $rc = 0 ] || tail -n 40 "$logs/demo.log"
    note_result "quickstart" $rc
}

job_asan() {
    setup build run test || return
    build build-asan all -DDEK_SANITIZE=ON && run_ctest build-asan -L quick -LE native -j2
}

job_fuzz() {
    setup build run fuzz || return
    local seconds=${FUZZ_SECONDS:-30} target name rc
    build build-fuzz fuzzers -DDEK_FUZZ=ON -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ || return
    for target in build-fuzz/fuzz/fuzz_*; do
        if [ ! -f "$target" ] || [ ! -x "$target" ]; then continue; fi
        name=${target##*/}
        mkdir -p "$logs/corpus-$name"
        "$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 -print_final_stats=1 \
            -artifact_prefix="$logs/$name-" "$logs/corpus-$name" >"$logs/$name.log" 2>&1
        rc=$?
        if [ $rc = 0 ]; then
            echo "$name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$logs/$name.log") runs"
        else
            tail -n 40 "$logs/$name.log"
        fi
        note_result "$name" $rc
    done
}

job_fresh() {
    setup fresh || return
    tests/fresh.sh >"$logs/fresh.log" 2>&1
    local rc=$?
    if [ $rc = 0 ]; then grep -E '^(fresh:|[0-9]+ passed)' "$logs/fresh.log"; else tail -n 60 "$logs/fresh.log"; fi
    note_result "fresh machine" $rc
}

# run_vm NAME COMMAND...: adds its `ok` and `FAILED` lines.
run_vm() {
    local name=$1 log="$logs/$1.log" good bad rc
    shift
    "$@" >"$log" 2>&1
    rc=$?
    good=$(grep -c '^ok ' "$log") bad=$(grep -c '^FAILED ' "$log")
    grep -E '^ok [^:]*\([0-9]+ s\)$' "$log"
    if [ $rc != 0 ]; then grep -v '^ok ' "$log" | tail -n 80; fi
    if [ $rc != 0 ] && [ "$bad" = 0 ]; then bad=1; fi
    passed=$((passed + good)) failed=$((failed + bad))
}

job_vm() {
    setup build run test vm || return
    # shellcheck disable=SC2086 # -q or nothing
    build build all && run_vm vm tests/vm/run.sh -b build $vm_size
}

job_layers() {
    setup build run test vm || return
    # As part of all: kills at some steps only.
    if [ -n "$vm_size" ]; then local -x VM_ARGS='STEPS="4 15 26 37 48 59 70"'; fi
    # shellcheck disable=SC2086
    build build all && run_vm layers tests/vm/run.sh -d layers -b build $vm_size
}

job_mutants() {
    setup build run test vm || return
    run_vm layers-mutants tests/layers/mutants.py
    build build all && run_vm mutants tests/vm/mutants.py -b build
}

job_debug() {
    setup build run test vm debug || return
    build build all && run_vm debug tests/vm/debug.sh -b build
}

job_bench() {
    bench/run.sh cipher volume lookup
    note_result "benchmarks" $?
}

job_soak() {
    setup build run test || return
    DEK_SOAK=1 build build all && run_ctest build -L slow --timeout 7200
    FUZZ_SECONDS=900 job_fuzz
}
