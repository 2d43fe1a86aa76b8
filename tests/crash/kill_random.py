"""Kills the server at random times under load, and looks whether it kept what it acknowledged.

    kill_random.py --binary target/release/peristyle --rounds 500

A round: start, load for 0.1 to 2 s, SIGKILL; in three of ten rounds once more while it recovers.
Flushes, shards and the client's bodies vary. Every few rounds, and at the end, everything is
flushed, read and compared (checker.py says with what); at the end once more from scratch.
"""

import random
import statistics
import time

from checker import Checker, check_totals
from ledger import ACKNOWLEDGED, REFUSED, UNKNOWN, Ledger, Violation
from server import Died, Server, arguments, finish, scratch_of


def settings(options, rng):
    """What differs from start to start; small segments, so that many of them come and go."""
    return {
        "flush_interval": rng.choice(("100ms", "300ms", "300ms", "1s")),
        "flush_bytes": rng.choice(("1MiB", "4MiB")),
        "memory_limit": "256MiB",
        "shards": rng.choice((1, 2, 2, 3)),
        "wal_segment_bytes": options.segment_bytes or "1MiB",
    }


class Run:
    def __init__(self, options):
        self.options = options
        self.rng = random.Random(options.seed)
        self.scratch = scratch_of(options)
        self.server = Server(options, self.scratch / "data")
        self.ledger = Ledger(
            options.seed, options.clients, rows_log2=7, retry_share=options.retry_percent / 100
        )
        self.checker = Checker(self.server.data_dir, not options.without_log)
        self.recoveries, self.kills, self.recovery_kills, self.checks = [], 0, 0, 0
        self.violations = []

    def start(self):
        self.recoveries.append(self.server.start(**settings(self.options, self.rng)))

    def load_and_kill(self):
        """Load, killed in the middle of it."""
        threads = self.ledger.run(self.server.address, lambda: not self.server.is_alive())
        time.sleep(self.rng.uniform(0.1, self.options.load_ms / 1000))
        if not self.server.is_alive():
            raise Died(f"status {self.server.process.returncode} under load\n{self.server.log()}")
        self.server.kill()
        self.kills += 1
        for thread in threads:
            thread.join()

    def kill_in_recovery(self):
        """Starts again and kills it on the way, or soon after."""
        self.server.spawn(**settings(self.options, self.rng))
        time.sleep(self.rng.uniform(0, 1.5 * max(self.recoveries[-20:])))
        if not self.server.is_alive():
            raise Died(f"status {self.server.process.returncode} in recovery\n{self.server.log()}")
        self.server.kill()
        self.recovery_kills += 1

    def check(self):
        self.server.flush()
        self.violations += self.checker.check(self.ledger)
        self.checks += 1

    def run(self):
        for number in range(self.options.rounds):
            self.ledger.round = number
            self.start()
            if number % self.options.check_every == 0 and number:
                self.check()
                print(f"round {number}: {self.ledger.counts}, {self.kills} kills", flush=True)
                if self.violations:
                    return
            self.load_and_kill()
            if self.rng.random() < 0.3:
                self.kill_in_recovery()
        self.start()
        self.check()
        status, seconds = self.server.end()
        if status != 0:
            self.violations.append(Violation("end", f"SIGTERM: status {status}, {seconds:.1f} s"))
        wrong, self.checkpoints = check_totals(self.checker)
        self.violations += wrong


def main():
    parser = arguments(
        __doc__, rounds=20, check_every=5, clients=5, load_ms=2000, retry_percent=0
    )
    run = Run(parser.parse_args())
    print(f"seed {run.options.seed}, data in {run.scratch}", flush=True)
    try:
        run.run()
    except Died as error:
        run.violations.append(Violation("died", str(error)))
    finally:
        if run.server.process is not None:
            run.server.kill()
    counts = {
        "rounds": run.options.rounds,
        "kills": run.kills,
        "kills_in_recovery": run.recovery_kills,
        "checks": run.checks,
        "acknowledged": run.ledger.counts[ACKNOWLEDGED],
        "refused": run.ledger.counts[REFUSED],
        "unknown": run.ledger.counts[UNKNOWN],
        "rows": run.ledger.counts["rows"],
        "tables": len(run.checker.tables),
        "files": sum(len(it.seen) for it in run.checker.tables.values()),
        "recovery_s_p50": round(statistics.median(run.recoveries or [0]), 3),
        "recovery_s_max": round(max(run.recoveries, default=0), 3),
    }
    finish(run.options, "kill_random", counts, run.violations, run.scratch)


if __name__ == "__main__":
    main()
