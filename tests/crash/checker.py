"""Compares the tables of a data directory with a ledger.

    I1  what was acknowledged is stored                                     lost
    I2  each row once                                                       doubled
    I3  an unknown request whole or not at all, over all its measurements   torn
        a refused one not at all                                            refused
    I4  a row only where it was sent to                                     misplaced
    I6  every live file is readable and is what the log says of it; no      file, orphan, log
        Parquet file or half-written one beside the live ones
    and every value is the one that was sent, added columns null in rows    altered
    that were sent without them

It reads when the server has flushed and nothing is written, and only what came since the last
check. What a check has seen is settled: nothing of these requests may come later.
"""

import re
from collections import defaultdict

import pyarrow
import pyarrow.compute as pc
import pyarrow.parquet

from delta_log import Broken, DeltaLog
from ledger import (
    ACKNOWLEDGED,
    BEGIN_US,
    CLIENT_US,
    DAY_US,
    REFUSED,
    REQUESTS_OF_CLIENT,
    Violation,
)

DAYS = ("2023-11-14", "2023-11-15")
# The server's own measurement, for rejected rows: its rows are not compared.
OWN = "_rejected"
ADDED = re.compile(r"w\d+")
TYPES = {
    "time": "timestamp[us, tz=UTC]",
    "client": "string",
    "request": "int64",
    "n": "int64",
    "target": "string",
    "v": "double",
}


class Table:
    """One measurement's directory, and what was read of it."""

    def __init__(self, directory, is_logged):
        self.directory = directory
        self.target = None  # database and measurement: known by its first file
        self.log = DeltaLog(directory) if is_logged else None
        self.seen = set()

    def __str__(self):
        return "/".join(self.target or self.directory.parts[-2:])

    def on_disk(self):
        """Every file but the log, by its path in the table."""
        paths = (it for it in self.directory.rglob("*") if it.is_file())
        names = (it.relative_to(self.directory).as_posix() for it in paths)
        return {it for it in names if not it.startswith("_delta_log/")}

    def new_files(self):
        """The live files that were not there at the last check; yields violations."""
        on_disk = self.on_disk()
        if self.log is None:
            fresh, live = on_disk - self.seen, on_disk
        else:
            fresh, gone = self.log.advance()
            live = set(self.log.live)
            for path in sorted(gone):
                yield Violation("log", f"{self}: {path} was removed; nothing here removes files")
        for path in sorted(on_disk - live):
            yield Violation("orphan", f"{self}: {path} is not in the log")
        for path in sorted(live - on_disk):
            yield Violation("file", f"{self}: {path} is in the log and not there")
        self.fresh = sorted(fresh & on_disk)
        self.seen |= fresh

    def read(self, path):
        """Yields what is wrong with a file, and at last its rows if they can be compared."""
        where = f"{self}: {path}"
        try:
            file = pyarrow.parquet.ParquetFile(self.directory / path)
            table = file.read()
        except (OSError, pyarrow.ArrowException) as error:
            yield Violation("file", f"{where}: unreadable: {error}")
            return
        footer = file.metadata.metadata or {}
        names = (footer.get(b"peristyle." + it, b"") for it in (b"database", b"measurement"))
        target = tuple(it.decode() for it in names)
        self.target = self.target or target
        if target != self.target:
            yield Violation("misplaced", f"{where}: its footer says {target}")
        if target[1] == OWN:
            return
        for name, kind in TYPES.items():
            if name not in table.column_names or str(table.schema.field(name).type) != kind:
                yield Violation("file", f"{where}: expected {name} as {kind}\n{table.schema}")
                return
        day = path.split("/")[0].removeprefix("date=")
        us = table["time"].cast("int64")
        expected = BEGIN_US + DAYS.index(day) * DAY_US if day in DAYS else 0
        if pc.min(us).as_py() < expected or pc.max(us).as_py() >= expected + DAY_US:
            yield Violation("altered", f"{where}: rows of another day")
        if self.log is not None:
            yield from self.compare_with_log(self.log.live[path], day, table)
        yield table

    def compare_with_log(self, live, day, table):
        """What the log says of a file is what a reader relies on to skip it."""
        where, stats = f"{self}: {live.path}", live.stats or {}
        size = (self.directory / live.path).stat().st_size
        bounds = [(stats.get(it) or {}).get("n") for it in ("minValues", "maxValues")]
        actual = [pc.min(table["n"]).as_py(), pc.max(table["n"]).as_py()]
        facts = [
            ("size", live.size, size),
            ("date", str(live.partition.get("date")), day),
            ("numRecords", stats.get("numRecords"), table.num_rows),
            ("bounds of n", bounds, actual if bounds != [None, None] else bounds),
        ]
        for name, said, found in facts:
            if said != found:
                yield Violation("log", f"{where}: the log says {name} {said}, it is {found}")
        unknown = set(table.column_names) - set(self.log.columns)
        if unknown:
            yield Violation("log", f"{where}: columns that the log has not: {sorted(unknown)}")


