#!/usr/bin/env python3
"""What slow connections cost those who use theirs: good traffic alone, then beside thousands.

    slow_clients.py --binary target/release/peristyle [--connections 10000] [--descriptors 1024]

Good traffic is four connections that write a body of ten lines every 20 ms each, and one that is
made anew for each body. First alone; then a quarter each of the slow connections sends nothing, one
byte of a head in 10 s, half a body, and half a TLS hello (to a second server that speaks TLS, with
--tls-cert and --tls-key; bytes that are no HTTP otherwise). Counts how long the server lets each of
them hold on: at most 35 s. --descriptors limits the server's own. Good traffic is a process of its
own, so that it does not wait for the slow ones. Every good body must be
stored. --first has server and good traffic scheduled before all else. Prints one line of JSON.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import re
import resource
import shutil
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from own_server import Server, exchange, post

KINDS = ["silent", "byte_in_10_s", "half_body", "half_hello"]
HALF_BODY = b"POST /write?db=slow HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nm v=1\n"
HALF_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32)
# A loopback address has some 28,000 ports; each of these is an address of its own.
SOURCES = [f"127.0.0.{at}" for at in range(2, 6)]


def go_first():
    """Before all else on the machine, as if the slow clients were on another one."""
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def own_limits(descriptors, is_first):
    """What a server does to itself before it begins."""
    if is_first:
        go_first()
    if descriptors:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))


class Good:
    """Traffic that must not notice: when each answer came, and after how many milliseconds."""

    def __init__(self, port):
        self.port, self.answers, self.bodies, self.refused = port, [], 0, 0

    async def run(self, over):
        await asyncio.gather(*(self.send(it, over, keeps=it > 0) for it in range(5)))

    async def send(self, number, over, keeps):
        reader = writer = None
        while not over.is_set():
            begin = time.monotonic()
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                count = self.bodies * 10
                text = "".join(f"good,s={number} v={count + at}i\n" for at in range(10))
                request = post("/write?db=good", text.encode())
                status, _, _ = await exchange(reader, writer, request)
            except (OSError, asyncio.IncompleteReadError):
                # Turned away; a body that was sent whole and not answered may be stored.
                status = 0
            if status == 204:
                self.bodies += 1
                now = time.monotonic()
                self.answers.append((now, (now - begin) * 1e3))
            else:
                self.refused += 1
            if not keeps or status != 204:
                if writer is not None:
                    writer.close()
                reader = writer = None
            await asyncio.sleep(0.02)


def good_traffic(port, over, results, is_first):
    if is_first:
        go_first()
    good = Good(port)
    asyncio.run(good.run(over))
    results.send((good.answers, good.bodies, good.refused))


class Slow:
    """Connections that hold on as long as they can."""

    def __init__(self):
        self.open, self.ended, self.begin = 0, 0, time.monotonic()
        self.last_s = {kind: 0.0 for kind in KINDS}

    async def hold(self, port, kind, source):
        try:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, local_addr=(source, 0)
            )
        except OSError:
            self.ended += 1
            return
        self.open += 1
        accepted = time.monotonic()
        task = None
        try:
            if kind == "half_body":
                writer.write(HALF_BODY)
            elif kind == "half_hello":
                writer.write(HALF_HELLO)
            elif kind == "byte_in_10_s":
                task = asyncio.create_task(self.drip(writer))
            while await reader.read(4096):
                pass
        except OSError:
            pass
        finally:
            if task:
                task.cancel()
            writer.close()
        self.ended += 1
        self.last_s[kind] = max(self.last_s[kind], time.monotonic() - accepted)

    async def drip(self, writer):
        for byte in b"POST /write HTTP/1.1\r\nHost: a\r\nX-Slow: " + b"a" * 1000:
            writer.write(bytes([byte]))
            await asyncio.sleep(10)


def percentile(values, share):
    return round(sorted(values)[min(len(values) - 1, int(len(values) * share))], 3)


async def measure(options, server, tls):
    over, (results, sender) = multiprocessing.Event(), multiprocessing.Pipe(duplex=False)
    arguments = (server.port, over, sender, options.first)
    process = multiprocessing.Process(target=good_traffic, args=arguments)
    process.start()
    await asyncio.sleep(2)
    cpu_s = [server.cpu_seconds()]
    await asyncio.sleep(options.seconds)
    cpu_s.append(server.cpu_seconds())
    slow, begin = Slow(), time.monotonic()
    tasks = []
    for at in range(options.connections):
        kind = KINDS[at % len(KINDS)]
        port = tls.port if tls and kind == "half_hello" else server.port
        source = SOURCES[at % len(SOURCES)]
        tasks.append(asyncio.create_task(slow.hold(port, kind, source)))
        if at % 200 == 199:
            await asyncio.sleep(0.02)
    opened_s = time.monotonic() - begin
    cpu_s.append(server.cpu_seconds())
    done, pending = await asyncio.wait(tasks, timeout=90)
    end = time.monotonic()
    over.set()
    answers, bodies, refused = results.recv()
    process.join()
    alone = [ms for at, ms in answers if begin - options.seconds <= at < begin]
    beside = [ms for at, ms in answers if begin <= at < end]
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    await exchange(reader, writer, post("/api/v1/flush", b""))
    request = b"GET /api/v1/tables?db=good HTTP/1.1\r\nHost: a\r\n\r\n"
    tables = json.loads((await exchange(reader, writer, request))[2])
    rows = tables["databases"][0]["measurements"][0]["rows"]
    request = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"
    metrics = (await exchange(reader, writer, request))[2].decode()
    counted = re.findall(r"^peristyle_(connections_\w+|accept_errors)_total (\d+)", metrics, re.M)
    writer.close()
    return {
        "script": "slow_clients",
        "connections": options.connections,
        "descriptors": options.descriptors,
        "durability": options.durability,
        "first": options.first,
        "opened_s": round(opened_s, 2),
        "reaped_s": round(max(slow.last_s.values()), 2),
        "held_s": {kind: round(it, 2) for kind, it in slow.last_s.items()},
        "not_reaped": len(pending),
        **{name: int(count) for name, count in counted},
        "good_bodies": bodies,
        "good_refused": refused,
        "rows_missing": max(0, bodies * 10 - rows),
        "answer_ms_p50": [percentile(alone, 0.5), percentile(beside, 0.5)],
        "answer_ms_p99": [percentile(alone, 0.99), percentile(beside, 0.99)],
        "p99_ratio": round(percentile(beside, 0.99) / percentile(alone, 0.99), 2),
        # Of one core: alone, and while the slow ones come.
        "server_cpu": [
            round((cpu_s[1] - cpu_s[0]) / options.seconds, 2),
            round((cpu_s[2] - cpu_s[1]) / opened_s, 2),
        ],
        "rss_mib": round(server.rss_mib(), 1),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--scratch", default=tempfile.gettempdir())
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--descriptors", type=int, default=0, help="0: those of this process")
    parser.add_argument("--seconds", type=float, default=15, help="good traffic alone")
    parser.add_argument("--durability", default="fsync", help="os: without the disk's own pauses")
    parser.add_argument("--first", action="store_true", help="for a machine that others use")
    parser.add_argument("--tls-cert")
    parser.add_argument("--tls-key")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    directory = Path(tempfile.mkdtemp(prefix="peristyle-perf-", dir=options.scratch))
    durability = ["--durability", options.durability]
    limits = partial(own_limits, options.descriptors, options.first)
    server = Server(options.binary, directory / "data", durability, limits)
    tls = None
    if options.tls_cert:
        files = [*durability, "--tls-cert", options.tls_cert, "--tls-key", options.tls_key]
        tls = Server(options.binary, directory / "tls", files, limits)
    try:
        figures = asyncio.run(measure(options, server, tls))
    finally:
        server.stop()
        if tls:
            tls.stop()
        shutil.rmtree(directory)
    print(json.dumps({**figures, "cores": os.cpu_count()}))
    if figures["rows_missing"] or figures["not_reaped"] or figures["reaped_s"] > 35:
        sys.exit("a promise was not kept")


if __name__ == "__main__":
    main()
