#!/usr/bin/env python3
"""What durability costs: rows a second and answers' times with fsync, os and memory, in one run.

    durability.py --binary target/release/peristyle [--shape tsbs|small] [--scratch DIR]
                  [--rounds 15] [--gzip] [--seconds 8] [--warm 25]

The shape is that of TSBS' `cpu-only` (10 tags, 10 integers, 350 bytes a line), or lines of a third
of that: 3 tags and 4 fields.

A server of each level is started on a directory of --scratch and takes --warm seconds of load
uncounted: journal files are made until the first are used again, after two flush intervals. Then
each round gives each level, in changing order, --seconds of eight connections that write bodies of
1,000 lines as fast as they are answered, and a flush: what the machine does beside comes to both.
Throughput is rows a second until all are published: a level that answers early puts off up to ten
seconds of work, which the rate until the last answer (`answered_per_s`) leaves out. Then one
connection writes a body of ten lines now and then, and between them a file of the same disk is
overwritten and synced, 4 KiB at a time, which is what an answer must wait for at least. Every row
is counted after a flush. Prints a line for each round and one line of JSON; the ratios are medians
of the rounds' ratios.
"""

import argparse
import gzip
import http.client
import json
import os
import random
import shutil
import socket
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


def small_line(rng, time_ns):
    host = rng.randrange(100)
    return (
        f"cpu,host=host_{host},region=eu-{host % 7},rack=r{host % 13} "
        f"usage_user={rng.random() * 100:.4f},usage_system={rng.random() * 10:.4f},"
        f"count={rng.randrange(10**6)}i,load={rng.random():.6f} {time_ns}\n"
    )


TSBS_FIELDS = [
    f"usage_{it}"
    for it in "user system idle nice iowait irq softirq steal guest guest_nice".split()
]


def tsbs_line(rng, time_ns):
    host = rng.randrange(100)
    region = ["eu-west-1", "us-east-1", "sa-east-1"][host % 3]
    fields = ",".join(f"{name}={rng.randrange(100)}i" for name in TSBS_FIELDS)
    return (
        f"cpu,hostname=host_{host},region={region},datacenter={region}{'abc'[host % 3]},"
        f"rack={host % 97},os=Ubuntu16.04LTS,arch=x64,team={['NYC', 'SF', 'LON'][host % 3]},"
        f"service={host % 19},service_version={host % 2},service_environment=production "
        f"{fields} {time_ns}\n"
    )


SHAPES = {"tsbs": tsbs_line, "small": small_line}


def bodies(rng, line):
    """For each connection, bodies that are all different."""
    first, count = 1_750_000_000_000_000_000, CONNECTIONS * BODIES
    texts = [
        "".join(line(rng, first + body * LINES + at) for at in range(LINES)).encode()
        for body in range(count)
    ]
    return [texts[at : at + BODIES] for at in range(0, count, BODIES)]


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
    """Milliseconds of answers, and of the disk's own syncs between them.

    By a socket alone: what a client takes to make and to read messages is not the server's.
    """
    connection, answers, syncs = socket.create_connection(("127.0.0.1", server.port)), [], []
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    path = directory / "probe"
    with open(path, "wb") as file:
        file.write(bytes(16 << 20))
        os.fsync(file.fileno())
    descriptor = os.open(path, os.O_WRONLY)
    block, count, end = os.urandom(4096), 0, time.monotonic() + seconds
    while time.monotonic() < end:
        text = "".join(f"ping v={rng.random()} {count * 10 + at}\n" for at in range(10)).encode()
        request = own_server.post("/write?db=quiet", text)
        begin = time.monotonic()
        connection.sendall(request)
        answer = connection.recv(4096)
        answers.append((time.monotonic() - begin) * 1e3)
        if not (answer.startswith(b"HTTP/1.1 204 ") and answer.endswith(b"\r\n\r\n")):
            sys.exit(f"expected a 204, got {answer!r}")
        begin = time.monotonic()
        os.pwrite(descriptor, block, count % 4096 * 4096)
        os.fdatasync(descriptor)
        syncs.append((time.monotonic() - begin) * 1e3)
        count += 1
    connection.close()
    os.close(descriptor)
    path.unlink()
    return answers, syncs


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--shape", choices=SHAPES, default="tsbs")
    parser.add_argument("--scratch", default=tempfile.gettempdir())
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--warm", type=float, default=25)
    parser.add_argument("--levels", default=",".join(LEVELS), help="of fsync,os,memory")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--gzip", action="store_true", help="as Telegraf sends them")
    options = parser.parse_args()
    chosen = options.levels.split(",")
    if not set(chosen) <= set(LEVELS) or not {"fsync", "memory"} <= set(chosen):
        parser.error("--levels needs fsync and memory at least")
    rng = random.Random(options.seed)
    work = bodies(rng, SHAPES[options.shape])
    own = b"# %d\n".__mod__
    if options.gzip:
        work = [[gzip.compress(body, 6) for body in connection] for connection in work]
        own = lambda count: gzip.compress(b"# %d\n" % count)  # noqa: E731
    names = ("rows_per_s", "answered_per_s", "cpu_us_per_row")
    figures = {level: {name: [] for name in names} for level in chosen}
    answers, syncs = {}, {}
    directory = Path(tempfile.mkdtemp(prefix="peristyle-perf-", dir=options.scratch))
    servers = {level: Server(options.binary, directory / level, level) for level in chosen}
    for server in servers.values():
        full_speed(server, work, options.warm, "warm", own)
    for turn in range(options.rounds):
        first = turn % len(chosen)
        line = [f"round {turn:2}"]
        for level in chosen[first:] + chosen[:first]:
            found = full_speed(servers[level], work, options.seconds, f"d{turn}", own)
            for name, figure in zip(names, found):
                figures[level][name].append(figure)
            rows, answered, cpu = found
            line.append(f"{level} {rows / 1e6:.3f} M rows/s, {answered / 1e6:.3f} M answered, "
                        f"{cpu:.2f} us of CPU a row")
        print("; ".join(line), flush=True)
    for level, server in servers.items():
        # Files of the journal that are not kept are removed first.
        quiet(server, directory, rng, 5)
        answers[level], syncs[level] = quiet(server, directory, rng, 15)
        server.stop()
    shutil.rmtree(directory)

    def against_memory(name):
        memory = figures["memory"][name]
        ratios = {level: [one / base for one, base in zip(figures[level][name], memory)]
                  for level in chosen}
        return {level: round(statistics.median(it), 3) for level, it in ratios.items()}

    print(json.dumps({
        "script": "durability",
        "shape": options.shape,
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
        "fdatasync_ms_p50": round(percentile(syncs["fsync"], 0.5), 3),
        "fdatasync_ms_p99": round(percentile(syncs["fsync"], 0.99), 3),
        "p99_against_fdatasync": round(
            percentile(answers["fsync"], 0.99) / percentile(syncs["fsync"], 0.99), 2
        ),
    }))


if __name__ == "__main__":
    main()
