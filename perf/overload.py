#!/usr/bin/env python3
"""Five times what a server takes, from ten tenants of which one is greedy.

    overload.py --binary target/release/peristyle [--seconds 600] [--memory-limit 256]

The server has the first half of the cores and the clients the other, as if they had machines of
their own. Ten tokens, a database each; bodies of 2,500 lines whose rows carry the number of their
body. Five phases: *peak*, one connection for each tenant, as fast as answers come; *normal*, the
nine polite tenants at a quarter of their fair share, a tenth of the peak; *overload* for --seconds,
the polite ones at all of it and the greedy one at 4.1 times the peak, by many connections that go
on at once when they are refused, in a process of lower priority; *recovery*, as normal; and *peak*
again, because a shared machine is not the same ten minutes later: the mean of the two counts.
Bodies are offered by the clock: one that finds all its tenant's connections busy counts as offered.
A polite tenant has more connections than its rate takes, so that they are not what limits it. A
polite client that is refused repeats its body after a tenth of a second; the greedy one goes on
with the next.

Then every row is read back by DuckDB: of each acknowledged body all rows, once; of each refused
one none; of one without an answer all or none. Bounds: goodput at least 90 % of the peak, each
polite tenant at least 90 % of its fair share, no 503 and the normal p99 again within 10 s, memory
at most the limit and 15 %. Prints one line of JSON; the status is 1 where a bound is broken.
Needs duckdb (tests/clients/requirements.txt).
"""

import argparse
import asyncio
import collections
import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import own_server
from own_server import CORES, exchange, is_last, number_of

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "clients"))

TENANTS = 10
GREEDY = 0
POLITE_CONNECTIONS = 16
LINES = 2_500
# Digits that stand where the number of the body will.
NUMBER = b"7000000000"


def template(tenant):
    rng = random.Random(tenant)
    return b"".join(
        b"cpu,host=h%03d,region=eu-%d id=%si,line=%di,user=%.4f,system=%.4f,load=%.6f,count=%di"
        b" 17500300%s000000\n"
        % (at, at % 7, NUMBER, at, rng.random() * 100, rng.random() * 10, rng.random(),
           rng.randrange(10**6), b"%05d" % at)
        for at in range(LINES)
    )


class Server(own_server.Server):
    """With a token for each tenant."""

    def __init__(self, binary, directory, options):
        self.secrets = [
            subprocess.run(
                [binary, "token", "create", "--allow", "write,read", "--database", f"t{at}",
                 "--data-dir", str(directory), f"t{at}"],
                check=True, capture_output=True, text=True,
            ).stdout.split()[-1]
            for at in range(TENANTS)
        ]
        super().__init__(binary, directory, options, lambda: os.sched_setaffinity(0, CORES[0]))


class Tenant:
    """What one tenant offers in one phase. `rate`: bodies a second; None: as fast as answered."""

    def __init__(self, number, port, secret, first, rate, connections, sink):
        self.number, self.port, self.rate, self.sink = number, port, rate, sink
        self.connections, self.next = connections, first
        self.begin = self.end = 0.0
        self.head = (
            f"POST /write?db=t{number} HTTP/1.1\r\nHost: a\r\n"
            f"Authorization: Bearer {secret}\r\nContent-Length: "
        ).encode()
        self.template = template(number)

    def due(self):
        if self.rate is None:
            return None
        return self.begin + (self.next - self.sink["first"]) / self.rate

    async def run(self, seconds):
        self.begin = time.monotonic()
        self.end = self.begin + seconds
        self.sink["first"] = self.next
        await asyncio.gather(*(self.send() for _ in range(self.connections)))
        taken = self.next - self.sink["first"]
        self.sink["offered"] = taken if self.rate is None else max(taken, seconds * self.rate)

    async def send(self):
        reader = writer = None
        while True:
            due, now = self.due(), time.monotonic()
            number = self.next
            self.next += 1
            if due is not None and due > now:
                await asyncio.sleep(min(due, self.end) - now)
            if max(due or 0, time.monotonic()) >= self.end:
                break
            body = self.template.replace(NUMBER, b"7%09d" % number)
            request = self.head + b"%d\r\n\r\n" % len(body) + body
            while True:
                sent = time.monotonic()
                try:
                    if writer is None or writer.is_closing():
                        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    status, head, text = await exchange(reader, writer, request)
                    retry = number_of(head, b"retry-after") or 0
                    if is_last(head):
                        writer.close()
                except (OSError, asyncio.IncompleteReadError):
                    status, retry, text, writer = 0, 0, b"", None
                now = time.monotonic()
                self.sink["answers"].append((now, status, (now - sent) * 1e3, retry))
                if status == 204:
                    self.sink["stored"].append(number)
                elif status == 0:
                    self.sink["unknown"].append(number)
                elif status != 503:
                    self.sink["other"].append(f"{status} {text[:200]!r}")
                if status == 503 and self.number != GREEDY and now < self.end:
                    await asyncio.sleep(0.1)
                    continue
                break
        if writer is not None:
            writer.close()


