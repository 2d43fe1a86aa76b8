"""Proves that the checker finds what it is for: tables made by hand, damaged in one way at a time.

    sabotage.py

Needs no server. Each case is a set of tables as a server should leave them, but for one fault; the
checker has to name that fault and nothing else.
"""

import copy
import json
import shutil
import sys
import tempfile
from pathlib import Path

import pyarrow
import pyarrow.parquet

from checker import DAYS, Checker, check_totals
from ledger import ACKNOWLEDGED, REFUSED, TARGETS, UNKNOWN, Ledger, row_values, time_of

# Any distinct names of directories do.
NAMES = {it: it.replace("/", ".").replace(" ", ".") for it in sum(TARGETS, ())}
FIELDS = {"time": "timestamp", "time_ns": "short", "client": "string", "request": "long"}
FIELDS |= {"n": "long", "target": "string", "v": "double", "date": "date"}
CHECKPOINT = pyarrow.schema(
    {
        "txn": pyarrow.struct({"appId": pyarrow.string(), "version": pyarrow.int64()}),
        "add": pyarrow.struct(
            {
                "path": pyarrow.string(),
                "partitionValues": pyarrow.map_(pyarrow.string(), pyarrow.string()),
                "size": pyarrow.int64(),
                "modificationTime": pyarrow.int64(),
                "dataChange": pyarrow.bool_(),
                "stats": pyarrow.string(),
            }
        ),
        "metaData": pyarrow.struct(
            {
                "id": pyarrow.string(),
                "format": pyarrow.struct(
                    {
                        "provider": pyarrow.string(),
                        "options": pyarrow.map_(pyarrow.string(), pyarrow.string()),
                    }
                ),
                "schemaString": pyarrow.string(),
                "partitionColumns": pyarrow.list_(pyarrow.string()),
                "configuration": pyarrow.map_(pyarrow.string(), pyarrow.string()),
            }
        ),
        "protocol": pyarrow.struct(
            {"minReaderVersion": pyarrow.int32(), "minWriterVersion": pyarrow.int32()}
        ),
    }
)


