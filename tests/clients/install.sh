# The programs that the suites need, each in a directory of its own that is named by the hash of
# what pins it, below $HOME/.cache/peristyle. To be sourced; a half-made one has no marker and is
# made again. What cannot be had is said, and left empty: what needs it then fails.
#
#   make_venv         sets $venv: Python with requirements.txt
#   make_node         sets $PERISTYLE_NODE_DIR: node_modules of javascript/package-lock.json
#   find_go           sets $go
#   make_telegraf     sets $telegraf: built from its Go module, pinned by telegraf/go.sum
#   make_spark        sets $spark: PySpark in python/, and Delta's package in .m2/, for Java's home

clients="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cache="$HOME/.cache/peristyle"

# Telegraf with the plugins that the tests use and no others: the rest takes an hour.
telegraf_version=1.39.0
telegraf_plugins=(
    inputs.cpu inputs.disk inputs.diskio inputs.http_listener_v2 inputs.mem inputs.net
    inputs.processes inputs.system
    outputs.arc outputs.file outputs.http outputs.influxdb outputs.influxdb_v2 outputs.influxdb_v3
    parsers.influx serializers.influx serializers.json serializers.msgpack
)

# The first 16 digits of the SHA-256 of the files.
hash_of() {
    cat "$@" | python3 -c 'import hashlib, sys
print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest()[:16])'
}

make_venv() {
    venv="$cache/venv-$(hash_of "$clients/requirements.txt")"
    if [ ! -e "$venv/complete" ]; then
        python3 -m venv --clear "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$clients/requirements.txt"
        touch "$venv/complete"
    fi
}

make_node() {
    export PERISTYLE_NODE_DIR=
    if ! command -v node > /dev/null || ! command -v npm > /dev/null; then
        echo "node and npm are not on this machine: the JavaScript clients cannot be had" >&2
        return 0
    fi
    local directory
    directory="$cache/node-$(hash_of "$clients/javascript/package-lock.json")"
    if [ ! -e "$directory/complete" ]; then
        rm -rf "$directory"
        mkdir -p "$directory"
        cp "$clients"/javascript/package*.json "$directory"
        (cd "$directory" && npm ci --ignore-scripts --no-audit --no-fund --silent) || {
            echo "npm ci failed: the JavaScript clients cannot be had" >&2
            return 0
        }
        touch "$directory/complete"
    fi
    PERISTYLE_NODE_DIR="$directory"
}

find_go() {
    go="$(command -v go || true)"
    [ -n "$go" ] || [ ! -x /usr/local/go/bin/go ] || go=/usr/local/go/bin/go
    [ -n "$go" ] || echo "go is not on this machine: Telegraf cannot be built" >&2
}

make_telegraf() {
    telegraf=
    local directory tags
    find_go
    [ -n "$go" ] || return 0
    directory="$cache/telegraf-$(hash_of "$clients/telegraf/go.sum" "$clients/install.sh")"
    if [ ! -e "$directory/telegraf" ]; then
        mkdir -p "$directory"
        tags="custom,$(IFS=, && echo "${telegraf_plugins[*]}")"
        (cd "$clients/telegraf" && "$go" build -mod=readonly -trimpath -tags "$tags" \
            -ldflags "-s -w -X github.com/influxdata/telegraf/internal.Version=$telegraf_version" \
            -o "$directory/building" github.com/influxdata/telegraf/cmd/telegraf) || {
            echo "go build failed: Telegraf cannot be had" >&2
            return 0
        }
        mv "$directory/building" "$directory/telegraf"
    fi
    telegraf="$directory/telegraf"
}

make_spark() {
    spark=
    local directory sum path
    if ! command -v java > /dev/null; then
        echo "java is not on this machine: Spark cannot be had" >&2
        return 0
    fi
    directory="$cache/spark-$(hash_of "$clients"/spark/*)"
    if [ ! -e "$directory/complete" ]; then
        rm -rf "$directory"
        mkdir -p "$directory/.m2/repository"
        "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes \
            --target "$directory/python" -r "$clients/spark/requirements.txt"
        while read -r sum path; do
            curl -fsS --create-dirs -o "$directory/.m2/repository/$path" \
                "https://repo1.maven.org/maven2/$path"
        done < "$clients/spark/maven.sha256"
        (cd "$directory/.m2/repository" && sha256sum --quiet --check "$clients/spark/maven.sha256")
        touch "$directory/complete"
    fi
    spark="$directory"
}
