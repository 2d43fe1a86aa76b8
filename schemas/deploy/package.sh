#!/usr/bin/env bash
# The Debian package: the binary, its man page and completions, and an SBOM by cargo-cyclonedx.
#
#   schemas/deploy/package.sh [--deb-version VERSION]
#
# Prints where it is. PERISTYLE_BINARY names another binary than a fresh release build. Needs
# dpkg-dev, cargo-deb (3.8) and cargo-cyclonedx (0.5).
set -euo pipefail
cd "$(dirname "$0")/../.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}"
made="$CARGO_TARGET_DIR/release/package"

binary="${PERISTYLE_BINARY:-}"
if [ -z "$binary" ]; then
    cargo build --locked --release --bin peristyle
    binary="$CARGO_TARGET_DIR/release/peristyle"
fi
rm -rf "$made"
mkdir -p "$made"
strip -o "$made/peristyle" "$binary"
"$binary" man | gzip -9n > "$made/peristyle.1.gz"
for shell in bash fish zsh; do
    "$binary" completions "$shell" > "$made/peristyle.$shell"
done
# It writes one beside each manifest; the package has that of the server.
cargo cyclonedx --quiet --format json --spec-version 1.5 --override-filename sbom.cdx
mv sbom.cdx.json "$made/"
find perf tests -name sbom.cdx.json -delete
cargo deb --quiet --locked --no-build --no-strip "$@"
