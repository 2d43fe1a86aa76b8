#!/usr/bin/env python3
"""What durability costs: rows a second and answers' times with fsync, os and memory, in one run.

    durability.py --binary target/release/peristyle [--scratch DIR] [--rounds 5] [--gzip]
                  [--seconds 30] [--warm 25]

Each round starts a server for each level, in changing order, on a directory of --scratch: eight
connections write bodies of 1,000 lines as fast as they are answered, the first --warm seconds
uncounted (journal files are made until the first are used again, after two flush intervals), and
flush. Throughput is rows a second until
all are published: a level that answers early puts off up to ten seconds of work, which the rate
until the last answer (`answered_per_s`) leaves out. Then one connection writes a body of ten lines
now and then, and between them a file of the same disk is overwritten and synced, 4 KiB at a time,
which is what an answer must wait for at least. Every row is counted after a flush.
Prints a line for each round and one line of JSON; the ratios are medians of the rounds' ratios.
"""

import argparse
import gzip
import http.client
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import own_server

LEVELS = ["fsync", "os", "memory"]
CONNECTIONS = 8
LINES = 1_000
BODIES = 24


def bodies(rng):
    """For each connection, bodies that are all different."""
    lines = []
    for connection in range(CONNECTIONS):
        for body in range(BODIES):
            text = []
            for line in range(LINES):
                host = rng.randrange(100)
                time_ns = 1_750_000_000_000_000_000 + ((connection * BODIES + body) * LINES + line)
                text.append(
                    f"cpu,host=host_{host},region=eu-{host % 7},rack=r{host % 13} "
                    f"usage_user={rng.random() * 100:.4f},usage_system={rng.random() * 10:.4f},"
                    f"count={rng.randrange(10**6)}i,load={rng.random():.6f} {time_ns}\n"
                )
            lines.append("".join(text).encode())
    return [lines[at * BODIES : (at + 1) * BODIES] for at in range(CONNECTIONS)]


class Server(own_server.Server):
    """At a level of durability, and spoken to by one thread for each connection."""

    def __init__(self, binary, directory, level, more=()):
        super().__init__(binary, directory, ["--durability", level, *more])

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def post(self, connection, target, body):
        connection.request("POST", target, body)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status not in (200, 204):
            sys.exit(f"{answer.status}: {text!r}")
        return text


