#!/usr/bin/env python3
"""A thousand measurements, flushed again and again: memory, files, and the cost of a commit.

    many_tables.py --binary target/release/peristyle [--scratch DIR] [--tables 1000] [--minutes 10]

Once a second a body with one row for each measurement. Every minute a line with the server's memory
and the files of data and logs. At the end every table's rows are counted, and one flush of all of
them is timed. Prints one line of JSON; exits with 0 only when all rows are there.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from durability import Server  # noqa: E402


def rss_mib(server):
    for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0


def files(directory):
    logs = data = 0
    for path in (directory / "data" / "tables").rglob("*"):
        logs += path.parent.name == "_delta_log"
        data += path.suffix == ".parquet" and path.parent.name != "_delta_log"
    return data, logs


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--scratch", default=tempfile.gettempdir())
    parser.add_argument("--tables", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--flush-interval", default="10s")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="peristyle-tables-", dir=options.scratch))
    more = ["--flush-interval", options.flush_interval]
    server = Server(options.binary, directory / "data", "fsync", more)
    connection, begin, count, samples = server.connect(), time.monotonic(), 0, []
    while (elapsed := time.monotonic() - begin) < options.minutes * 60:
        time_ns = 1_750_000_000_000_000_000 + count * 1_000_000_000
        lines = (f"m{at},host=a v={at + count / 8} {time_ns}\n" for at in range(options.tables))
        body = "".join(lines)
        server.post(connection, "/write?db=many", body.encode())
        count += 1
        if elapsed // 60 >= len(samples):
            data, logs = files(directory)
            samples.append((round(rss_mib(server)), data, logs))
            cpu = server.cpu_seconds()
            print(f"{elapsed:4.0f} s: {samples[-1][0]} MiB, {data} files of data, {logs} of logs, "
                  f"{cpu:.1f} s of CPU", flush=True)
        time.sleep(max(0, begin + count - time.monotonic()))
    server.post(connection, "/api/v1/flush", b"")
    for at in range(options.tables):
        server.post(connection, "/write?db=many", f"m{at},host=a v=1 1\n".encode())
    cpu, start = server.cpu_seconds(), time.monotonic()
    server.post(connection, "/api/v1/flush", b"")
    flush, cpu = time.monotonic() - start, server.cpu_seconds() - cpu
    connection.request("GET", "/api/v1/tables")
    tables = json.loads(connection.getresponse().read())["databases"][0]["measurements"]
    wrong = [it["name"] for it in tables if it["rows"] != count + 1]
    server.stop()
    shutil.rmtree(directory)
    print(json.dumps({
        "script": "many_tables",
        "tables": len(tables),
        "rows": sum(it["rows"] for it in tables),
        "rss_mib": [it[0] for it in samples],
        "log_files": [it[2] for it in samples],
        "flush_ms_per_table": round(flush / options.tables * 1e3, 3),
        "flush_cpu_ms_per_table": round(cpu / options.tables * 1e3, 3),
    }))
    if wrong or len(tables) != options.tables:
        sys.exit(f"rows are missing in {wrong[:5]}")


if __name__ == "__main__":
    main()
