#!/usr/bin/env bash
# The Debian package on this machine: installed, run, upgraded over itself, removed, purged; and
# before that under systemd, in namespaces of its own (systemd.sh).
#
#   tests/package/run.sh
#
# For a machine that has no Peristyle; it leaves none behind. Needs root, dpkg, adduser, systemd,
# and what schemas/deploy/package.sh needs. PERISTYLE_BINARY names another binary than a fresh
# release build.
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() {
    echo "FAILED $*" >&2
    exit 1
}
[ "$(id -u)" = 0 ] || fail "expected root: packages are installed"
if dpkg -s peristyle > /dev/null 2>&1 || getent passwd peristyle > /dev/null; then
    fail "expected a machine without Peristyle, found the package or the user"
fi
[ ! -e /var/lib/peristyle ] && [ ! -e /etc/peristyle ] || fail "expected no data and no settings"

scratch="$(mktemp -d)"
server=
clean() {
    [ -z "$server" ] || kill -9 "$server" 2> /dev/null || true
    dpkg -P peristyle > /dev/null 2>&1 || true
    rm -rf "$scratch"
}
trap clean EXIT

# As the unit starts it, but for systemd: its user, command and environment.
value() { sed -n "s/^$1=//p" /lib/systemd/system/peristyle.service | head -1; }
start() {
    local log="$scratch/log"
    : > "$log"
    setpriv --reuid "$(value User)" --regid "$(value Group)" --clear-groups --no-new-privs \
        env -i "$(value Environment)" PERISTYLE_LISTEN=127.0.0.1:0 $(value ExecStart) 2> "$log" &
    server=$!
    # Each line that it logs wakes the reader; its end ends the reader too.
    address="$(timeout 60 tail -n +1 -f --pid "$server" "$log" |
        sed -n 's|.*listening on http://\([0-9.:]*\).*|\1|p;T;q' || true)"
    [ -n "$address" ] || fail "it did not start: $(cat "$log")"
}
stop() {
    kill -TERM "$server"
    wait "$server" || fail "SIGTERM: expected status 0, found $?: $(cat "$scratch/log")"
    server=
}
write() {
    status="$(curl -s -o "$scratch/answer" -w '%{http_code}' \
        "http://$address/write?db=d" --data-binary "m,t=x f=$1i $1")"
    [ "$status" = 204 ] || fail "a write: expected 204, found $status: $(cat "$scratch/answer")"
}
rows() {
    peristyle inspect --json /var/lib/peristyle |
        python3 -c 'import json, sys
state = json.load(sys.stdin)
assert state["consistent"], state
print(sum(table["rows"] for table in state["tables"]))'
}
expect_rows() {
    found="$(rows)" || fail "inspect"
    [ "$found" = "$1" ] || fail "expected $1 rows, found $found"
}

echo "-- pack"
schemas/deploy/package.sh --deb-version 0.1.0-1 --fast --output "$scratch/one.deb"
schemas/deploy/package.sh --deb-version 0.1.0-2 --fast --output "$scratch/two.deb"
dpkg-deb --info "$scratch/one.deb" | sed -n 's/^ \(Version\|Installed-Size\|Depends\):/   \1:/p'

echo "-- under systemd"
tests/package/systemd.sh "$scratch/one.deb" "$scratch/two.deb"

echo "-- install"
dpkg -i "$scratch/one.deb" > "$scratch/dpkg" 2>&1 || fail "dpkg -i: $(cat "$scratch/dpkg")"
for path in /usr/bin/peristyle /etc/peristyle/config.toml /lib/systemd/system/peristyle.service \
    /usr/share/man/man1/peristyle.1.gz /usr/share/bash-completion/completions/peristyle \
    /usr/share/zsh/vendor-completions/_peristyle /usr/share/doc/peristyle/sbom.cdx.json \
    /usr/share/fish/vendor_completions.d/peristyle.fish; do
    # What dpkg leaves out by its own settings (man pages, in containers) is in the package.
    [ -s "$path" ] || dpkg-deb --contents "$scratch/one.deb" | grep -q "\.$path\|/usr$path" ||
        fail "no $path"
done
[ "$(stat -c '%U:%G %a' /var/lib/peristyle)" = "peristyle:peristyle 700" ] || fail "data directory"
[ "$(dpkg-query -W -f '${Conffiles}' peristyle | grep -c config.toml)" = 1 ] || fail "no conffile"
systemd-analyze verify /lib/systemd/system/peristyle.service 2> "$scratch/verify" ||
    fail "systemd-analyze: $(cat "$scratch/verify")"

echo "-- run"
start
write 1
write 2
stop
expect_rows 2
setpriv --reuid peristyle --regid peristyle --clear-groups \
    peristyle token create check --allow write --data-dir /var/lib/peristyle > "$scratch/token" \
    2> "$scratch/log" || fail "a token: $(cat "$scratch/log")"
rm /var/lib/peristyle/tokens.json

echo "-- upgrade, with settings that somebody changed and rows in the journal only"
echo 'slow_request = "2s"' >> /etc/peristyle/config.toml
start
write 3
kill -9 "$server"
wait "$server" 2> /dev/null || true
server=
dpkg -i "$scratch/two.deb" > "$scratch/dpkg" 2>&1 || fail "upgrade: $(cat "$scratch/dpkg")"
[ "$(dpkg-query -W -f '${Version}' peristyle)" = 0.1.0-2 ] || fail "not upgraded"
grep -q slow_request /etc/peristyle/config.toml || fail "the settings were replaced"
start
write 4
stop
expect_rows 4

echo "-- remove: data, settings and user stay"
dpkg -r peristyle > "$scratch/dpkg" 2>&1 || fail "remove: $(cat "$scratch/dpkg")"
[ ! -e /usr/bin/peristyle ] || fail "the binary is there"
[ -d /var/lib/peristyle/tables ] && [ -e /etc/peristyle/config.toml ] || fail "data are gone"
getent passwd peristyle > /dev/null || fail "the user is gone"
dpkg -i "$scratch/two.deb" > "$scratch/dpkg" 2>&1 || fail "install again: $(cat "$scratch/dpkg")"
expect_rows 4

echo "-- purge: nothing stays"
dpkg -P peristyle > "$scratch/dpkg" 2>&1 || fail "purge: $(cat "$scratch/dpkg")"
for path in /var/lib/peristyle /etc/peristyle /usr/bin/peristyle /usr/share/doc/peristyle \
    /lib/systemd/system/peristyle.service; do
    [ ! -e "$path" ] || fail "$path is there"
done
! getent passwd peristyle > /dev/null || fail "the user is there"
echo "installed, run, upgraded with data kept, removed, purged"