def full_speed(server, work, seconds, database, own):
    """Rows a second until all are published and until the last answer, CPU a row; all are there."""
    counts = [0] * CONNECTIONS
    end = time.monotonic() + seconds

    def send(at):
        connection = server.connect()
        while time.monotonic() < end:
            # A comment of its own: the same bytes would be known again.
            body = work[at][counts[at] % BODIES] + own(counts[at])
            server.post(connection, f"/write?db={database}", body)
            counts[at] += 1

    cpu, begin = server.cpu_seconds(), time.monotonic()
    threads = [threading.Thread(target=send, args=(at,)) for at in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answered, rows = time.monotonic() - begin, sum(counts) * LINES
    connection = server.connect()
    server.post(connection, "/api/v1/flush", b"")
    published = time.monotonic() - begin
    cpu = server.cpu_seconds() - cpu
    connection.request("GET", "/api/v1/tables")
    tables = json.loads(connection.getresponse().read())
    ours = [it for it in tables["databases"] if it["name"] == database]
    stored = sum(it["rows"] for db in ours for it in db["measurements"])
    if stored != rows:
        sys.exit(f"{rows} rows were acknowledged, {stored} are there")
    return rows / published, rows / answered, cpu / rows * 1e6


def quiet(server, directory, rng, seconds):
    """Milliseconds of answers, and of the disk's own syncs between them."""
    connection, answers, syncs = server.connect(), [], []
    path = directory / "probe"
    with open(path, "wb") as file:
        file.write(bytes(16 << 20))
        os.fsync(file.fileno())
    descriptor = os.open(path, os.O_WRONLY)
    block, count, end = os.urandom(4096), 0, time.monotonic() + seconds
    while time.monotonic() < end:
        text = "".join(f"ping v={rng.random()} {count * 10 + at}\n" for at in range(10)).encode()
        begin = time.monotonic()
        server.post(connection, "/write?db=quiet", text)
        answers.append((time.monotonic() - begin) * 1e3)
        begin = time.monotonic()
        os.pwrite(descriptor, block, count % 4096 * 4096)
        os.fdatasync(descriptor)
        syncs.append((time.monotonic() - begin) * 1e3)
        count += 1
    os.close(descriptor)
    path.unlink()
    return answers, syncs


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--scratch", default=tempfile.gettempdir())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--warm", type=float, default=25)
    parser.add_argument("--levels", default=",".join(LEVELS), help="of fsync,os,memory")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--gzip", action="store_true", help="as Telegraf sends them")
    options = parser.parse_args()
    chosen = options.levels.split(",")
    if not set(chosen) <= set(LEVELS) or not {"fsync", "memory"} <= set(chosen):
        parser.error("--levels needs fsync and memory at least")
    rng = random.Random(options.seed)
    work = bodies(rng)
    own = b"# %d\n".__mod__
    if options.gzip:
        work = [[gzip.compress(body, 6) for body in connection] for connection in work]
        own = lambda count: gzip.compress(b"# %d\n" % count)  # noqa: E731
    names = ("rows_per_s", "answered_per_s", "cpu_us_per_row")
    figures = {level: {name: [] for name in names} for level in chosen}
    answers = {level: [] for level in chosen}
    syncs = []
    for turn in range(options.rounds):
        first = turn % len(chosen)
        for level in chosen[first:] + chosen[:first]:
            directory = Path(tempfile.mkdtemp(prefix="peristyle-perf-", dir=options.scratch))
            server = Server(options.binary, directory / "data", level)
            full_speed(server, work, options.warm, "warm", own)
            found = full_speed(server, work, options.seconds, "d", own)
            for name, figure in zip(names, found):
                figures[level][name].append(figure)
            rows, answered, cpu = found
            times, own_syncs = quiet(server, directory, rng, min(options.seconds / 2, 5))
            answers[level] += times
            syncs += own_syncs
            server.stop()
            shutil.rmtree(directory)
            print(f"round {turn} {level:7} {rows / 1e6:.3f} M rows/s, "
                  f"{answered / 1e6:.3f} M answered, {cpu:.2f} us of CPU a row, "
                  f"answers p50 {percentile(times, 0.5):.2f} p99 {percentile(times, 0.99):.2f} ms",
                  flush=True)
    def against_memory(name):
        memory = figures["memory"][name]
        ratios = {level: [one / base for one, base in zip(figures[level][name], memory)]
                  for level in chosen}
        return {level: round(statistics.median(it), 3) for level, it in ratios.items()}

    print(json.dumps({
        "script": "durability",
        "encoding": "gzip" if options.gzip else "plain",
        "seconds": {"warm": options.warm, "counted": options.seconds},
        **{
            name: {level: round(statistics.median(it[name]), 3) for level, it in figures.items()}
            for name in names
        },
        "against_memory": against_memory("rows_per_s"),
        "answered_against_memory": against_memory("answered_per_s"),
        "answer_ms_p50": {level: round(percentile(it, 0.5), 3) for level, it in answers.items()},
        "answer_ms_p99": {level: round(percentile(it, 0.99), 3) for level, it in answers.items()},
        "fdatasync_ms_p50": round(percentile(syncs, 0.5), 3),
        "fdatasync_ms_p99": round(percentile(syncs, 0.99), 3),
        "p99_against_fdatasync": round(
            percentile(answers["fsync"], 0.99) / percentile(syncs, 0.99), 2
        ),
    }))


if __name__ == "__main__":
    main()
