"""Kills the server at every storage call of a fixed scenario, and again while it recovers.

    kill_points.py --binary target/release/peristyle              every point, some 20 minutes
    kill_points.py --binary target/release/peristyle --points 40  a sample by the seed

The scenario: start, requests one by one, a flush, requests all at once beside a second flush,
SIGTERM. It begins with no directory at all, and then with one whose server was killed with
published and unpublished rows, so that the start is a recovery. Each is run once to number its
storage calls (tracer.py), then once for each *point*, each time on a copy:

    before n   killed before call n                every call
    after n    killed when call n is done          syncs, renames, links, unlinks
    torn n     killed when half of it is written   writes

Half of them are killed again at a random call of the recovery that follows. At last the server
starts in peace, flushes, and everything is compared (checker.py).

Threads run as they like, so that call n is not always the same one; the counts by call and
directory say what was hit. A run that ends before its point is checked and counted as `passed by`.
"""

import collections
import copy
import json
import random
import re
import shutil
from concurrent.futures import ThreadPoolExecutor

from checker import Checker
from ledger import TARGETS, Ledger, Violation
from server import Died, Server, arguments, finish, scratch_of
from tracer import SYNCS, WRITES

# A flush comes only when it is asked for; segments are small, so that they are recycled.
SETTINGS = {"flush_interval": "1h", "memory_limit": "256MiB", "shards": 2}
SEGMENT_BYTES = "64KiB"
SYNCED = (*SYNCS, *"rename renameat renameat2 link linkat unlink unlinkat".split())
KILLED = 128 + 9


def send(server, ledger, requests):
    """So many requests of every client, one client after the other."""
    for client in ledger.clients:
        client.run(server.address, lambda: not server.is_alive(), requests)


def read_log(path):
    """The calls, and what was done to them."""
    if not path.exists():
        return [], []
    with open(path, encoding="utf-8") as lines:
        # The last line may be cut off: the tracer may have been killed.
        records = [json.loads(it) for it in lines if it.endswith("\n")]
    return [it for it in records if "n" in it], [it for it in records if "done" in it]


def place_of(call):
    """A call by its kind of file: `fdatasync wal/*.wal`, `linkat alpha/cpu/_delta_log/*.json`."""
    path = re.sub(r"date=[0-9-]+", "date=*", call["path"])
    path = re.sub(r"(?<=/)[^/]*?(\.[a-z]+(\.tmp)?)?$", r"*\1", path)
    return f"{call['call']} {re.sub('^tables/[^/]+/[^/]+', 'tables/*/*', path)}"


class Template:
    """What every run of the scenario begins with: nothing, or what a kill left."""

    def __init__(self, options, scratch, name):
        self.options, self.scratch, self.name = options, scratch, name
        self.data_dir = scratch / name
        self.settings = SETTINGS | {"wal_segment_bytes": options.segment_bytes or SEGMENT_BYTES}
        # Two measurements of one database: a request spans both, a cycle stays short.
        targets = TARGETS[:2]
        self.ledger = Ledger(
            options.seed, 2, targets, rows_log2=7, widen_share=0.1, large_share=0.15
        )

    def fill(self):
        """Published rows, unpublished rows, and an end without a word."""
        server = Server(self.options, self.data_dir)
        server.start(**self.settings)
        send(server, self.ledger, 10)
        server.flush()
        send(server, self.ledger, 10)
        server.kill()
        return self

    def copy(self, name):
        """A server on a directory of its own, and the ledger so far."""
        server = Server(self.options, self.scratch / name)
        if self.data_dir.exists():
            shutil.copytree(self.data_dir, server.data_dir)
        return server, copy.deepcopy(self.ledger)


def templates(options, scratch):
    return [Template(options, scratch, "empty"), Template(options, scratch, "killed").fill()]


def sample(options, rng, points):
    """One point from each stretch: starts, flushes and ends are all in it."""
    if not 0 < options.points < len(points):
        return points
    stretch = len(points) / options.points
    return [points[int((it + rng.random()) * stretch)] for it in range(options.points)]


def scenario(server, ledger, ready=lambda: None):
    """Recovery, load, flush, load and flush, end. Returns the status, whatever ended it."""
    threads = []
    try:
        server.wait_ready()
        ready()
        send(server, ledger, 4)
        server.flush()
        threads = ledger.run(server.address, lambda: not server.is_alive(), 8)
        server.flush()
        for thread in threads:
            thread.join()
        return server.end()[0]
    except Died:
        for thread in threads:
            thread.join()
        return server.ended()[0]


