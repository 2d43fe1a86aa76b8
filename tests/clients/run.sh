#!/usr/bin/env bash
# Real clients against a real release server: what they sent, compared with what its tables hold.
#
#   tests/clients/run.sh                       all of it, as the gate does
#   tests/clients/run.sh libraries examples    only these; or the name of a check: check_delta.py
#   tests/clients/run.sh record                ten minutes of Telegraf, killed every minute
#   tests/clients/run.sh spark                 Delta tables read by Spark: needs Java, and 400 MB
#
# It installs what it needs, pinned: see install.sh. PERISTYLE_BINARY names another binary than a
# fresh release build.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
cd "$here/../.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}"
export PYTHONPATH="$here:$here/../crash" PYTHONDONTWRITEBYTECODE=1
. "$here/install.sh"

binary="${PERISTYLE_BINARY:-}"
if [ -z "$binary" ]; then
    cargo build --locked --release --bin peristyle
    binary="$CARGO_TARGET_DIR/release/peristyle"
fi
make_venv

failed=()
run() {
    printf -- '-- %s\n' "$*"
    "$venv/bin/python" -u "$here/$1" "${@:2}" || failed+=("$1")
}

run_libraries() {
    make_node
    run libraries.py --binary "$binary"
}

run_telegraf() {
    make_telegraf
    if [ -z "$telegraf" ]; then
        failed+=("telegraf: it cannot be had on this machine, so nothing was tried")
        return
    fi
    run telegraf.py --binary "$binary" --telegraf "$telegraf"
    run telegraf_restarts.py --binary "$binary" --telegraf "$telegraf" "$@"
}

run_examples() {
    find_go
    run examples.py --binary "$binary" --go "$go"
}

# Java finds Delta's package in what it takes for its home, and nothing of it is fetched.
run_spark() {
    make_spark
    if [ -z "$spark" ]; then
        failed+=("spark: it cannot be had on this machine, so nothing was tried")
        return
    fi
    PYTHONPATH="$PYTHONPATH:$spark/python" SPARK_CONF_DIR="$here/spark" \
        JAVA_TOOL_OPTIONS="-Duser.home=$spark" run_checks "$here/read_by_spark.py"
}

# Checks that share a server: it is started here, and ended by SIGTERM with status 0.
run_checks() {
    run with_server.py --binary "$binary" "$@"
}

steps=("$@")
[ "${#steps[@]}" -gt 0 ] || steps=(checks libraries telegraf examples)
for step in "${steps[@]}"; do
    case "$step" in
    checks) run_checks "$here"/check_*.py ;;
    check_*.py) run_checks "$here/$step" ;;
    libraries) run_libraries ;;
    examples) run_examples ;;
    telegraf) run_telegraf --minutes 0.75 --period 8 ;;
    record) run_telegraf --minutes 10 ;;
    spark) run_spark ;;
    *)
        echo "no step '$step'; there are: checks check_*.py libraries telegraf examples" \
            "record spark" >&2
        exit 2
        ;;
    esac
done

if [ "${#failed[@]}" -gt 0 ]; then
    printf 'failed: %s\n' "${failed[@]}" >&2
    exit 1
fi
