#!/usr/bin/env python3
"""A Telegraf-shaped load: sends it, flushes, reads the Parquet back, and compares.

    telegraf_load.py --url http://127.0.0.1:8086 --data-dir ./peristyle-data

Hosts with 8 cores report what Telegraf's cpu, mem, disk, diskio, net, system and processes inputs
report every 10 seconds: line protocol, nanoseconds, gzip. All bodies are made before the clock
starts. Every count, every sum and every tag is compared; integers and tags exactly, floats by
their exactly rounded sum. Exits with 0 only when all are equal.

Needs duckdb and pyarrow (tests/clients/requirements.txt).
"""

import argparse
import array
import collections
import gzip
import http.client
import itertools
import math
import multiprocessing
import queue
import random
import sys
import threading
import time
import urllib.parse
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "clients"))

CPUS = [f"cpu{it}" for it in range(8)] + ["cpu-total"]
DISKS = [("sda1", "ext4", "/"), ("sda2", "xfs", "/var"), ("sdb1", "ext4", "/srv/data")]
BLOCKS = ["sda", "sda1", "sda2", "sdb"]
INTERFACES = ["eth0", "eth1", "lo"]
HOSTS = 100
# 2025-06-15T23:30:00Z: half an hour before midnight, so that two days are written.
BEGIN_NS = 1_750_030_200_000_000_000
STEP_NS = 10_000_000_000
GIB = 1 << 30


def cpu(rng, host, step):
    for name in CPUS:
        user, system, iowait = rng.random() * 40, rng.random() * 10, rng.random()
        values = {
            "usage_guest": 0.0,
            "usage_guest_nice": 0.0,
            "usage_idle": 100.0 - user - system - iowait,
            "usage_iowait": iowait,
            "usage_irq": 0.0,
            "usage_nice": 0.0,
            "usage_softirq": rng.randrange(300) / 100,
            "usage_steal": 0.0,
            "usage_system": system,
            "usage_user": user,
        }
        yield "cpu", {"cpu": name}, values