class Run:
    """The scenario once, ended at one point."""

    def __init__(self, template, name, point, again=0):
        self.template, self.name, self.point, self.again = template, name, point, again
        self.violations, self.hit, self.is_hit_again = [], None, False
        self.calls, self.recovery_calls = [], 0

    def act(self, at, do):
        return ["--at", str(at), "--do", do] if at else []

    def run(self):
        server, self.ledger = self.template.copy(self.name)
        log = self.template.scratch / f"{self.name}.calls"
        try:
            self.attempt(server, log)
        except Died as error:
            self.violations.append(Violation("died", str(error)))
        finally:
            server.kill()
        self.violations = [it._replace(text=f"{self}: {it.text}") for it in self.violations]
        if not self.violations:
            shutil.rmtree(server.data_dir)
            log.unlink()
            server.log_path.unlink()
        return self

    def attempt(self, server, log):
        def ready():
            self.recovery_calls = len(read_log(log)[0])

        server.trace(log, self.act(*self.point), **self.template.settings)
        status = scenario(server, self.ledger, ready)
        self.calls, done = read_log(log)
        self.hit = done[0] if done else None
        if status != (KILLED if done else 0):
            text = f"status {status!r}\n{server.log()}"
            self.violations.append(Violation("end", text))
        if self.again:
            server.trace(log, self.act(self.again, "before"), **self.template.settings)
            try:
                server.wait_ready()
            except Died:
                if server.ended()[0] != KILLED:
                    raise
            server.kill()
            self.is_hit_again = bool(read_log(log)[1])
        server.start(**self.template.settings)
        server.flush()
        checker = Checker(server.data_dir, not self.template.options.without_log)
        self.violations += checker.check(self.ledger)

    def __str__(self):
        at, do = self.point
        if not at:
            return "not killed"
        place = place_of(self.hit) if self.hit else "passed by"
        again = f", then before call {self.again} of recovery" if self.again else ""
        return f"{do} {at} ({place}){again}, in {self.name}"


def points_of(calls):
    """Every way to end the scenario at one of its calls."""
    for call in calls:
        yield call["n"], "before"
        if call["call"] in SYNCED:
            yield call["n"], "after"
        if call["call"] in WRITES:
            yield call["n"], "torn"


def main():
    options = arguments(__doc__, points=0, jobs=2).parse_args()
    scratch = scratch_of(options)
    print(f"seed {options.seed}, data in {scratch}", flush=True)
    rng = random.Random(options.seed)
    violations, points, calls = [], [], {}
    for template in templates(options, scratch):
        profile = Run(template, f"{template.name}-profile", (0, "")).run()
        violations += profile.violations
        calls[template.name] = len(profile.calls)
        starting = profile.recovery_calls
        found = [(template, it, starting) for it in points_of(profile.calls)]
        points += found
        print(f"{template.name}: {len(profile.calls)} calls, {starting} until it is ready;", end="")
        print(f" {len(found)} points", flush=True)
    runs = []
    for number, (template, point, starting) in enumerate(sample(options, rng, points)):
        again = rng.randint(1, starting) if starting and rng.random() < 0.5 else 0
        runs.append(Run(template, f"{template.name}-{number}", point, again))
    hits = collections.Counter()
    with ThreadPoolExecutor(options.jobs) as pool:
        for number, run in enumerate(pool.map(Run.run, runs), 1):
            violations += run.violations
            hits[f"{run.point[1]} {place_of(run.hit)}" if run.hit else "passed by"] += 1
            if number % 100 == 0:
                print(f"{number} points, {len(violations)} violations", flush=True)
    for place, count in sorted(hits.items()):
        print(f"{count:>5}  {place}")
    counts = {
        "calls": calls,
        "points": len(runs),
        "of_points": len(points),
        "passed_by": hits["passed by"],
        "killed_again_in_recovery": sum(it.is_hit_again for it in runs),
        "acknowledged": sum(it.ledger.counts["acknowledged"] for it in runs),
        "unknown": sum(it.ledger.counts["unknown"] for it in runs),
        "points_with_violations": sum(bool(it.violations) for it in runs),
    }
    finish(options, "kill_points", counts, violations, scratch)


if __name__ == "__main__":
    main()
