#!/usr/bin/env python3
"""Large bodies of lines where small ones, or other processes, take all the processor there is.

    large_bodies.py --binary target/release/peristyle [--seconds 10]

The server has the first half of the cores and the clients the other. One connection sends bodies of
7 MiB, which the thread of large bodies decodes: alone, beside 16 connections with 2,500 lines in
each body, beside a process that does nothing but take the server's cores. Every body is answered
before the next one. Bounds: beside either at least one part of 20 of what is stored alone, and no
answer takes 5 s, which is what clients wait. Prints one line of JSON; the status is 1 where a bound
is broken.
"""

import argparse
import asyncio
import itertools
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from own_server import CORES, Server, exchange, post

MIB = 1 << 20
SMALL_CONNECTIONS = 16
SMALL_LINES = 2_500
LARGE_LINES = 100_000


def lines(count):
    return b"".join(
        b"cpu,host=h%03d,region=eu-%d a=%di,b=%d.5,c=%di 1750030%09d000\n"
        % (at % 997, at % 7, at, at, at * 7, at)
        for at in range(count)
    )


def client(port, connections, body, seconds, pipe):
    """Sends `body` again and again; answers how long each answer took, in ms."""
    os.sched_setaffinity(0, CORES[1])
    answers, numbers = [], itertools.count()

    async def send():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        end = time.monotonic() + seconds
        while (begin := time.monotonic()) < end:
            # One that came before would be known, and not stored again.
            numbered = b"# %d\n" % next(numbers) + body
            status, _, _ = await exchange(
                reader, writer, post(f"/write?db=d{connections}", numbered)
            )
            if status != 204:
                sys.exit(f"answered by {status}")
            answers.append((time.monotonic() - begin) * 1e3)
        writer.close()

    async def run():
        await asyncio.gather(*(send() for _ in range(connections)))

    asyncio.run(run())
    pipe.send(sorted(answers))


def take_processor(core):
    os.sched_setaffinity(0, {core})
    while True:
        pass


def measure(options, is_beside_small, is_beside_others):
    directory = Path(tempfile.mkdtemp(prefix="peristyle-perf-", dir=options.scratch))
    settings = ["--memory-limit", "1GiB"]
    server = Server(
        options.binary, directory / "data", settings, lambda: os.sched_setaffinity(0, CORES[0])
    )
    clients, others = [], []
    try:
        if is_beside_others:
            others = [
                multiprocessing.Process(target=take_processor, args=(core,), daemon=True)
                for core in CORES[0]
            ]
        small = [(SMALL_CONNECTIONS, SMALL_LINES)] if is_beside_small else []
        for connections, count in [(1, LARGE_LINES), *small]:
            body = lines(count)
            ours, theirs = multiprocessing.Pipe()
            arguments = (server.port, connections, body, options.seconds, theirs)
            clients.append((multiprocessing.Process(target=client, args=arguments), ours, body))
        for process in others + [process for process, _, _ in clients]:
            process.start()
        figures = []
        for process, pipe, body in clients:
            answers = pipe.recv()
            process.join()
            figures.append({
                "body_mib": round(len(body) / MIB, 1),
                "mib_per_s": round(len(answers) * len(body) / MIB / options.seconds, 1),
                "answer_ms_p50": round(answers[len(answers) // 2], 1),
                "answer_ms_max": round(answers[-1], 1),
            })
        for process in others:
            process.kill()
            process.join()
        server.stop()
        return figures
    finally:
        for process in others:
            process.kill()
        if server.process.poll() is None:
            server.process.kill()
        shutil.rmtree(directory)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--scratch", default=tempfile.gettempdir())
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    [alone] = measure(options, False, False)
    large, small = measure(options, True, False)
    [busy] = measure(options, False, True)
    broken = [
        f"large bodies beside {name}"
        for name, it in [("small ones", large), ("other processes", busy)]
        if it["mib_per_s"] < alone["mib_per_s"] / 20 or it["answer_ms_max"] > 5_000
    ]
    print(json.dumps({
        "script": "large_bodies",
        "alone": alone,
        "beside_small": large,
        "small": small,
        "beside_other_processes": busy,
        "cores": os.cpu_count(),
        "broken": broken,
    }))
    if broken:
        sys.exit(1)


if __name__ == "__main__":
    main()