def mem(rng, host, step):
    total = 32 * GIB
    used = rng.randrange(total // 2)
    names = (
        "active available buffered cached commit_limit committed_as dirty free high_free"
        " high_total huge_page_size huge_pages_free huge_pages_total inactive low_free low_total"
        " mapped page_tables shared slab sreclaimable sunreclaim swap_cached swap_free swap_total"
        " total used vmalloc_chunk vmalloc_total vmalloc_used write_back write_back_tmp"
    ).split()
    values = {name: rng.randrange(GIB) for name in names}
    values |= {"total": total, "used": used, "available": total - used}
    values["available_percent"] = 100.0 * (total - used) / total
    values["used_percent"] = 100.0 * used / total
    yield "mem", {}, values


def disk(rng, host, step):
    for device, fstype, path in DISKS:
        total, used = 500 * GIB, 100 * GIB + step * 4096 + rng.randrange(GIB)
        inodes, inodes_used = 32_768_000, rng.randrange(1_000_000)
        values = {
            "free": total - used,
            "inodes_free": inodes - inodes_used,
            "inodes_total": inodes,
            "inodes_used": inodes_used,
            "inodes_used_percent": 100.0 * inodes_used / inodes,
            "total": total,
            "used": used,
            "used_percent": 100.0 * used / total,
        }
        yield "disk", {"device": device, "fstype": fstype, "mode": "rw", "path": path}, values


def diskio(rng, host, step):
    names = (
        "io_time iops_in_progress merged_reads merged_writes read_bytes read_time reads"
        " weighted_io_time write_bytes write_time writes"
    ).split()
    for name in BLOCKS:
        values = {it: step * 1000 + rng.randrange(1000) for it in names}
        yield "diskio", {"name": name}, values | {"io_util": rng.random() * 100}


def net(rng, host, step):
    names = "bytes_recv bytes_sent drop_in drop_out err_in err_out packets_recv packets_sent"
    for name in INTERFACES:
        values = {it: step * 100_000 + rng.randrange(100_000) for it in names.split()}
        yield "net", {"interface": name}, values | {"speed": -1 if name == "lo" else 10_000}


def system(rng, host, step):
    uptime = 86_400 * (host + 1) + step * 10
    yield "system", {}, {
        "load1": rng.randrange(800) / 100,
        "load15": rng.randrange(800) / 100,
        "load5": rng.randrange(800) / 100,
        "n_cpus": 8,
        "n_physical_cpus": 4,
        "n_unique_users": 1,
        "n_users": rng.randrange(4),
    }
    yield "system", {}, {"uptime": uptime}
    days, hours, minutes = uptime // 86_400, uptime // 3600 % 24, uptime // 60 % 60
    yield "system", {}, {"uptime_format": f"{days} days, {hours:2}:{minutes:02}"}


def processes(rng, host, step):
    names = "blocked dead idle paging parked running sleeping stopped total total_threads unknown"
    yield "processes", {}, {it: rng.randrange(500) for it in (names + " zombies").split()}


INPUTS = (cpu, mem, disk, diskio, net, system, processes)


def reports(seed, hosts):
    """Endless rows (measurement, tags, values, time) of some hosts, in order of time."""
    rng = random.Random(f"{seed} {hosts}")
    for step in itertools.count():
        for host in hosts:
            for read in INPUTS:
                for measurement, tags, values in read(rng, host, step):
                    tags["host"] = f"web-{host:03}.example.com"
                    yield measurement, tags, values, BEGIN_NS + step * STEP_NS


def text_of(value):
    if isinstance(value, str):
        return f'"{value}"'
    # As Telegraf writes floats: shortest, and whole ones without a point.
    return f"{value}i" if isinstance(value, int) else repr(value).removesuffix(".0")


def line_of(measurement, tags, values, ns):
    tags = "".join(f",{key}={value}" for key, value in sorted(tags.items()))
    values = ",".join(f"{key}={text_of(value)}" for key, value in values.items())
    return f"{measurement}{tags} {values} {ns}\n"


class Sums:
    """What was sent of one measurement, or what was read."""

    def __init__(self):
        self.rows = 0
        self.integers = collections.defaultdict(lambda: [0, 0])  # count, sum
        self.floats = collections.defaultdict(lambda: array.array("d"))
        self.strings = collections.defaultdict(collections.Counter)

    def add(self, tags, values):
        self.rows += 1
        for name, value in tags.items():
            self.strings[name][value] += 1
        for name, value in values.items():
            if isinstance(value, str):
                self.strings[name][value] += 1
            elif isinstance(value, int):
                self.integers[name][0] += 1
                self.integers[name][1] += value
            else:
                self.floats[name].append(value)

    def merge(self, other):
        self.rows += other["rows"]
        for name, (count, total) in other["integers"].items():
            self.integers[name][0] += count
            self.integers[name][1] += total
        for name, values in other["floats"].items():
            self.floats[name].extend(values)
        for name, values in other["strings"].items():
            self.strings[name].update(values)

    def plain(self):
        kinds = ("integers", "floats", "strings")
        return {"rows": self.rows} | {kind: dict(getattr(self, kind)) for kind in kinds}


def make_bodies(arguments):
    """The bodies of one connection, and the sums of their rows."""
    seed, hosts, rows, body_lines = arguments
    source = reports(seed, hosts)
    sums = collections.defaultdict(Sums)
    bodies, raw_bytes = [], 0
    while rows > 0:
        lines = []
        for _ in range(min(rows, body_lines)):
            measurement, tags, values, ns = next(source)
            sums[measurement].add(tags, values)
            lines.append(line_of(measurement, tags, values, ns))
        rows -= len(lines)
        body = "".join(lines).encode()
        raw_bytes += len(body)
        bodies.append(gzip.compress(body, compresslevel=6))
    return bodies, raw_bytes, {name: it.plain() for name, it in sums.items()}


def make_load(seed, rows, connections, body_lines):
    """For each connection its bodies, all of them about its own hosts and the same hours."""
    share = [rows // connections + (it < rows % connections) for it in range(connections)]
    jobs = [
        (seed, range(at, max(HOSTS, connections), connections), count, body_lines)
        for at, count in enumerate(share)
    ]
    with multiprocessing.Pool() as pool:
        made = pool.map(make_bodies, jobs, chunksize=1)
    sums = collections.defaultdict(Sums)
    for _, _, parts in made:
        for name, part in parts.items():
            sums[name].merge(part)
    return [bodies for bodies, _, _ in made], sum(raw for _, raw, _ in made), dict(sums)


def send(url, path, bodies, failures):
    """Sends bodies one after the other over one connection, as one Telegraf does."""
    headers = {"Content-Encoding": "gzip", "Content-Type": "text/plain; charset=utf-8"}
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=120)
    try:
        for body in bodies:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 204:
                failures.put(f"{answer.status} {text[:200]!r}")
    except (OSError, http.client.HTTPException) as error:
        failures.put(repr(error))
    finally:
        connection.close()


def post(url, path):
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=600)
    connection.request("POST", path)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    if answer.status != 200:
        sys.exit(f"{path}: expected 200, found {answer.status} {text}")
    return text


