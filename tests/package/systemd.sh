#!/usr/bin/env bash
# The Debian package under a real systemd: process 1 of namespaces of its own, on this machine's
# files with a layer in memory above them, so that nothing of this machine changes.
#
#   tests/package/systemd.sh ONE.deb TWO.deb
#
# TWO is what ONE is upgraded to. Needs root, systemd, curl, overlayfs and cgroups of version 2.
set -euo pipefail

fail() {
    echo "FAILED $*" >&2
    exit 1
}

# -- Outside

outside() {
    scratch="$(mktemp -d)"
    mkdir "$scratch"/{trial,layer,cgroups}
    cp "$0" "$scratch/trial/systemd.sh"
    cp "$1" "$scratch/trial/one.deb"
    cp "$2" "$scratch/trial/two.deb"
    # The namespaces end with their process 1, and that with `unshare`.
    timeout 300 unshare --mount --pid --ipc --uts --net --fork --kill-child \
        "$scratch/trial/systemd.sh" --boot "$scratch" > "$scratch/boot" 2>&1 &&
        status=0 || status=$?
    [ ! -e "$scratch/trial/output" ] || sed 's/^/   /' "$scratch/trial/output"
    [ "$status" = 0 ] || sed 's/^/   /' "$scratch/boot" >&2
    unshare --mount "$scratch/trial/systemd.sh" --clean "$scratch"
    rm -rf "$scratch"
    [ "$status" = 0 ] || fail "under systemd: status $status"
}

mount_cgroups() {
    mount -t cgroup2 cgroup2 "$scratch/cgroups"
    group="$scratch/cgroups$(sed -n 's/^0:://p' /proc/self/cgroup)/$(basename "$scratch")"
}

# What systemd made for its units is empty by now.
clean() {
    mount --make-rprivate /
    mount_cgroups
    [ ! -d "$group" ] || find "$group" -depth -type d -exec rmdir {} +
}

# -- On the way in

boot() {
    mount --make-rprivate /
    local layer="$scratch/layer" trial="$scratch/trial" name
    mount -t tmpfs tmpfs "$layer"
    mkdir "$layer"/{upper,work,root}
    local root="$layer/root"
    mount -t overlay overlay -o "lowerdir=/,upperdir=$layer/upper,workdir=$layer/work" "$root"
    for name in run tmp dev; do
        mount -t tmpfs tmpfs "$root/$name"
    done
    mount -t proc proc "$root/proc"
    # Read only: udev then leaves this machine's devices alone.
    mount -t sysfs -o ro sysfs "$root/sys"
    for name in null zero full random urandom tty; do
        touch "$root/dev/$name"
        mount --bind "/dev/$name" "$root/dev/$name"
    done
    mkdir "$root"/dev/{shm,pts} "$root/run/trial"
    mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
    ln -s pts/ptmx "$root/dev/ptmx"
    mount --bind "$trial" "$root/run/trial"
    units "$root"
    # Images of containers have it, so that packages start nothing.
    rm -f "$root/usr/sbin/policy-rc.d"
    mount_cgroups
    mkdir "$group"
    echo 0 > "$group/cgroup.procs"
    exec unshare --cgroup "$root/run/trial/systemd.sh" --enter "$root"
}

# The status of the trial is that of systemd, and so of the namespaces.
units() {
    local units="$1/etc/systemd/system"
    mkdir -p "$units"
    cat > "$units/trial.service" << 'UNIT'
[Unit]
SuccessAction=exit
FailureAction=exit
FailureActionExitStatus=1
[Service]
Type=oneshot
ExecStart=/run/trial/systemd.sh --trial
StandardOutput=append:/run/trial/output
StandardError=inherit
UNIT
    cat > "$units/trial.target" << 'UNIT'
[Unit]
Wants=systemd-journald.service trial.service
UNIT
    # In memory.
    mkdir -p "$units/../journald.conf.d"
    printf '[Journal]\nStorage=volatile\n' > "$units/../journald.conf.d/trial.conf"
}

enter() {
    mount -t cgroup2 cgroup2 "$1/sys/fs/cgroup"
    cd "$1"
    pivot_root . mnt
    cd /
    umount --lazy /mnt
    container=trial exec /lib/systemd/systemd --unit=trial.target --log-target=journal
}

# -- Within

journal() { journalctl --unit peristyle --output cat --no-pager "$@"; }
follow() {
    timeout 90 journalctl --unit peristyle --output cat --follow --after-cursor "$cursor"
}
failed() { fail "$*: $(journal --lines 30)"; }
property() { systemctl show --value --property "$1" peristyle; }
expect() {
    local found
    found="$(property "$1")"
    [ "$found" = "$2" ] || failed "$1: expected $2, found $found"
}