def wrong_rows(rows, table):
    """What every row says of itself, in all columns at once; yields violations."""
    n, request = rows["n"], rows["request"]
    client = pc.cast(pc.utf8_slice_codeunits(rows["client"], 1), pyarrow.int64())
    odd = pc.bit_wise_and(n, 1)
    us = pc.add(pc.add(pc.multiply(client, CLIENT_US), pc.multiply(odd, DAY_US)), n)
    below = rows["time_ns"] if "time_ns" in rows.column_names else pyarrow.nulls(len(n), "int16")
    below = pc.fill_null(below, 0)
    of_request = pc.divide(request, REQUESTS_OF_CLIENT)
    is_right = {
        "misplaced": pc.equal(rows["target"], "|".join(table.target)),
        "client": pc.equal(of_request, client),
        "time": pc.equal(rows["time"].cast("int64"), pc.add(us, BEGIN_US)),
        "time_ns": pc.equal(below, pc.multiply(pc.bit_wise_and(client, 1), 7)),
        "v": pc.equal(rows["v"], pc.divide(pc.cast(n, "double"), 8.0)),
    }
    for name in filter(ADDED.fullmatch, rows.column_names):
        kind = pyarrow.int64() if int(name[1:]) % 2 == 0 else pyarrow.string()
        same = pc.equal(rows[name], pc.cast(n, kind))
        is_right[name] = pc.or_kleene(pc.is_null(rows[name]), same)
    for name, right in is_right.items():
        wrong = pc.invert(pc.fill_null(right, False))
        if pc.any(wrong).as_py():
            found = rows.filter(wrong).slice(0, 2).to_pylist()
            count = pc.sum(wrong).as_py()
            kind = name if name == "misplaced" else "altered"
            yield Violation(kind, f"{table}: {name} of {count} rows, such as {found}")


class Found:
    """The rows of one request in one table."""

    __slots__ = ("table", "rows", "distinct", "first", "last", "added")

    def __init__(self, table, row, added):
        self.table, self.rows, self.distinct = table, row["n_count"], row["n_count_distinct"]
        self.first, self.last = row["n_min"], row["n_max"]
        self.added = {it: row[f"{it}_count"] for it in added}


def rows_by_request(rows, table):
    """The requests that have rows in `rows`, with what a judge needs to know of them."""
    added = sorted(filter(ADDED.fullmatch, rows.column_names))
    sums = [("n", it) for it in ("count", "count_distinct", "min", "max")]
    sums += [(it, "count") for it in added]
    for row in rows.group_by("request").aggregate(sums).to_pylist():
        yield row["request"], Found(table, row, added)