def offer(port, secrets, jobs, seconds, pipe):
    """One process: the tenants of `jobs`, each a number, first body, rate and connections."""
    sinks = {}

    async def run():
        tenants = []
        for number, first, rate, connections in jobs:
            sink = {"answers": [], "stored": [], "unknown": [], "other": [], "offered": 0}
            sinks[number] = sink
            tenants.append(
                Tenant(number, port, secrets[number], first, rate, connections, sink)
            )
        await asyncio.gather(*(it.run(seconds) for it in tenants))
        for tenant in tenants:
            sinks[tenant.number]["next"] = tenant.next

    os.sched_setaffinity(0, CORES[1])
    if any(number == GREEDY and rate for number, _, rate, _ in jobs):
        # Clients have machines of their own: what it takes to be greedy is not taken from others.
        os.nice(10)
    asyncio.run(run())
    pipe.send(sinks)


class Run:
    def __init__(self, server):
        self.server, self.first = server, [0] * TENANTS
        # Of the last phase, in cores.
        self.busy = 0.0
        self.stored = collections.defaultdict(set)
        self.unknown = collections.defaultdict(set)
        self.other = []

    def phase(self, seconds, plans):
        """`plans`: for each process its tenants, as (number, rate, connections)."""
        workers = []
        begin, cpu = time.monotonic(), self.server.cpu_seconds()
        for plan in plans:
            receiver, sender = multiprocessing.Pipe(duplex=False)
            jobs = [(at, self.first[at], rate, connections) for at, rate, connections in plan]
            worker = multiprocessing.Process(
                target=offer, args=(self.server.port, self.server.secrets, jobs, seconds, sender)
            )
            worker.start()
            workers.append((worker, receiver))
        sinks = {}
        for worker, receiver in workers:
            sinks |= receiver.recv()
            worker.join()
        self.busy = (self.server.cpu_seconds() - cpu) / (time.monotonic() - begin)
        for number, sink in sinks.items():
            self.first[number] = sink["next"]
            self.stored[number].update(sink["stored"])
            self.unknown[number].update(sink["unknown"])
            self.other += sink["other"]
        return begin, time.monotonic() - begin, sinks


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else 0.0


def verify(data_dir, run):
    """Bodies of which rows are missing, doubled, or there though they were refused."""
    import duckdb
    from segments import directory_of, glob_of

    lost = doubled = unasked = rows = 0
    for number in range(TENANTS):
        glob = glob_of(directory_of(data_dir, f"t{number}", "cpu"))
        found = duckdb.sql(
            "SELECT id - 7000000000, count(*), count(DISTINCT line) FROM"
            f" read_parquet('{glob}', union_by_name=true) GROUP BY 1"
        ).fetchall()
        stored, unknown = run.stored[number], run.unknown[number]
        seen = set()
        for body, count, distinct in found:
            seen.add(body)
            rows += count
            lost += distinct < LINES
            doubled += count > distinct
            unasked += body not in stored and body not in unknown
        lost += len(stored - seen)
    return {"rows": rows, "bodies_lost": lost, "bodies_doubled": doubled,
            "bodies_refused_but_stored": unasked}


def recovery_s(begin, answers, p99_normal):
    """Seconds until from there on nothing is refused and each second's p99 is as it was."""
    windows = collections.defaultdict(list)
    for at, status, ms, _ in answers:
        windows[int(at - begin)].append((status, ms))
    recovered = 0
    for window, found in sorted(windows.items()):
        is_slow = percentile([ms for _, ms in found], 0.99) > 2 * p99_normal
        if is_slow or any(status != 204 for status, _ in found):
            recovered = window + 1
    return recovered


