"""Fills the disk under a server, frees it again, and looks whether it goes on by itself.

    disk_full.py --binary target/release/peristyle --rounds 3

The directory is on a tmpfs of 64 MiB in a mount namespace of its own (`unshare -rm`: no rights are
needed). A round: another file takes most of the space; clients write until they are answered 503
with Retry-After, and for a second more; then the space is free again, and within 30 s a write is
acknowledged and a flush succeeds, without a restart. Every second round the server is killed while
the disk is full, and started when there is room. Nothing that was acknowledged may be missing.
"""

import os
import random
import shutil
import subprocess
import sys
import time

from checker import Checker, check_totals
from ledger import ACKNOWLEDGED, REFUSED, UNKNOWN, Ledger, Violation
from server import Died, Server, arguments, finish, scratch_of

DISK_BYTES = 64 << 20
# What the clients have to fill; the server needs room for its log and for what it flushes.
LEFT_BYTES = 5 << 20
FULL_SECONDS, RECOVERY_SECONDS = 60, 30
SETTINGS = {
    "flush_interval": "300ms",
    "flush_bytes": "1MiB",
    "memory_limit": "128MiB",
    "wal_segment_bytes": "1MiB",
}
# A mount that only we see: without rights, or with them where that is not allowed.
SPACES = [["unshare", "--user", "--map-root-user", "--mount"], ["unshare", "--mount"]]
INSIDE = "PERISTYLE_CRASH_INSIDE"


class Disk:
    """A small file system, and the file that takes the space of others."""

    def __init__(self, path):
        self.path = path
        path.mkdir()
        size = f"size={DISK_BYTES}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", path], check=True)

    def free(self):
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def take(self, left):
        """Takes all but `left` bytes."""
        with open(self.path / "ballast", "ab") as ballast:
            size = os.fstat(ballast.fileno()).st_size + self.free() - left
            os.posix_fallocate(ballast.fileno(), 0, max(size, 1))

    def give_back(self):
        (self.path / "ballast").unlink(missing_ok=True)


class Run:
    def __init__(self, options, scratch):
        self.options, self.rng = options, random.Random(options.seed)
        self.disk = Disk(scratch / "disk")
        self.server = Server(options, self.disk.path / "data", scratch / "log")
        self.ledger = Ledger(options.seed, options.clients, rows_log2=9)
        self.checker = Checker(self.server.data_dir, not options.without_log)
        self.slowest, self.violations = 0.0, []

    def wait_until_refused(self):
        """Until a client is answered 503; false when that does not come."""
        patience, before = time.monotonic() + FULL_SECONDS, self.ledger.refusals
        while self.ledger.refusals == before:
            if not self.server.is_alive() or time.monotonic() > patience:
                return False
            time.sleep(0.01)
        return True

    def round(self, number):
        self.ledger.round = number
        self.disk.take(LEFT_BYTES)
        is_over = []
        threads = self.ledger.run(self.server.address, lambda: bool(is_over))
        if not self.wait_until_refused():
            text = f"no 503 in {FULL_SECONDS} s, {self.disk.free()} bytes free, or it ended"
            self.violations.append(Violation("full", f"{text}\n{self.server.log()}"))
        time.sleep(1)
        is_alive = self.server.is_alive()
        if number % 2 and is_alive:
            self.server.kill()
        is_over.append(True)
        for thread in threads:
            thread.join()
        print(f"round {number}: {self.ledger.refusals} times 503, {self.disk.free()} bytes free")
        self.disk.give_back()
        if not is_alive:
            raise Died(f"status {self.server.process.returncode}, full\n{self.server.log()}")
        if number % 2:
            self.server.start(**SETTINGS)
        self.recover()

    def recover(self):
        """There is room again: how long until a write is acknowledged and a flush succeeds?"""
        begin = time.monotonic()
        last = self.ledger.acknowledged_at
        while self.ledger.acknowledged_at == last:
            for thread in self.ledger.run(self.server.address, lambda: False, requests=1):
                thread.join()
            if time.monotonic() - begin > RECOVERY_SECONDS or not self.server.is_alive():
                raise Died(f"no write {RECOVERY_SECONDS} s after room\n{self.server.log()}")
        while True:
            try:
                self.server.flush()
                break
            except Died:
                if time.monotonic() - begin > RECOVERY_SECONDS or not self.server.is_alive():
                    raise
                time.sleep(0.1)
        self.slowest = max(self.slowest, time.monotonic() - begin)
        self.violations += self.checker.check(self.ledger)

    def run(self):
        self.server.start(**SETTINGS)
        for number in range(self.options.rounds):
            self.round(number)
        status, seconds = self.server.end()
        if status != 0:
            self.violations.append(Violation("end", f"SIGTERM: status {status}, {seconds:.1f} s"))
        self.violations += check_totals(self.checker)[0]


def is_allowed(space):
    mount = ["mount", "-t", "tmpfs", "tmpfs", "/tmp"]
    return subprocess.run([*space, *mount], capture_output=True).returncode == 0


def main():
    options = arguments(__doc__, rounds=2, clients=4).parse_args()
    if INSIDE not in os.environ:
        space = next(filter(is_allowed, SPACES), None)
        if space is None:
            sys.exit(print("skipped: this machine allows no mount of our own"))
        command = [*space, sys.executable, "-B", *sys.argv, "--seed", str(options.seed)]
        sys.exit(subprocess.run(command, env=os.environ | {INSIDE: "1"}).returncode)
    scratch = scratch_of(options)
    print(f"seed {options.seed}, data in {scratch}", flush=True)
    run = Run(options, scratch)
    try:
        run.run()
    except Died as error:
        run.violations.append(Violation("died", str(error)))
    run.server.kill()
    if run.violations:
        # The file system goes with this process.
        shutil.copytree(run.server.data_dir, scratch / "data")
    run.disk.give_back()
    subprocess.run(["umount", run.disk.path], check=True)
    counts = {
        "rounds": options.rounds,
        "acknowledged": run.ledger.counts[ACKNOWLEDGED],
        "refused": run.ledger.counts[REFUSED],
        "refused_503": run.ledger.refusals,
        "unknown": run.ledger.counts[UNKNOWN],
        "rows": run.ledger.counts["rows"],
        "recovery_s_max": round(run.slowest, 3),
    }
    finish(options, "disk_full", counts, run.violations, scratch)


if __name__ == "__main__":
    main()