def float_total(values):
    return math.fsum(sorted(values))


def compare(connection, glob, sent):
    """Differences between one measurement's files and what was sent of it."""
    source = f"read_parquet('{glob}', union_by_name=true, hive_partitioning=true)"

    def one(query):
        return connection.sql(query).fetchall()[0]

    (rows,) = one(f"SELECT count(*) FROM {source}")
    if rows != sent.rows:
        yield f"expected {sent.rows} rows, found {rows}"
    columns = {it[0] for it in connection.sql(f"DESCRIBE SELECT * FROM {source}").fetchall()}
    expected = {"time", "date", *sent.integers, *sent.floats, *sent.strings}
    if columns != expected:
        yield f"expected columns {sorted(expected)}, found {sorted(columns)}"
        return
    for name, pair in sorted(sent.integers.items()):
        found = one(f'SELECT count("{name}"), sum("{name}") FROM {source}')
        if list(found) != pair:
            yield f"{name}: expected count and sum {pair}, found {list(found)}"
    for name, values in sorted(sent.floats.items()):
        query = f'SELECT "{name}" FROM {source} WHERE "{name}" IS NOT NULL'
        found = connection.sql(query).to_arrow_table().column(0).to_pylist()
        if len(found) != len(values):
            yield f"{name}: expected {len(values)} values, found {len(found)}"
        elif not math.isclose(float_total(found), float_total(values), rel_tol=1e-9):
            yield f"{name}: expected a sum of {float_total(values)}, found {float_total(found)}"
    for name, counts in sorted(sent.strings.items()):
        query = f'SELECT "{name}", count(*) FROM {source} WHERE "{name}" IS NOT NULL GROUP BY 1'
        if dict(connection.sql(query).fetchall()) != counts:
            yield f"{name}: expected other counts of its {len(counts)} values"


def verify(data_dir, database, sent):
    import duckdb
    from segments import directory_of, glob_of

    connection = duckdb.connect()
    different = 0
    for measurement, sums in sorted(sent.items()):
        glob = glob_of(directory_of(data_dir, database, measurement))
        found = list(compare(connection, glob, sums))
        different += len(found)
        print(f"{measurement:>10}: {sums.rows} rows, {'equal' if not found else 'DIFFERENT'}")
        for difference in found:
            print(f"            {difference}")
    return different


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8086")
    parser.add_argument("--data-dir", default="peristyle-data")
    parser.add_argument("--database", default="telegraf")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--body-lines", type=int, default=5_000)
    return parser.parse_args()


def main():
    options = parse_arguments()
    from segments import encode_name

    url = urllib.parse.urlsplit(options.url)
    database = urllib.parse.quote(options.database, safe="")
    tables = Path(options.data_dir) / "tables" / encode_name(options.database)
    if any(tables.glob("**/*.parquet")):
        sys.exit(f"database {options.database} has files already; take another --database")
    loads, raw_bytes, sent = make_load(
        options.seed, options.rows, options.connections, options.body_lines
    )
    bodies = sum(len(it) for it in loads)
    sent_bytes = sum(len(body) for load in loads for body in load)
    print(f"made {options.rows} rows in {bodies} bodies, {raw_bytes} bytes, {sent_bytes} gzipped")

    failures = queue.Queue()
    path = f"/write?db={database}&precision=ns"
    threads = [threading.Thread(target=send, args=(url, path, it, failures)) for it in loads]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    written = time.perf_counter()
    answer = post(url, f"/api/v1/flush?db={database}")
    flushed = time.perf_counter()
    seconds = written - begin
    print(
        f"written in {seconds:.3f} s: {options.rows / seconds:,.0f} rows/s,"
        f" {raw_bytes / seconds / 1e6:,.0f} MB/s; flushed in {flushed - written:.3f} s: {answer}"
    )
    refused = list(failures.queue)
    for failure in refused[:10]:
        print(f"refused: {failure}")
    different = verify(options.data_dir, options.database, sent)
    print("all equal" if not refused and not different else "NOT equal")
    sys.exit(1 if refused or different else 0)


if __name__ == "__main__":
    main()
