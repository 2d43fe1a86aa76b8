#!/usr/bin/env python3
"""How long a start takes after a kill: seconds for each GiB of journal.

    recovery.py --binary target/release/peristyle [--scratch DIR] [--gib 1]

Writes bodies of 1,000 lines to a server that does not flush, until the journal holds so much; kills
it; starts it again and waits until it listens, which is when everything is replayed and published.
Every row is counted. The page cache is warm. Prints one line of JSON.
"""

import argparse
import http.client
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from durability import LINES, Server, bodies  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--scratch", default=tempfile.gettempdir())
    parser.add_argument("--gib", type=float, default=1)
    options = parser.parse_args()
    work = [body for connection in bodies(random.Random(1)) for body in connection]
    directory = Path(tempfile.mkdtemp(prefix="peristyle-recovery-", dir=options.scratch))
    more = ["--flush-interval", "1h", "--flush-bytes", "8GiB", "--memory-limit", "16GiB"]
    server = Server(options.binary, directory / "data", "fsync", more)
    connection, sent, rows = server.connect(), 0, 0
    while sent < options.gib * (1 << 30):
        body = work[rows // LINES % len(work)]
        # A comment of its own: the same bytes would be known again.
        server.post(connection, "/write?db=d", body + b"# %d\n" % rows)
        sent, rows = sent + len(body), rows + LINES
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    begin = time.monotonic()
    server = Server(options.binary, directory / "data", "fsync", more)
    seconds = time.monotonic() - begin
    answer = http.client.HTTPConnection("127.0.0.1", server.port)
    answer.request("GET", "/api/v1/tables")
    tables = json.loads(answer.getresponse().read())
    stored = sum(it["rows"] for db in tables["databases"] for it in db["measurements"])
    server.stop()
    shutil.rmtree(directory)
    if stored != rows:
        sys.exit(f"{rows} rows were acknowledged, {stored} are there")
    print(json.dumps({
        "script": "recovery",
        "gib": round(sent / (1 << 30), 3),
        "rows": rows,
        "seconds": round(seconds, 2),
        "seconds_per_gib": round(seconds / (sent / (1 << 30)), 2),
    }))


if __name__ == "__main__":
    main()
