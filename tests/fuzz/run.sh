#!/usr/bin/env bash
# Fuzzes: a minute for each target, two targets at a time, on a stable compiler.
#
#   tests/fuzz/run.sh [seconds for each target] [target...]
#
# A line of JSON for each target. Ends with 1 when something was found, and names the file that
# shows it. Everything made is below $CARGO_TARGET_DIR: what was learnt is begun with next time.
# PERISTYLE_FUZZ_JOBS: targets at a time.
# PERISTYLE_FUZZ_SEED: begins with what is committed alone and with this seed, so that two runs of
# one build try the same inputs in the same order, as far as each comes.
set -euo pipefail
cd "$(dirname "$0")"

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$HOME/.cache/peristyle/target}"
export WORK="$CARGO_TARGET_DIR/fuzz" BINARY="$CARGO_TARGET_DIR/debug/peristyle-fuzz"
export SECONDS_EACH=60
if [[ "${1:-}" =~ ^[0-9]+$ ]]; then
    SECONDS_EACH="$1"
    shift
fi
targets=("$@")
[ "${#targets[@]}" -gt 0 ] ||
    targets=(arrow http inflate journal json line_protocol msgpack names rows)

RUSTC_WORKSPACE_WRAPPER="$PWD/rustc.sh" cargo build --locked -p peristyle-fuzz
rm -rf "$WORK/seeds"
python3 seeds.py "$WORK/seeds"

fuzz() {
    local target="$1" dir="$WORK/$1" options=() status=0
    if [ -n "${PERISTYLE_FUZZ_SEED:-}" ]; then
        dir="$WORK/seed-$PERISTYLE_FUZZ_SEED/$target"
        rm -rf "$dir/corpus"
        options+=("-seed=$PERISTYLE_FUZZ_SEED")
    fi
    mkdir -p "$dir/corpus" "$dir/findings" "$WORK/seeds/$target" "corpus/$target"
    touch "$dir/started"
    [ ! -f "dictionaries/$target.dict" ] || options+=("-dict=dictionaries/$target.dict")
    local begin=${EPOCHREALTIME/./}
    PERISTYLE_FUZZ="$target" "$BINARY" "${options[@]}" -max_total_time="$SECONDS_EACH" \
        -max_len=4096 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$dir/findings/" \
        "$dir/corpus" "$WORK/seeds/$target" "corpus/$target" > "$dir/log" 2>&1 || status=$?
    local micros=$((${EPOCHREALTIME/./} - begin))
    local count found corpus
    count=$(sed -n 's/^stat::number_of_executed_units: *//p' "$dir/log")
    found=$(find "$dir/findings" -type f -newer "$dir/started" | wc -l)
    corpus=$(find "$dir/corpus" "$WORK/seeds/$target" "corpus/$target" -type f | wc -l)
    count=${count:-0}
    printf '{"target":"%s","executions":%d,"seconds":%d.%01d,"executions_per_second":%d,' \
        "$target" "$count" $((micros / 1000000)) $((micros / 100000 % 10)) \
        $((count * 1000000 / micros))
    printf '"corpus":%d,"findings":%d}\n' "$corpus" "$found"
    if [ "$status" -ne 0 ]; then
        grep -a -m 1 -A 6 -E 'panicked at|ERROR: libFuzzer' "$dir/log" >&2 ||
            tail "$dir/log" >&2
        find "$dir/findings" -type f -newer "$dir/started" \
            -printf "found: PERISTYLE_FUZZ=$target $BINARY %p\n" >&2
        return 1
    fi
}
export -f fuzz
printf '%s\n' "${targets[@]}" |
    xargs -P "${PERISTYLE_FUZZ_JOBS:-2}" -I{} bash -euc 'fuzz {}' || exit 1
