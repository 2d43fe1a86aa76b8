"""A reader of the Delta log, written from the protocol: which files are live, and what they hold.

It shares no code with what writes the log, nor with the libraries that others read it by.
"""

import json
import re
import urllib.parse
from typing import NamedTuple

import pyarrow.parquet

COMMIT = re.compile(r"(\d{20})\.json")
CHECKPOINT = re.compile(r"(\d{20})\.checkpoint(\.\d{10}\.\d{10})?\.parquet")


class Broken(Exception):
    """The log is not what the protocol allows."""


class Live(NamedTuple):
    """A file that belongs to the table."""

    path: str
    size: int
    partition: dict
    stats: dict


def pairs_of(value):
    """A map, as JSON has it or as a Parquet reader gives it."""
    return dict(value or [])


class DeltaLog:
    """One table's log, read as far as `version`; `advance` reads on."""

    def __init__(self, directory):
        self.directory = directory
        self.version = -1
        self.live = {}
        self.columns = None
        self.transactions = {}
        self.checkpoint = -1

    def advance(self):
        """Reads what was committed since; returns the paths that came and those that went."""
        before = set(self.live)
        log = self.directory / "_delta_log"
        if not log.is_dir():
            raise Broken("no _delta_log")
        names = sorted(it.name for it in log.iterdir())
        commits = {int(it[1]): it[0] for it in map(COMMIT.fullmatch, names) if it}
        checkpoints = {}
        for it in filter(None, map(CHECKPOINT.fullmatch, names)):
            checkpoints.setdefault(int(it[1]), []).append(it[0])
        self.checkpoint = max(checkpoints, default=-1)
        if not commits and not checkpoints:
            raise Broken("neither a commit nor a checkpoint")
        if self.version + 1 not in commits and self.checkpoint > self.version:
            self.load(checkpoints[self.checkpoint])
            self.version = self.checkpoint
        last = max(commits, default=self.version)
        for version in range(self.version + 1, last + 1):
            if version not in commits:
                raise Broken(f"commit {version} is missing before {last}")
            for line in (log / commits[version]).read_text("utf-8").splitlines():
                self.apply(json.loads(line), version)
            self.version = version
        if self.columns is None:
            raise Broken("no metadata")
        return set(self.live) - before, before - set(self.live)

    def load(self, names):
        """Starts over from a checkpoint."""
        self.live, self.transactions, self.columns = {}, {}, None
        for name in names:
            table = pyarrow.parquet.read_table(self.directory / "_delta_log" / name)
            for row in table.to_pylist():
                self.apply({kind: value for kind, value in row.items() if value}, name)

    def apply(self, action, where):
        kind, value = next(iter(action.items()), (None, None))
        if kind == "add":
            path = urllib.parse.unquote(value["path"])
            stats = json.loads(value.get("stats") or "null")
            if path in self.live:
                raise Broken(f"{where}: {path} is added twice")
            partition = pairs_of(value["partitionValues"])
            self.live[path] = Live(path, value["size"], partition, stats)
        elif kind == "remove":
            self.live.pop(urllib.parse.unquote(value["path"]), None)
        elif kind == "txn":
            last = self.transactions.get(value["appId"], -1)
            if value["version"] < last:
                raise Broken(f"{where}: txn {value['appId']}: {value['version']} after {last}")
            self.transactions[value["appId"]] = value["version"]
        elif kind == "metaData":
            fields = json.loads(value["schemaString"])["fields"]
            columns = {it["name"]: it["type"] for it in fields}
            lost = {k for k, v in (self.columns or {}).items() if columns.get(k) != v}
            if lost:
                raise Broken(f"{where}: columns went or changed: {sorted(lost)}")
            self.columns = columns
            if value["partitionColumns"] != ["date"]:
                raise Broken(f"{where}: partitioned by {value['partitionColumns']}")
        elif kind == "protocol" and value["minReaderVersion"] > 3:
            raise Broken(f"{where}: reader version {value['minReaderVersion']}")
