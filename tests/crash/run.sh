#!/usr/bin/env bash
# Kills, fills and stops a release server, and compares what it kept with what it acknowledged.
#
#   tests/crash/run.sh            the short set, as the gate runs it
#   tests/crash/run.sh record     the long set: 500 kills, every point; some 90 minutes
#   tests/crash/run.sh readers    DuckDB, deltalake and ClickHouse on the same tables
#
# PERISTYLE_BINARY names another binary than a fresh release build. Each script prints its seed and
# ends with one line of JSON; the results are in the order of the scripts.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
cd "$here/../.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}"

set_name="${1:-short}"
. "$here/../clients/install.sh"
make_venv

binary="${PERISTYLE_BINARY:-}"
if [ -z "$binary" ]; then
    cargo build --locked --release --bin peristyle
    binary="$CARGO_TARGET_DIR/release/peristyle"
fi

failed=()
run() {
    local script="$1"
    shift
    printf -- '-- %s %s\n' "$script" "$*"
    "$venv/bin/python" -B "$here/$script" "$@" || failed+=("$script")
}

# What is done at the n-th call needs ptrace, and knows one processor's calls.
run_traced() {
    if "$venv/bin/python" -B "$here/tracer.py" --under "$here" --log /dev/null -- true; then
        run "$@"
    else
        echo "skipped: $1: this machine allows no tracing"
    fi
}

case "$set_name" in
short)
    run sabotage.py
    run kill_random.py --binary "$binary" --rounds 20 --load-ms 700
    run kill_random.py --binary "$binary" --rounds 5 --load-ms 700 --retry-percent 10
    run_traced kill_points.py --binary "$binary" --points 40
    run_traced disk_errors.py --binary "$binary" --points 20
    run disk_full.py --binary "$binary" --rounds 2
    run signals.py --binary "$binary" --rounds 8
    run readers.py --binary "$binary" --rounds 1
    ;;
record)
    run sabotage.py
    run kill_random.py --binary "$binary" --rounds 500
    run kill_random.py --binary "$binary" --rounds 100 --retry-percent 10
    run_traced kill_points.py --binary "$binary"
    run_traced disk_errors.py --binary "$binary"
    run disk_full.py --binary "$binary" --rounds 10
    run signals.py --binary "$binary" --rounds 200
    ;;
readers)
    run readers.py --binary "$binary"
    ;;
*)
    echo "no set '$set_name'; there are: short record readers" >&2
    exit 2
    ;;
esac

if [ "${#failed[@]}" -gt 0 ]; then
    printf 'failed: %s\n' "${failed[@]}" >&2
    exit 1
fi