class Checker:
    """Everything read so far of one data directory."""

    def __init__(self, data_dir, is_logged=True):
        self.data_dir, self.is_logged = data_dir, is_logged
        self.tables = {}
        self.expected = defaultdict(lambda: defaultdict(lambda: [0, 0]))

    def discover(self):
        """All tables by their directories, the new ones too."""
        for directory in sorted((self.data_dir / "tables").glob("*/*")):
            if directory not in self.tables:
                self.tables[directory] = Table(directory, self.is_logged)
        return self.tables.values()

    def read(self):
        """All rows that came since the last check, by request; and what is wrong in them."""
        found, violations, targets = defaultdict(list), [], {}
        for table in self.discover():
            try:
                violations += table.new_files()
            except (Broken, OSError, ValueError, KeyError, pyarrow.ArrowException) as error:
                violations.append(Violation("log", f"{table}: {error!r}"))
                continue
            results = [it for path in table.fresh for it in table.read(path)]
            violations += [it for it in results if isinstance(it, Violation)]
            parts = [it for it in results if isinstance(it, pyarrow.Table)]
            other = targets.setdefault(table.target, table)
            if table.target and other is not table:
                text = f"{table.directory} and {other.directory} both hold {table}"
                violations.append(Violation("misplaced", text))
            elif parts:
                rows = pyarrow.concat_tables(parts, promote_options="default")
                violations += wrong_rows(rows, table)
                for request, of_request in rows_by_request(rows, table):
                    found[request].append(of_request)
        return found, violations

    def check(self, ledger):
        """Compares what came with the open requests, and settles them; returns violations."""
        found, violations = self.read()
        violations += ledger.violations
        ledger.violations = []
        for id, request in sorted(ledger.open.items()):
            violations += self.judge(request, found.pop(id, []))
        for id, rows in sorted(found.items()):
            where = ", ".join(f"{it.table}: {it.rows} rows, n {it.first}..{it.last}" for it in rows)
            text = f"request {id} was settled by an earlier check, or never sent: {where}"
            violations.append(Violation("doubled", text))
        ledger.settle()
        return violations

    def judge(self, request, found):
        """One request: yields what is wrong with it."""
        by_target = {it.table.target: it for it in found}
        targets = [(request.database, part.measurement) for part in request.parts]
        for target, it in by_target.items():
            if target not in targets:
                yield Violation("misplaced", f"{request}: {it.rows} rows in {it.table}")
        held = [by_target.get(it) for it in targets]
        rows = sum(it.rows for it in held if it)
        sizes = ", ".join(
            f"{part.measurement}: {it.rows if it else 0} of {part.count} rows"
            f" (n {part.first}..{part.first + part.count - 1})"
            for part, it in zip(request.parts, held)
        )
        if request.state == REFUSED:
            if rows:
                yield Violation("refused", f"{request} is stored: {sizes}")
            return
        if request.state != ACKNOWLEDGED and not rows:
            return
        kind = "lost" if request.state == ACKNOWLEDGED else "torn"
        if any(it is None or it.distinct < part.count for part, it in zip(request.parts, held)):
            yield Violation(kind, f"{request}: {request.database}: {sizes}")
        if any(it and it.rows > it.distinct for it in held):
            yield Violation("doubled", f"{request}: {request.database}: {sizes}")
        for part, it in zip(request.parts, held):
            if it is None:
                continue
            last = part.first + part.count - 1
            if (it.first, it.last) != (part.first, last) and it.distinct >= part.count:
                text = f"{request}: n {it.first}..{it.last}, expected {part.first}..{last}"
                yield Violation("altered", text)
            for column in {*it.added, *part.added}:
                values, sent = it.added.get(column, 0), it.rows if column in part.added else 0
                if values != sent:
                    text = f"{request}: {it.table}: {column}: {values} values, expected {sent}"
                    yield Violation("altered", text)
            sums = self.expected[(request.database, part.measurement)][request.client]
            sums[0] += part.count
            sums[1] += sum(range(part.first, last + 1))

    def totals(self):
        """Rows and sum of `n` of each client in each table: all that was judged stored."""
        return {k: {c: tuple(it) for c, it in v.items()} for k, v in self.expected.items()}


def read_totals(data_dir, is_logged=True):
    """The same, read afresh: from the newest checkpoint on, every live file once more."""
    checker, totals, checkpoints = Checker(data_dir, is_logged), {}, 0
    for table in checker.discover():
        sums = {}
        # From the checkpoint: as if the older commits were cleaned up.
        if table.log is not None:
            names = [it.name for it in (table.directory / "_delta_log").iterdir()]
            versions = sorted({it[:20] for it in names if ".checkpoint." in it})
            if versions:
                checkpoints += 1
                table.log.load([it for it in names if it.startswith(versions[-1] + ".checkpoint")])
                table.log.version = int(versions[-1])
            table.log.advance()
        paths = table.on_disk() if table.log is None else table.log.live
        for path in sorted(paths):
            for rows in table.read(path):
                if isinstance(rows, Violation):
                    raise Broken(rows.text)
                grouped = rows.group_by("client").aggregate([("n", "count"), ("n", "sum")])
                for row in grouped.to_pylist():
                    it = sums.setdefault(int(row["client"][1:]), [0, 0])
                    it[0] += row["n_count"]
                    it[1] += row["n_sum"]
        if sums:
            totals[table.target] = {c: tuple(it) for c, it in sums.items()}
    return totals, checkpoints


def check_totals(checker):
    """After many checks: the whole directory once more, against the sum of what they saw."""
    try:
        found, checkpoints = read_totals(checker.data_dir, checker.is_logged)
    except (Broken, OSError, ValueError, pyarrow.ArrowException) as error:
        return [Violation("log", f"reading afresh: {error!r}")], 0
    expected, violations = checker.totals(), []
    for target in sorted({*found, *expected}):
        if found.get(target, {}) != expected.get(target, {}):
            text = f"{target} read afresh: {found.get(target)}, expected {expected.get(target)}"
            violations.append(Violation("log", text))
    return violations, checkpoints
