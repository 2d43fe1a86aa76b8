"""Lets storage calls of the server fail, one after the other, and looks what it makes of it.

    disk_errors.py --binary target/release/peristyle               every call of the scenario
    disk_errors.py --binary target/release/peristyle --points 20   a sample by the seed

The scenario is nearly that of kill_points.py, one request after the other. In each run one call
fails:

    EIO      a sync or a write: the disk is broken there. When it is a sync or a write of the WAL's
             own segments, nothing is acknowledged from then on and the server ends by itself with
             another status than 0; elsewhere it may go on.
    ENOSPC   a call that needs space, and all such calls of the next second: the disk is full for
             a while. The server answers 503 and goes on by itself; only before it is ready may it
             end, and not with status 0. A sync of a segment that says so is as final as with EIO:
             what it should have written may be gone.

In all cases the next start is clean, and everything acknowledged is there once.
"""

import collections
import random
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

from checker import Checker
from kill_points import place_of, read_log, sample, send, templates
from ledger import Violation
from server import Died, arguments, finish, scratch_of
from tracer import GROWS, SYNCS, WRITES

# The file that holds records, and not a spare.
SEGMENT = re.compile(r"wal/[0-9a-f]{16}\.wal")
FULL_SECONDS = 1
RECOVERY_SECONDS = 30


class Run:
    """The scenario once, with one call that fails."""

    def __init__(self, template, name, point):
        self.template, self.name, self.point = template, name, point
        self.violations, self.hit, self.calls = [], None, []

    def __str__(self):
        at, error = self.point
        place = place_of(self.hit) if self.hit else "passed by"
        return f"{error} at {at} ({place}), in {self.name}" if at else "no error"

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
        at, error = self.point
        act = ["--at", str(at), "--do", error] if at else []
        act += ["--seconds", str(FULL_SECONDS)] if error == "ENOSPC" else []
        server.trace(log, act, **self.template.settings)
        is_ready, trouble = self.scenario(server)
        if self.final_hit(log):
            server.ended_by_itself(5)
        is_alive = server.is_alive()
        failed_before = bool(read_log(log)[1])
        status = server.end()[0]
        self.calls, done = read_log(log)
        self.hit = done[0] if done else None
        tail = f"status {status!r}, {trouble}\n{server.log()}"
        for text in self.judge(error, is_ready, is_alive, failed_before, status, log):
            self.violations.append(text._replace(text=f"{text.text}, {tail}"))
        if error == "EIO" or self.final_hit(log) or not is_alive:
            self.ledger.doubt_refusals()
        server.start(**self.template.settings)
        server.flush()
        checker = Checker(server.data_dir, not self.template.options.without_log)
        self.violations += checker.check(self.ledger)

    def final_hit(self, log):
        """The first call that failed, if the WAL cannot go on behind it. One that only names or
        makes a segment is tried again: no record is in it yet."""
        done = read_log(log)[1]
        if not done or not SEGMENT.fullmatch(done[0]["path"]):
            return None
        is_write = self.point[1] == "EIO" and done[0]["call"] in WRITES
        return done[0] if done[0]["call"] in SYNCS or is_write else None

    def is_falsely_acknowledged(self, failure):
        """Whether the last answer came behind the failure and had no sync of its own before it."""
        sent, at = self.ledger.acknowledged_sent, failure["time"]
        syncs = [it for it in self.calls if it["call"] in SYNCS and SEGMENT.fullmatch(it["path"])]
        is_synced = any(sent < it["time"] < at for it in syncs)
        return self.ledger.acknowledged_at > at and not is_synced

    def judge(self, error, is_ready, is_alive, failed_before, status, log):
        """What the process made of it; yields violations."""
        segment = self.final_hit(log)
        if not self.hit and (not is_alive or status != 0):
            yield Violation("end", "it ended though nothing failed")
        elif not is_alive and status == 0:
            yield Violation("end", "it ended by itself as if nothing was")
        elif segment:
            if self.is_falsely_acknowledged(segment):
                yield Violation("false_acknowledgement", "acknowledged after the failure")
            if (is_alive and failed_before) or status == 0:
                yield Violation("end", "expected an end by itself and another status than 0")
        elif error == "ENOSPC" and is_ready and not is_alive:
            yield Violation("end", "it ended while the disk was full")

    def scenario(self, server):
        """As far as it goes; says whether the server was ready, and what went wrong at last."""
        try:
            server.wait_ready()
        except Died as error:
            return False, error
        trouble = None
        for _ in range(2):
            send(server, self.ledger, 4)
            trouble = self.flush(server)
        send(server, self.ledger, 2)
        return True, trouble

    def flush(self, server):
        """A flush may be refused while the disk is broken or full; then it is asked again."""
        patience, trouble = time.monotonic() + RECOVERY_SECONDS, None
        while server.is_alive() and time.monotonic() < patience:
            try:
                server.flush()
                return None
            except Died as error:
                trouble = error
                time.sleep(0.1)
        if server.is_alive():
            text = f"no flush within {RECOVERY_SECONDS} s: {trouble}"
            self.violations.append(Violation("stuck", text))
        return trouble


def points_of(calls):
    for call in calls:
        if call["call"] in (*SYNCS, *WRITES):
            yield call["n"], "EIO"
        if call["call"] in GROWS:
            yield call["n"], "ENOSPC"


def main():
    options = arguments(__doc__, points=0, jobs=2).parse_args()
    scratch = scratch_of(options)
    print(f"seed {options.seed}, data in {scratch}", flush=True)
    rng = random.Random(options.seed)
    violations, points, hits = [], [], collections.Counter()
    for template in templates(options, scratch):
        profile = Run(template, f"{template.name}-profile", (0, "")).run()
        violations += profile.violations
        found = [(template, it) for it in points_of(profile.calls)]
        points += found
        print(f"{template.name}: {len(profile.calls)} calls, {len(found)} points", flush=True)
    runs = [
        Run(template, f"{template.name}-{number}", point)
        for number, (template, point) in enumerate(sample(options, rng, points))
    ]
    with ThreadPoolExecutor(options.jobs) as pool:
        for run in pool.map(Run.run, runs):
            violations += run.violations
            hits[f"{run.point[1]} {place_of(run.hit)}" if run.hit else "passed by"] += 1
    for place, count in sorted(hits.items()):
        print(f"{count:>5}  {place}")
    counts = {
        "points": len(runs),
        "of_points": len(points),
        "passed_by": hits["passed by"],
        "acknowledged": sum(it.ledger.counts["acknowledged"] for it in runs),
        "refused": sum(it.ledger.counts["refused"] for it in runs),
        "points_with_violations": sum(bool(it.violations) for it in runs),
    }
    finish(options, "disk_errors", counts, violations, scratch)


if __name__ == "__main__":
    main()
