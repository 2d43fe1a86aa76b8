"""The JavaScript clients that users have, driven line by line: see javascript/driver.js."""

import json
import os
import subprocess
from pathlib import Path

from python_clients import ALL_KINDS, Client
from rows import Unsigned
from scenarios import Busy, Refused, Unauthorised, check

DRIVER = Path(__file__).resolve().parent / "javascript" / "driver.js"
KINDS = {bool: "bool", float: "float", int: "int", str: "str", Unsigned: "uint"}
TOLD = {"busy": Busy, "refused": Refused, "unauthorised": Unauthorised}


class JavaScript(Client):
    """One process of node for each connection."""

    # Its numbers are floats: an integer beyond 53 bits is another one before it is sent.
    kinds = ALL_KINDS - {"int", "uint"} | {"int53"}

    def connect(self, url, database, token):
        self.process = subprocess.Popen(
            ["node", str(DRIVER), os.environ["PERISTYLE_NODE_DIR"]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.ask(op="connect", name=self.name, url=url, database=database, token=token)

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        check(line, "node has ended")
        for kind, text in json.loads(line).items():
            raise TOLD[kind](text)

    def start(self):
        self.ask(op="start")

    def write(self, rows):
        self.ask(
            op="write",
            rows=[
                {
                    "measurement": row.measurement,
                    "time_ns": str(row.time_ns),
                    "tags": row.tags,
                    "fields": {k: [KINDS[type(v)], v] for k, v in row.fields.items()},
                }
                for row in rows
            ],
        )

    def close(self):
        self.ask(op="close")
        self.process.stdin.close()
        check(self.process.wait(30) == 0, "node ended badly")


class InfluxDB2(JavaScript):
    """`@influxdata/influxdb-client`: sends again what was answered 429 and above."""

    name, package = "influxdb-client-js", "@influxdata/influxdb-client"
    repeats = True


class InfluxDB3(JavaScript):
    """`@influxdata/influxdb3-client`."""

    name, package = "influxdb3-js", "@influxdata/influxdb3-client"


class InfluxDB3NoSync(JavaScript):
    """The same with `noSync`, which is on /api/v3/write_lp only."""

    name, package = "influxdb3-js, no_sync", "@influxdata/influxdb3-client"
    is_durable = False


CLIENTS = [InfluxDB2, InfluxDB3, InfluxDB3NoSync]
