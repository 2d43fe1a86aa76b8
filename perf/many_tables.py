#!/usr/bin/env python3
"""A thousand measurements, flushed again and again: memory, files, and the cost of a commit.

    many_tables.py --binary target/release/peristyle [--scratch DIR] [--tables 1000] [--minutes 10]

Once a second a body with one row for each measurement. Every 20 seconds a line with the server's
memory, the files of data and logs, and the CPU of a commit (its file and all else included) since
the line before; a table's first checkpoint comes with its 64th to 95th commit, so that windows
before, between and after tell what one costs. At the end every table's rows are counted, and one
flush of all of them is timed. Prints one line of JSON; exits with 0 only when all rows are there.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from durability import Server  # noqa: E402

SAMPLE_SECONDS = 20


def rss_mib(server):
    for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0


def files(directory):
    """Files of data, of logs, and checkpoints among these; the number of commits."""
    logs = data = checkpoints = commits = 0
    for database in (directory / "data" / "tables").glob("*"):
        for table in database.glob("*"):
            names = os.listdir(table / "_delta_log") if (table / "_delta_log").exists() else []
            versions = [int(it[:20]) for it in names if it.endswith(".json") and it[0] != "_"]
            commits += max(versions, default=-1) + 1
            logs += len(names)
            checkpoints += sum(it.endswith(".checkpoint.parquet") for it in names)
            data += sum(sum(name.endswith(".parquet") for name in os.listdir(it))
                        for it in table.glob("date=*"))
    return data, logs, checkpoints, commits


def window(before, after):
    """CPU of a commit between two samples, and which part of the tables had a checkpoint then."""
    commits = after["commits"] - before["commits"]
    return {
        "commits": commits,
        "cpu_ms_a_commit": round((after["cpu"] - before["cpu"]) / max(commits, 1) * 1e3, 3),
        "checkpoints": before["checkpoints"],
        "checkpoints_after": after["checkpoints"],
    }


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
    connection, begin, count = server.connect(), time.monotonic(), 0
    samples, windows = [], []
    while (elapsed := time.monotonic() - begin) < options.minutes * 60:
        time_ns = 1_750_000_000_000_000_000 + count * 1_000_000_000
        lines = (f"m{at},host=a v={at + count / 8} {time_ns}\n" for at in range(options.tables))
        body = "".join(lines)
        server.post(connection, "/write?db=many", body.encode())
        count += 1
        if elapsed // SAMPLE_SECONDS >= len(samples):
            data, logs, checkpoints, commits = files(directory)
            sample = {"rss": round(rss_mib(server)), "data": data, "logs": logs}
            sample |= {"checkpoints": checkpoints, "commits": commits, "cpu": server.cpu_seconds()}
            samples.append(sample)
            if len(samples) > 1:
                windows.append(window(*samples[-2:]))
                print(f"{elapsed:4.0f} s: {sample['rss']} MiB, {data} files of data, {logs} of "
                      f"logs, {windows[-1]}", flush=True)
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
        "flush_interval": options.flush_interval,
        "rss_mib": [it["rss"] for it in samples],
        "log_files": [it["logs"] for it in samples],
        "windows": windows,
        "flush_ms_per_table": round(flush / options.tables * 1e3, 3),
        "flush_cpu_ms_per_table": round(cpu / options.tables * 1e3, 3),
    }))
    if wrong or len(tables) != options.tables:
        sys.exit(f"rows are missing in {wrong[:5]}")


if __name__ == "__main__":
    main()