def measure(options, server, data_dir):
    run = Run(server)
    every = range(TENANTS)
    warm = options.phase_seconds
    # What the first files and journal segments cost is not counted.
    run.phase(warm / 2, [[(at, None, 1) for at in every]])
    peaks, busy = [], []

    def full_speed():
        _, seconds, sinks = run.phase(warm, [[(at, None, 1) for at in every]])
        peaks.append(sum(len(it["stored"]) for it in sinks.values()) / seconds)
        busy.append(run.busy)

    full_speed()
    rate = peaks[0] / TENANTS
    polite = [at for at in every if at != GREEDY]
    light = [[(at, rate / 4, 2) for at in polite]]
    _, _, sinks = run.phase(warm, light)
    normal = [ms for it in sinks.values() for _, _, ms, _ in it["answers"]]
    # A second's p99 is of few answers: what it came to at most, not what all came to.
    begin = min(it["answers"][0][0] for it in sinks.values())
    seconds_of = collections.defaultdict(list)
    for sink in sinks.values():
        for at, _, ms, _ in sink["answers"]:
            seconds_of[int(at - begin)].append(ms)
    p99_normal = max(percentile(it, 0.99) for it in seconds_of.values())

    _, seconds, sinks = run.phase(options.seconds, [
        [(at, rate, POLITE_CONNECTIONS) for at in polite],
        [(GREEDY, 4.1 * peaks[0], options.connections)],
    ])
    busy.append(run.busy)
    stored = {at: len(sinks[at]["stored"]) / seconds for at in every}
    statuses = collections.Counter(
        status for it in sinks.values() for _, status, _, _ in it["answers"]
    )
    retries = [retry for it in sinks.values() for *_, status, _, retry in it["answers"] if retry]
    offered = sum(it["offered"] for it in sinks.values()) / seconds
    waits = [ms for at in polite for _, _, ms, _ in sinks[at]["answers"]]

    begin, _, sinks = run.phase(20, light)
    after = [it for sink in sinks.values() for it in sink["answers"]]
    full_speed()
    peak = sum(peaks) / 2
    fair = peak / TENANTS
    rss = server.rss_mib()
    server.stop()
    found = verify(data_dir, run)
    return {
        "script": "overload",
        "memory_limit_mib": options.memory_limit,
        "seconds": options.seconds,
        "peak_bodies_per_s": [round(it, 1) for it in peaks],
        "peak_rows_per_s": round(peak * LINES),
        "server_cores": [round(it, 2) for it in busy],
        "offered_of_peak": round(offered / peak, 2),
        "goodput_of_peak": round(sum(stored.values()) / peak, 3),
        # Of what it may have: its fair share, or what it offers where that is less.
        "polite_share_min": round(min(stored[at] for at in polite) / min(rate, fair), 3),
        "greedy_share": round(stored[GREEDY] / fair, 2),
        "answers": {str(status): count for status, count in sorted(statuses.items())},
        "retry_after_s": [min(retries), max(retries)] if retries else [],
        "polite_answer_ms": [round(percentile(waits, it), 1) for it in (0.5, 0.99)],
        "normal_answer_ms": [round(percentile(normal, it), 1) for it in (0.5, 0.99)],
        "after_answer_ms": [
            round(percentile([ms for _, _, ms, _ in after], it), 1) for it in (0.5, 0.99)
        ],
        "recovery_s": recovery_s(begin, after, p99_normal),
        "rss_mib": round(rss, 1),
        "rss_of_limit": round(rss / options.memory_limit, 3),
        "other_answers": len(run.other),
        "unanswered": sum(map(len, run.unknown.values())),
        **found,
    }


def broken(figures):
    for name, holds in {
        "nothing acknowledged is lost": not figures["bodies_lost"],
        "nothing is doubled": not figures["bodies_doubled"],
        "nothing refused is stored": not figures["bodies_refused_but_stored"],
        "every answer is 204 or 503": not figures["other_answers"] and not figures["unanswered"],
        "it is an overload": figures["offered_of_peak"] >= 4.5,
        "goodput is 90 % of the peak": figures["goodput_of_peak"] >= 0.9,
        "a polite tenant gets 90 % of its share": figures["polite_share_min"] >= 0.9,
        "it recovers within 10 s": figures["recovery_s"] <= 10,
        "memory is below the limit and 15 %": figures["rss_of_limit"] <= 1.15,
    }.items():
        if not holds:
            yield name


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--scratch", default=tempfile.gettempdir())
    parser.add_argument("--seconds", type=float, default=600, help="of overload")
    parser.add_argument("--phase-seconds", type=float, default=20, help="of peak and normal each")
    parser.add_argument("--memory-limit", type=int, default=256, help="MiB")
    parser.add_argument("--connections", type=int, default=256, help="of the greedy tenant")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="peristyle-perf-", dir=options.scratch))
    data_dir = directory / "data"
    settings = ["--memory-limit", f"{options.memory_limit}MiB", "--flush-interval", "2s"]
    # All clients are of one address.
    settings += ["--max-connections-per-address", "512"]
    server = Server(options.binary, data_dir, settings)
    try:
        figures = measure(options, server, data_dir)
    finally:
        if server.process.poll() is None:
            server.process.kill()
        shutil.rmtree(directory)
    failures = list(broken(figures))
    print(json.dumps({**figures, "cores": os.cpu_count(), "broken": failures}))
    if failures:
        sys.exit(1)


if __name__ == "__main__":
    main()
