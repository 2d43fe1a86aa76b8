#!/usr/bin/env python3
"""SIGTERM under load, again and again: does the server end well, and begin well?

    python3 perf/shutdown.py BINARY [--times 200] [--senders 4] [--kill-every 4]

Senders write without a pause when SIGTERM comes at a random moment, so many times; every so many
turns it is SIGKILL instead, so that the next start has something to replay. Each time:

- after SIGTERM the process ends with status 0 within 30 s;
- the next start answers /ready with 200 only when every acknowledged row is in a published file,
  which /api/v1/tables tells at that moment;
- no acknowledged row is missing and none is there twice: a request that got no answer may be
  there, and nothing else.

The data directory is one of its own, removed at the end. One JSON line tells the result.
"""

import argparse
import http.client
import json
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROWS = 500
END_SECONDS_MAX = 30.0


class Server:
    """A server on a port of its own."""

    def __init__(self, binary, data_dir):
        command = [binary, "serve", "--listen", "127.0.0.1:0", "--data-dir", data_dir]
        command += ["--flush-interval", "500ms"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.port = None
        for line in self.process.stderr:
            if "listening on http://" in line:
                self.port = int(line.split("listening on http://")[1].split()[0].rsplit(":", 1)[1])
                break
        if self.port is None:
            raise SystemExit(f"it ended before it listened: {self.process.wait()}")
        self.log = []
        threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True).start()

    def get(self, path):
        """Status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


class Sender(threading.Thread):
    """Writes one body after the other until the server is gone."""

    def __init__(self, port, number, first):
        super().__init__(daemon=True)
        self.port, self.number, self.next = port, number, first
        self.acknowledged = self.unanswered = 0
        self.surprises = []

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        while True:
            lines = (f"m,sender={self.number} n={self.next + i}i {self.next + i}"
                     for i in range(ROWS))
            body = "\n".join(lines)
            self.next += ROWS
            try:
                connection.request("POST", "/write?db=d", body)
                answer = connection.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException):
                self.unanswered += ROWS
                return
            if answer.status == 204:
                self.acknowledged += ROWS
            else:
                # Refused while it stops: nothing of it may be stored.
                if b"shutting down" not in text:
                    self.surprises.append(text.decode())
                return


def published(server):
    """Rows in files, and rows accepted, at this moment."""
    _, body = server.get("/api/v1/tables?db=d")
    tables = [table for database in json.loads(body)["databases"]
              for table in database["measurements"]]
    rows = sum(table["rows"] for table in tables)
    _, numbers = server.get("/metrics")
    used = [line for line in numbers.decode().splitlines()
            if line.startswith('peristyle_memory_used_bytes{part="builders"}')]
    return rows, int(used[0].split()[1])


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("binary")
    arguments.add_argument("--times", type=int, default=200, help="SIGTERMs under load")
    arguments.add_argument("--senders", type=int, default=4)
    arguments.add_argument("--kill-every", type=int, default=4)
    arguments.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    given = arguments.parse_args()
    chance = random.Random(given.seed)
    turns = given.times * given.kill_every // (given.kill_every - 1)
    faults, durations = [], []
    least = most = first = replays = 0
    with tempfile.TemporaryDirectory(prefix="peristyle-shutdown-") as directory:
        data_dir = str(pathlib.Path(directory) / "data")
        for turn in range(turns + 1):
            server = Server(given.binary, data_dir)
            status, _ = server.get("/ready")
            rows, unpublished = published(server)
            if status != 200 or unpublished:
                faults.append(f"turn {turn}: ready with {unpublished} bytes of rows in no file")
            if not least <= rows <= most:
                faults.append(f"turn {turn}: {rows} rows, expected {least} to {most}")
            # What was there of requests without an answer is known from here on.
            least = most = rows
            is_kill = turn % given.kill_every == given.kill_every - 1
            is_last = turn == turns
            senders = [] if is_last else [Sender(server.port, number, first)
                                          for number in range(given.senders)]
            for sender in senders:
                sender.start()
            time.sleep(chance.uniform(0.05, 0.6))
            begun = time.monotonic()
            server.process.send_signal(signal.SIGKILL if is_kill else signal.SIGTERM)
            try:
                code = server.process.wait(timeout=2 * END_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                server.process.kill()
                code = server.process.wait()
            taken = time.monotonic() - begun
            for sender in senders:
                sender.join(timeout=60)
                least += sender.acknowledged
                most += sender.acknowledged + sender.unanswered
                first = max(first, sender.next)
                faults += [f"turn {turn}: {surprise}" for surprise in sender.surprises]
            replays += is_kill
            if not is_kill:
                durations += [] if is_last else [taken]
                if code != 0 or taken > END_SECONDS_MAX:
                    faults.append(f"turn {turn}: status {code} after {taken:.1f} s")
                    faults += server.log[-5:]
    durations.sort()
    print(json.dumps({
        "seed": given.seed, "terminated": len(durations), "killed": replays, "rows": least,
        "end_seconds_half": round(durations[len(durations) // 2], 3),
        "end_seconds_max": round(durations[-1], 3), "faults": faults,
    }))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