acknowledged=0
write() {
    [ "$(curl -s -o /dev/null -w '%{http_code}' 'localhost:8086/write?db=d' \
        --data-binary "m f=1i $1")" = 204 ]
}
write_one() {
    acknowledged=$((acknowledged + 1))
    write "$acknowledged" || failed "write $acknowledged"
}
# systemd takes it for started: so its first request finds everything in tables.
expect_ready() {
    local tables
    expect ActiveState active
    [ "$(curl -s -o /dev/null -w '%{http_code}' localhost:8086/ready)" = 200 ] || failed "not ready"
    tables="$(curl -s 'localhost:8086/api/v1/tables?db=d')"
    [[ "$tables" == *"\"name\":\"m\",\"rows\":$acknowledged,"* ]] ||
        failed "expected $acknowledged rows, found $tables"
}

# Runs the command, then waits until systemd says that the server is started.
expect_restart() {
    cursor="$(journalctl --lines 0 --show-cursor | sed -n 's/^-- cursor: //p')"
    "$@"
    # The reader of the journal ends with systemd.
    grep -q -m 1 '^Started peristyle' < <(follow) || failed "not started again after: $*"
}
expect_in_order() {
    local lines number before=0
    lines="$(journal --after-cursor "$cursor")"
    for text in "$@"; do
        number="$(grep -n -m 1 "$text" <<< "$lines" | cut -d: -f1)"
        [ "${number:-0}" -gt "$before" ] || fail "'$text' in order: $lines"
        before="$number"
    done
}

# The policy of a thread of large bodies while it has one: the unit allows the way back from last,
# where systemd itself may raise a limit.
expect_last() {
    local process thread threads=() stat found= limit
    process="$(property MainPID)"
    for thread in "/proc/$process/task"/*; do
        [[ "$(< "$thread/comm")" != bulk-* ]] || threads+=("$thread")
    done
    head -c 20000000 < <(yes '# no row, but a large body' 2> /dev/null) > body
    curl -s -o answer -w '%{http_code}' 'localhost:8086/write?db=d' --data-binary @body > status &
    while kill -0 $! 2> /dev/null; do
        for thread in "${threads[@]}"; do
            read -r -a stat < "$thread/stat"
            [ "${stat[40]}" != 5 ] || found=1
        done
    done
    wait $!
    [ "$(< status)" = 204 ] || failed "a large body: $(< status) $(< answer)"
    limit="$(sed -n 's/^Max nice priority *\([0-9]*\).*/\1/p' "/proc/$process/limits")"
    if [ "$limit" -lt 10 ]; then
        echo "   not tried: LimitNICE is not granted on this machine, it is $limit"
        return
    fi
    [ -n "$found" ] || failed "the thread of large bodies is never last"
}

trial() {
    trap 'failed "line $LINENO"' ERR
    cd /run/trial
    systemctl --version | head -1
    echo "-- the package is installed, and the server started"
    dpkg -i one.deb > log 2>&1 || fail "dpkg -i: $(cat log)"
    expect ActiveState active
    systemd-analyze security --no-pager peristyle | tail -1 | sed 's/ [^ ]*$//'
    write_one
    write_one

    echo "-- large bodies are decoded when nothing else is to do"
    expect_last

    echo "-- killed, it is started again, and is active when the journal is replayed"
    expect_restart systemctl kill --signal KILL peristyle
    expect_ready
    expect_in_order 'replayed the journal' '^Started peristyle'

    echo "-- stopped by a signal, it is ended by the watchdog, and started again"
    mkdir /etc/systemd/system/peristyle.service.d
    printf '[Service]\nWatchdogSec=2s\n' > /etc/systemd/system/peristyle.service.d/trial.conf
    systemctl daemon-reload
    systemctl restart peristyle
    expect WatchdogUSec 2s
    write_one
    expect_restart systemctl kill --signal STOP --kill-whom main peristyle
    expect_ready
    expect_in_order 'Watchdog timeout' 'replayed the journal' '^Started peristyle'

    echo "-- an upgrade starts the new one"
    local main
    main="$(property MainPID)"
    write_one
    dpkg -i two.deb > log 2>&1 || fail "dpkg -i: $(cat log)"
    [ "$(property MainPID)" != "$main" ] || fail "the server of before runs"
    expect_ready

    echo "-- stopped while a client writes, it ends with status 0"
    : > written
    while write $((acknowledged + 1)); do
        acknowledged=$((acknowledged + 1))
        echo "$acknowledged" >> written
    done &
    local writer=$!
    { timeout 60 tail --pid "$writer" --lines +1 --follow written || true; } | sed '50q' > begun
    [ "$(wc -l < begun)" = 50 ] || failed "writing"
    systemctl stop peristyle
    wait "$writer"
    expect ActiveState inactive
    expect Result success
    expect ExecMainStatus 0
    acknowledged="$(tail -1 written)"
    systemctl start peristyle
    expect_ready

    echo "-- removed, it is stopped"
    dpkg -r peristyle > log 2>&1 || fail "dpkg -r: $(cat log)"
    expect ActiveState inactive
    expect Result success
    echo "$acknowledged rows acknowledged, and in their table"
}

case "${1:-}" in
--boot) scratch="$2" && boot ;;
--clean) scratch="$2" && clean ;;
--enter) enter "$2" ;;
--trial) trial ;;
*) outside "$@" ;;
esac
