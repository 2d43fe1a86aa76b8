#!/usr/bin/env python3
"""Bodies made to hurt, beside good traffic.

    bombs.py --binary target/release/peristyle [--bombs 10000] [--memory-limit 256]

Good traffic, a process of its own: four connections that write ten lines every 20 ms each. First
alone, then beside --bombs requests from 64 connections of another process: gzip and zstd bodies of
zeros and of lines near and beyond the ratio that is taken, members one after the other, nested
gzip, MessagePack of nested containers, of lengths of 2^32 - 1, of empty arrays, JSON of brackets.
The server has the first half of the cores, and both clients the other, as if these were elsewhere.
A bomb may be answered with any 2xx, 4xx or 503. Bounds: the server lives, every good body is
stored, memory is at most the limit and 15 %, the good traffic's p99 at most twice that of the same
traffic alone. Prints one line of JSON; the status is 1 where a bound is broken.
"""

import argparse
import asyncio
import collections
import gzip
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import zlib
from pathlib import Path

from own_server import CORES, Server, exchange, is_last, post

CONNECTIONS = 64
MIB = 1 << 20


def deflated(source, size, level=9):
    """A gzip member of `size` bytes that repeat `source`."""
    packer = zlib.compressobj(level, zlib.DEFLATED, 31)
    piece = source * max(1, MIB // len(source))
    out, left = [], size
    while left > 0:
        out.append(packer.compress(piece[: min(left, len(piece))]))
        left -= len(piece)
    return b"".join(out) + packer.flush()


def zstd_zeros(size):
    """A zstd frame of blocks that repeat one byte: four bytes for each 128 KiB (RFC 8878, 3.1)."""
    blocks, block = [], 128 << 10
    count = max(1, size // block)
    for at in range(count):
        header = (block << 3) | (1 << 1) | (at == count - 1)
        blocks.append(header.to_bytes(3, "little") + b"\0")
    # No content size, a window of 8 MiB.
    return b"\x28\xb5\x2f\xfd\x00" + bytes([(23 - 10) << 3]) + b"".join(blocks)


def bombs():
    """Name, path, Content-Encoding and body of each kind."""
    lp, msgpack, js = "/write?db=bombs", "/api/v1/write/msgpack", "/api/v1/write/json"
    line = b"bomb,host=a value=1 1\n"
    noise = os.urandom(4096)
    gzipped, zstd = "gzip", "zstd"
    return [
        ("gzip_zeros_64_mib", lp, gzipped, deflated(b"\0", 64 * MIB)),
        ("gzip_lines_100_mib", lp, gzipped, deflated(line, 100 * MIB)),
        ("gzip_comments_8_mib", lp, gzipped, deflated(b"#" * 4000 + noise[:8], 8 * MIB)),
        ("gzip_many_members", lp, gzipped, deflated(b"\0", MIB) * 100),
        ("gzip_empty_members", lp, gzipped, gzip.compress(b"") * 50_000),
        ("gzip_in_gzip", lp, gzipped, gzip.compress(deflated(b"\0", 512 * MIB))),
        ("zstd_zeros_1_gib", lp, zstd, zstd_zeros(1024 * MIB)),
        ("zstd_zeros_3_mib", lp, zstd, zstd_zeros(3 * MIB)),
        ("zstd_many_frames", lp, zstd, zstd_zeros(4 * MIB) * 20),
        ("zstd_msgpack_nils", msgpack, zstd, zstd_zeros(100 * MIB)),
        ("msgpack_nested_arrays", msgpack, "", b"\x91" * MIB),
        ("msgpack_nested_maps", msgpack, "", b"\x81\xa1m" * (MIB // 3)),
        ("msgpack_array_2_32", msgpack, "", b"\xdd\xff\xff\xff\xff" * 1000),
        ("msgpack_map_2_32", msgpack, "", b"\xdf\xff\xff\xff\xff\xa1m\xa1a"),
        ("msgpack_string_2_32", msgpack, "", b"\x82\xa1m\xdb\xff\xff\xff\xffabc"),
        ("msgpack_bin_2_32", msgpack, "", b"\x82\xa1m\xc6\xff\xff\xff\xffabc"),
        ("msgpack_empty_arrays", msgpack, "", b"\xdd\x00\x0f\x00\x00" + b"\x90" * 0x0F0000),
        ("msgpack_columns_2_32", msgpack, "",
         b"\x82\xa1m\xa1a\xa7columns\x81\xa4time\xdd\xff\xff\xff\xff" + b"\x00" * 1000),
        ("gzip_msgpack_nested", msgpack, gzipped, deflated(b"\x91", 16 * MIB)),
        ("json_arrays", js, "", b"[" * MIB),
        ("json_objects", js, "", b'{"a":' * (MIB // 5)),
        ("json_closed", js, "", b"[" * 300_000 + b"]" * 300_000),
        ("gzip_json_arrays", js, gzipped, deflated(b"[", 64 * MIB)),
        ("gzip_json_commas", js, gzipped, b"" + gzip.compress(b"[" + b"0," * 8_000_000)),
    ]


def good_traffic(port, over, pipe):
    answers, state = [], {"bodies": 0, "refused": 0}
    os.sched_setaffinity(0, CORES[1])
    # Whoever measures does not wait for whoever throws.
    os.nice(-20)

    async def send(number):
        reader = writer = None
        while not over.is_set():
            first = state["bodies"] * 10
            text = "".join(f"good,s={number} v={first + at}i\n" for at in range(10))
            begin = time.monotonic()
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                status, _, _ = await exchange(
                    reader, writer, post("/write?db=good", text.encode())
                )
            except (OSError, asyncio.IncompleteReadError):
                status, writer = 0, None
            if status == 204:
                state["bodies"] += 1
                now = time.monotonic()
                answers.append((now, (now - begin) * 1e3))
            else:
                state["refused"] += 1
            await asyncio.sleep(0.02)

    async def run():
        await asyncio.gather(*(send(number) for number in range(4)))

    asyncio.run(run())
    pipe.send((answers, state["bodies"], state["refused"]))


def throw(port, count, only, pipe):
    """Sends `count` bombs, each kind as often as every other."""
    os.sched_setaffinity(0, CORES[1])
    kinds = [it for it in bombs() if only in it[0]]
    requests = [(name, post(path, body, encoding)) for name, path, encoding, body in kinds]
    found = collections.defaultdict(lambda: [collections.Counter(), 0.0])
    numbers = iter(range(count))

    async def send():
        reader = writer = None
        for number in numbers:
            name, request = requests[number % len(requests)]
            begin = time.monotonic()
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=MIB)
                status, head, _ = await exchange(reader, writer, request)
                ends = is_last(head)
            except (OSError, asyncio.IncompleteReadError):
                status, ends = 0, True
            if ends and writer is not None:
                writer.close()
                writer = None
            found[name][0][status] += 1
            found[name][1] = max(found[name][1], (time.monotonic() - begin) * 1e3)

    async def run():
        await asyncio.gather(*(send() for _ in range(CONNECTIONS)))

    pipe.send("ready")
    pipe.recv()
    asyncio.run(run())
    pipe.send({name: (dict(counts), most) for name, (counts, most) in found.items()})


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else 0.0


def stored_rows(port):
    async def ask():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        status, _, _ = await exchange(reader, writer, post("/api/v1/flush?db=good", b""))
        request = b"GET /api/v1/tables?db=good HTTP/1.1\r\nHost: a\r\n\r\n"
        _, _, text = await exchange(reader, writer, request)
        writer.close()
        return status, json.loads(text)["databases"][0]["measurements"][0]["rows"]

    return asyncio.run(ask())


def measure(options, server):
    over = multiprocessing.Event()
    good_end, good_start = multiprocessing.Pipe(duplex=False)
    good = multiprocessing.Process(target=good_traffic, args=(server.port, over, good_start))
    ours, theirs = multiprocessing.Pipe()
    thrower = multiprocessing.Process(
        target=throw, args=(server.port, options.bombs, options.only, theirs)
    )
    thrower.start()
    ours.recv()
    good.start()
    # The first journal segments and files are not counted.
    time.sleep(3)
    begin_alone = time.monotonic()
    time.sleep(options.seconds)
    begin = time.monotonic()
    rss_before = server.rss_mib()
    ours.send("go")
    found = ours.recv()
    end = time.monotonic()
    thrower.join()
    over.set()
    answers, bodies, refused = good_end.recv()
    good.join()
    alone = [ms for at, ms in answers if begin_alone <= at < begin]
    beside = [ms for at, ms in answers if begin <= at < end]
    rss = server.rss_mib()
    flushed, rows = stored_rows(server.port)
    ended = server.end()
    statuses = collections.Counter()
    for counts, _ in found.values():
        statuses.update(counts)
    ratio = percentile(beside, 0.99) / percentile(alone, 0.99)
    return {
        "script": "bombs",
        "memory_limit_mib": options.memory_limit,
        "bombs": sum(statuses.values()),
        "bombs_s": round(end - begin, 1),
        "answers": {str(status): count for status, count in sorted(statuses.items())},
        "slowest_ms": {
            name: round(most) for name, (_, most)
            in sorted(found.items(), key=lambda it: -it[1][1])[:5]
        },
        "kinds": {
            name: {str(status): it for status, it in sorted(counts.items())}
            for name, (counts, _) in sorted(found.items())
        },
        "good_bodies": bodies,
        "good_refused": refused,
        "good_rows_missing": max(0, bodies * 10 - rows),
        "answer_ms_p50": [round(percentile(it, 0.5), 2) for it in (alone, beside)],
        "answer_ms_p99": [round(percentile(it, 0.99), 2) for it in (alone, beside)],
        "p99_ratio": round(ratio, 2),
        "rss_mib": [round(rss_before, 1), round(rss, 1)],
        "rss_of_limit": round(rss / options.memory_limit, 3),
        "ended": ended,
        "flushed": flushed,
    }


def broken(figures):
    for name, holds in {
        "the server ends well": figures["ended"] == 0 and figures["flushed"] == 200,
        "every bomb is answered": "0" not in figures["answers"],
        "no bomb is a fault of ours": "500" not in figures["answers"],
        "good rows are stored": not figures["good_rows_missing"] and not figures["good_refused"],
        "the good p99 is at most twice that alone": figures["p99_ratio"] <= 2,
        "memory is below the limit and 15 %": figures["rss_of_limit"] <= 1.15,
    }.items():
        if not holds:
            yield name


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--scratch", default=tempfile.gettempdir())
    parser.add_argument("--bombs", type=int, default=10_000)
    parser.add_argument("--only", default="", help="kinds with this in their name")
    parser.add_argument("--memory-limit", type=int, default=256, help="MiB")
    parser.add_argument("--seconds", type=float, default=20, help="good traffic alone")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="peristyle-perf-", dir=options.scratch))
    settings = ["--memory-limit", f"{options.memory_limit}MiB"]
    server = Server(
        options.binary, directory / "data", settings, lambda: os.sched_setaffinity(0, CORES[0])
    )
    try:
        figures = measure(options, server)
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