class Store:
    """Tables in a directory, written as the server writes them."""

    def __init__(self, root):
        self.root, self.files = root, {}

    def directory(self, target):
        return self.root / "tables" / NAMES[target[0]] / NAMES[target[1]]

    def log(self, target):
        directory = self.directory(target) / "_delta_log"
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def rows(self, requests):
        """What is to be stored of these requests, by target and day."""
        rows = {}
        for request in requests:
            for part in request.parts:
                for n in range(part.first, part.first + part.count):
                    ns = time_of(request.client, n)
                    row = {"time": ns // 1000, "time_ns": ns % 1000}
                    row |= {"client": f"c{request.client}"} | row_values(request, part, n)
                    key = (request.database, part.measurement), DAYS[n % 2]
                    rows.setdefault(key, []).append(row)
        return rows

    def commit(self, rows, version):
        """One file for each day and one commit for each table."""
        actions = {}
        for (target, day), of_day in rows.items():
            path = f"date={day}/{version:016x}-0000.parquet"
            action = self.write(target, path, of_day)
            actions.setdefault(target, []).append(action)
        for target, adds in actions.items():
            self.append(target, version, adds)

    def write(self, target, path, rows):
        """A Parquet file; returns its `add`."""
        columns = {name: [row.get(name) for row in rows] for row in rows for name in row}
        table = pyarrow.table(columns)
        utc = pyarrow.timestamp("us", tz="UTC")
        table = table.set_column(0, "time", table["time"].cast(utc))
        table = table.set_column(1, "time_ns", table["time_ns"].cast("int16"))
        file = self.directory(target) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        footer = {"peristyle.database": target[0], "peristyle.measurement": target[1]}
        table = table.replace_schema_metadata(footer)
        pyarrow.parquet.write_table(table, file)
        ns = [row["n"] for row in rows]
        stats = {"numRecords": len(rows), "minValues": {"n": min(ns)}, "maxValues": {"n": max(ns)}}
        add = {"path": path.replace("=", "%3D"), "size": file.stat().st_size}
        add |= {"partitionValues": {"date": path[5:15]}, "stats": json.dumps(stats)}
        return {"add": add | {"modificationTime": 1, "dataChange": True}}

    def metadata(self):
        columns = FIELDS | {f"w{it}": ("string" if it % 2 else "long") for it in range(12)}
        fields = [
            {"name": name, "type": kind, "nullable": name != "time", "metadata": {}}
            for name, kind in columns.items()
        ]
        return {
            "id": "00000000-0000-4000-8000-000000000000",
            "format": {"provider": "parquet", "options": {}},
            "schemaString": json.dumps({"type": "struct", "fields": fields}),
            "partitionColumns": ["date"],
            "configuration": {},
        }

    def append(self, target, version, actions):
        actions = [{"txn": {"appId": "i/0", "version": version}}, *actions]
        if version == 0:
            protocol = {"minReaderVersion": 1, "minWriterVersion": 2}
            actions = [{"protocol": protocol}, {"metaData": self.metadata()}, *actions]
        text = "".join(json.dumps(it) + "\n" for it in actions)
        (self.log(target) / f"{version:020}.json").write_text(text)

    def checkpoint(self, target, version):
        """All that the log says up to `version`; the commits up to it go."""
        rows = []
        for it in range(version + 1):
            path = self.log(target) / f"{it:020}.json"
            rows += [json.loads(line) for line in path.read_text().splitlines()]
            path.unlink()
        for row in rows:
            if "add" in row:
                row["add"]["partitionValues"] = list(row["add"]["partitionValues"].items())
        table = pyarrow.Table.from_pylist(rows, schema=CHECKPOINT)
        name = f"{version:020}.checkpoint.parquet"
        pyarrow.parquet.write_table(table, self.log(target) / name)
        last = json.dumps({"version": version, "size": len(rows)})
        (self.log(target) / "_last_checkpoint").write_text(last)


class Case:
    """Two flushes of acknowledged, refused and unknown requests, before anything is damaged."""

    def __init__(self, root):
        self.store = Store(root)
        self.ledger = Ledger(1, 2, rows_log2=4, widen_share=0.3)
        self.requests = []
        for client in self.ledger.clients:
            for number in range(20):
                request = client.next_request()
                state = UNKNOWN if number % 5 == 2 else ACKNOWLEDGED
                request.becomes(REFUSED if number % 5 == 4 else state, "")
                self.ledger.open[request.id] = request
                self.requests.append(request)
        self.acknowledged, self.refused, self.unknown = (
            [it for it in self.requests if it.state == state]
            for state in (ACKNOWLEDGED, REFUSED, UNKNOWN)
        )
        self.spanning = next(it for it in self.unknown if len(it.parts) > 1)
        self.target = ("alpha", "cpu")
        # Of the unknown ones the first is stored and the others are not.
        self.stored = [*self.acknowledged, self.unknown[0]]

    def write(self, change=lambda rows: None):
        """All that should be stored, in two commits; `change` damages the rows of the first."""
        half = len(self.stored) // 2
        for version, requests in enumerate((self.stored[:half], self.stored[half:])):
            rows = self.store.rows(requests)
            if version == 0:
                change(rows)
            self.store.commit(rows, version)
        self.directory = self.store.directory(self.target)
        self.first = sorted(self.directory.glob("date=*/*0000-0000.parquet"))[0]


def some_rows(rows):
    return next(it for key, it in sorted(rows.items()) if len(it) > 3)


def change_commit(case, change):
    path = case.store.log(case.target) / f"{1:020}.json"
    path.write_text(change(path.read_text()))


def nothing(case):
    case.write()


def from_a_checkpoint(case):
    case.write()
    case.store.checkpoint(case.target, 1)


def a_row_is_left_out(case):
    case.write(lambda rows: some_rows(rows).pop())


def a_row_is_there_twice(case):
    case.write(lambda rows: some_rows(rows).append(some_rows(rows)[0]))


def a_row_is_there_instead_of_another(case):
    case.write(lambda rows: some_rows(rows).__setitem__(1, some_rows(rows)[2]))


def a_file_is_added_under_two_names(case):
    case.write()
    copy_path = case.first.with_name("00000000000000aa-0000.parquet")
    shutil.copy(case.first, copy_path)
    log = case.store.log(case.target) / f"{0:020}.json"
    adds = [it for it in log.read_text().splitlines() if case.first.name in it]
    add = next(it for it in adds if case.first.parent.name[5:] in it)
    case.store.append(case.target, 2, [json.loads(add.replace(case.first.name, copy_path.name))])


def half_of_an_unknown_request_is_stored(case):
    case.stored.append(copy.copy(case.spanning))
    case.stored[-1].parts = case.spanning.parts[:1]
    case.write()


def a_refused_request_is_stored(case):
    case.stored.append(case.refused[0])
    case.write()


def rows_of_another_table(case):
    def change(rows):
        moved = rows.pop((("alpha", "cpu"), DAYS[0]))
        rows.setdefault((("alpha", "Disk"), DAYS[0]), []).extend(moved)

    case.write(change)


def a_value_is_another(case):
    case.write(lambda rows: some_rows(rows)[0].update(v=0.3))


def a_time_is_another(case):
    case.write(lambda rows: some_rows(rows)[0].update(time_ns=8))


def an_added_column_is_not_null(case):
    case.write(lambda rows: some_rows(rows)[0].update(w10=some_rows(rows)[0]["n"]))


def a_file_that_was_never_committed(case):
    case.write()
    shutil.copy(case.first, case.first.with_name("00000000000000aa-0000.parquet"))


def half_a_file_is_left(case):
    case.write()
    case.first.with_name(".00000000000000aa-0000.parquet.tmp").write_bytes(b"PAR1")


def a_live_file_is_missing(case):
    case.write()
    case.first.unlink()


def a_live_file_is_cut(case):
    case.write()
    case.first.write_bytes(case.first.read_bytes()[:-100])


def statistics_are_wrong(case):
    case.write()
    change_commit(case, lambda text: text.replace('numRecords\\": ', 'numRecords\\": 1'))


def a_commit_is_missing(case):
    case.write()
    path = case.store.log(case.target) / f"{1:020}.json"
    path.rename(path.with_name(f"{2:020}.json"))


def a_commit_is_half(case):
    case.write()
    change_commit(case, lambda text: text[: len(text) // 2])


def a_transaction_goes_back(case):
    case.write()
    case.store.append(case.target, 2, [{"txn": {"appId": "i/0", "version": 0}}])


# What the checker must name, and nothing else. A table whose log or file is broken misses rows too.
FAULTS = {
    nothing: set(),
    from_a_checkpoint: set(),
    a_row_is_left_out: {"lost"},
    a_row_is_there_twice: {"doubled"},
    a_row_is_there_instead_of_another: {"lost", "doubled"},
    a_file_is_added_under_two_names: {"doubled"},
    half_of_an_unknown_request_is_stored: {"torn"},
    a_refused_request_is_stored: {"refused"},
    rows_of_another_table: {"altered", "lost", "misplaced"},
    a_value_is_another: {"altered"},
    a_time_is_another: {"altered"},
    an_added_column_is_not_null: {"altered"},
    a_file_that_was_never_committed: {"orphan"},
    half_a_file_is_left: {"orphan"},
    a_live_file_is_missing: {"file", "lost"},
    a_live_file_is_cut: {"file", "lost"},
    statistics_are_wrong: {"log"},
    a_commit_is_missing: {"log", "lost"},
    a_commit_is_half: {"log", "lost"},
    a_transaction_goes_back: {"log", "lost"},
}


def main():
    failures = 0
    for damage, expected in FAULTS.items():
        root = Path(tempfile.mkdtemp(prefix="peristyle-sabotage-"))
        case = Case(root)
        damage(case)
        checker = Checker(root)
        found = checker.check(case.ledger)
        if not expected:
            found += check_totals(checker)[0]
            # Settled: the same rows once more are too many.
            case.store.append(case.target, 2, [])
            late = case.store.rows(case.acknowledged[:1])
            for (target, day), rows in late.items():
                add = case.store.write(target, f"date={day}/00000000000000bb-0000.parquet", rows)
                version = 3 if target == case.target else 2
                case.store.append(target, version, [add])
            if {it.kind for it in checker.check(case.ledger)} != {"doubled"}:
                found += ["rows that came after they were settled are not found"]
        kinds = {getattr(it, "kind", it) for it in found}
        is_right = kinds == expected
        print(f"{'ok' if is_right else 'NOT FOUND':>9}  {damage.__name__.replace('_', ' ')}")
        if not is_right:
            failures += 1
            print(f"           expected {sorted(expected)}, found {sorted(kinds)}")
            for violation in found[:3]:
                print(f"           {violation}")
        shutil.rmtree(root)
    print(f"{len(FAULTS)} cases, {failures} not as they should be")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
