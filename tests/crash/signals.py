"""SIGTERM under load, a second server on one directory, and a clock that jumps.

    signals.py --binary target/release/peristyle --rounds 200

- SIGTERM under load, every fourth time twice: status 0 within 30 s (any status after two), and
  after the next start everything acknowledged is there once.
- A second server on the directory of a running one: refused with another status than 0, and the
  first one does not notice.
- With libfaketime (Debian: libfaketime; skipped with a word where it is not): the clock of a
  running server jumps by a day back and forth, to 1970 and to 2106. Nothing is lost, writes are
  acknowledged, and rows go on to be published by age.
"""

import random
import time
from pathlib import Path

from checker import Checker, check_totals
from ledger import ACKNOWLEDGED, UNKNOWN, Ledger, Violation
from server import END_SECONDS, Died, Server, arguments, finish, scratch_of

FAKETIME = "/usr/lib/*-linux-gnu/faketime/libfaketimeMT.so.1"
JUMPS = ("+1d", "-1d", "@1970-01-02 00:00:00", "@2106-02-08 00:00:00", "+0")
SETTINGS = {"flush_interval": "300ms", "memory_limit": "256MiB", "wal_segment_bytes": "1MiB"}


class Case:
    """A data directory with its server, its ledger and its checker."""

    def __init__(self, options, scratch, name, rows_log2=7):
        self.server = Server(options, scratch / name)
        self.ledger = Ledger(options.seed, options.clients, rows_log2=rows_log2)
        self.checker = Checker(self.server.data_dir, not options.without_log)

    def load(self):
        """Starts the clients; they go on until the server is gone."""
        return self.ledger.run(self.server.address, lambda: not self.server.is_alive())

    def check(self):
        self.server.flush()
        return self.checker.check(self.ledger)


def terminate(case, rng, rounds):
    """SIGTERM at a random time of the load, again and again; yields violations."""
    slowest = 0
    for number in range(rounds):
        case.ledger.round = number
        case.server.start(**SETTINGS)
        if number % 5 == 4:
            yield from case.check()
        threads = case.load()
        time.sleep(rng.uniform(0.05, 0.6))
        times = 2 if number % 4 == 3 else 1
        status, seconds = case.server.end(times)
        slowest = max(slowest, seconds)
        for thread in threads:
            thread.join()
        if (status != 0 and times == 1) or seconds > END_SECONDS:
            text = f"round {number}, {times} signals: status {status} after {seconds:.1f} s"
            yield Violation("end", f"{text}\n{case.server.log()}")
    case.server.start(**SETTINGS)
    yield from case.check()
    yield from check_totals(case.checker)[0]
    print(f"{rounds} times SIGTERM: {case.ledger.counts}, slowest end {slowest:.2f} s")


def second_server(case, options):
    """Another process on the directory of `case`, which is running and loaded."""
    threads = case.ledger.run(case.server.address, lambda: False, requests=200)
    second = Server(options, case.server.data_dir, f"{case.server.data_dir}-second.log")
    second.spawn(**SETTINGS)
    status, _ = second.ended(seconds=10)
    if not isinstance(status, int) or status == 0:
        yield Violation("second", f"two servers on one directory: the second one: {status}")
    for thread in threads:
        thread.join()
    if not case.server.is_alive():
        yield Violation("second", f"two servers on one directory: the first one ended: {status}")
        return
    yield from case.check()
    print(f"a second server: status {status}")


def jump(case, library, options):
    """The clock of a running server jumps under load; yields violations."""
    clock = Path(f"{case.server.data_dir}.clock")
    environment = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    for number, to in enumerate(JUMPS):
        clock.write_text("+0\n")
        case.ledger.round = f"{number} ({to})"
        case.server.spawn(environment=environment, **SETTINGS)
        case.server.wait_ready()
        threads = case.ledger.run(case.server.address, lambda: False, requests=100)
        clock.write_text(f"{to}\n")
        for thread in threads:
            thread.join()
        before = case.ledger.acknowledged_at
        files = len(list(case.server.data_dir.rglob("*.parquet")))
        for thread in case.ledger.run(case.server.address, lambda: False, requests=100):
            thread.join()
        if case.ledger.acknowledged_at == before:
            yield Violation("clock", f"{to}: nothing is acknowledged after the jump")
        patience = time.monotonic() + 10
        while len(list(case.server.data_dir.rglob("*.parquet"))) == files:
            if time.monotonic() > patience:
                yield Violation("clock", f"{to}: no file within 10 s after the jump")
                break
            time.sleep(0.05)
        yield from case.check()
        case.server.kill()
    case.server.start(**SETTINGS)
    yield from case.check()
    print(f"{len(JUMPS)} jumps of the clock: {case.ledger.counts}")


def main():
    options = arguments(__doc__, rounds=20, clients=4).parse_args()
    scratch = scratch_of(options)
    print(f"seed {options.seed}, data in {scratch}", flush=True)
    rng = random.Random(options.seed)
    case, violations, skipped = Case(options, scratch, "signals"), [], []
    clock = Case(options, scratch, "clock")
    try:
        violations += terminate(case, rng, options.rounds)
        violations += second_server(case, options)
        libraries = sorted(Path("/").glob(FAKETIME[1:]))
        if libraries:
            violations += jump(clock, libraries[0], options)
        else:
            skipped.append("clock: no libfaketime")
            print("skipped: jumps of the clock: libfaketime is not installed")
    except Died as error:
        violations.append(Violation("died", str(error)))
    for it in (case, clock):
        if it.server.process is not None:
            it.server.kill()
    counts = {
        "rounds": options.rounds,
        "acknowledged": case.ledger.counts[ACKNOWLEDGED] + clock.ledger.counts[ACKNOWLEDGED],
        "unknown": case.ledger.counts[UNKNOWN] + clock.ledger.counts[UNKNOWN],
        "rows": case.ledger.counts["rows"] + clock.ledger.counts["rows"],
        "skipped": skipped,
    }
    finish(options, "signals", counts, violations, scratch)


if __name__ == "__main__":
    main()
