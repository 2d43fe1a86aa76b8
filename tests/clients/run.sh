#!/usr/bin/env bash
# Starts a release server on a free loopback port and runs the Python checks of this folder.
#
#   tests/clients/run.sh                     all check_*.py, in order of their names
#   tests/clients/run.sh check_msgpack.py    only these
#
# PERISTYLE_BINARY names another binary than a fresh release build.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
cd "$here/../.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}"

# One environment for each set of requirements; a half-made one has no marker and is made again.
requirements="$here/requirements.txt"
digest='import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest()[:16])'
venv="$HOME/.cache/peristyle/venv-$(python3 -c "$digest" < "$requirements")"
if [ ! -e "$venv/complete" ]; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$requirements"
    touch "$venv/complete"
fi

binary="${PERISTYLE_BINARY:-}"
if [ -z "$binary" ]; then
    cargo build --locked --release --bin peristyle
    binary="$CARGO_TARGET_DIR/release/peristyle"
fi

scratch="$(mktemp -d)"
server=
finish() {
    status=$?
    if [ -n "$server" ]; then
        kill -KILL "$server" 2> /dev/null || true
    fi
    if [ "$status" -ne 0 ] && [ -e "$scratch/log" ]; then
        printf -- '-- last lines of the server\n' >&2
        tail -n 20 "$scratch/log" >&2
    fi
    rm -rf "$scratch"
}
trap finish EXIT

export PERISTYLE_DATA_DIR="$scratch/data"
"$binary" --listen 127.0.0.1:0 2> "$scratch/log" > /dev/null &
server=$!
PERISTYLE_URL=
for _ in $(seq 200); do
    kill -0 "$server"
    PERISTYLE_URL="$(sed -n 's|.*listening on \(http://[0-9.:]*\).*|\1|p' "$scratch/log")"
    [ -z "$PERISTYLE_URL" ] || break
    sleep 0.1
done
[ -n "$PERISTYLE_URL" ] || { echo "the server does not say where it listens" >&2; exit 1; }
export PERISTYLE_URL

scripts=("$@")
[ "${#scripts[@]}" -gt 0 ] || scripts=("$here"/check_*.py)
for script in "${scripts[@]}"; do
    name="$(basename "$script")"
    printf -- '-- %s\n' "$name"
    "$venv/bin/python" "$here/$name"
done

printf -- '-- SIGTERM ends the server with status 0\n'
kill -TERM "$server"
wait "$server"
server=
