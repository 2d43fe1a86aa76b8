"""Reads tables by DuckDB's delta extension, deltalake and ClickHouse (chdb), and compares them.

    readers.py --binary target/release/peristyle    needs tests/clients/requirements.txt

A server is loaded, killed and started again; columns are added meanwhile. While it writes, every
reader has to read every table: each row once, and no row lost from one read to the next. After a
last flush all of them have to give the same as our own reader (checker.py): for each client the
rows, the sum of `n`, and how many rows have each of the added columns.
"""

import importlib.util
import os
import random
import time
from pathlib import Path

import chdb
import deltalake
import duckdb
import pyarrow
import pyarrow.parquet

from checker import ADDED, Checker, check_totals
from delta_log import DeltaLog
from ledger import ACKNOWLEDGED, Ledger, Violation
from server import Died, Server, arguments, finish, scratch_of

SETTINGS = {"flush_interval": "300ms", "memory_limit": "256MiB", "wal_segment_bytes": "1MiB"}


def delta_extension():
    """The signed extension that the package `duckdb-extension-delta` brings."""
    root = Path(importlib.util.find_spec("duckdb_extension_delta").origin).parent
    return next(root.rglob("delta.duckdb_extension"))


def query_of(columns, table):
    """The same sums in every dialect: of each client its rows, `n`, days, and added columns."""
    added = [it for it in columns if ADDED.fullmatch(it)]
    sums = ["count(*)", "sum(n)", "count(distinct n)", "count(distinct date)", "count(time)"]
    sums += [f"count({it})" for it in added]
    return f"select client, {', '.join(sums)} from {table} group by client order by client"


def plain(rows):
    return [(row[0], *(int(it) for it in row[1:])) for row in rows]


def by_duckdb(directory, columns):
    connection = duckdb.connect()
    connection.sql(f"load '{delta_extension()}'")
    return plain(connection.sql(query_of(columns, f"delta_scan('{directory}')")).fetchall())


def by_deltalake(directory, columns):
    data = deltalake.DeltaTable(str(directory)).to_pyarrow_dataset()
    connection = duckdb.connect()
    connection.register("data", data)
    return plain(connection.sql(query_of(columns, "data")).fetchall())


def by_clickhouse(directory, columns):
    query = query_of(columns, f"deltaLakeLocal('{directory}')")
    rows = chdb.query(query, "ArrowTable").to_pylist()
    return plain([tuple(row.values()) for row in rows])


def by_us(directory, columns):
    """The files that the log says are live, read by pyarrow."""
    log = DeltaLog(directory)
    log.advance()
    parts = []
    for live in log.live.values():
        part = pyarrow.parquet.ParquetFile(directory / live.path).read()
        day = pyarrow.array([live.partition["date"]] * part.num_rows)
        parts.append(part.append_column("date", day))
    table = pyarrow.concat_tables(parts, promote_options="default")
    for name in set(columns) - set(table.column_names):
        table = table.append_column(name, pyarrow.nulls(table.num_rows))
    connection = duckdb.connect()
    connection.register("data", table)
    return plain(connection.sql(query_of(columns, "data")).fetchall())


READERS = {"DuckDB": by_duckdb, "deltalake": by_deltalake, "ClickHouse": by_clickhouse}


def tables_of(data_dir):
    """The tables of the ledger; that of rejected rows has other columns."""
    found = sorted(data_dir.glob("tables/*/*/_delta_log"))
    return [it.parent for it in found if not it.parent.name.endswith("rejected")]


def columns_of(directory):
    log = DeltaLog(directory)
    log.advance()
    return sorted(log.columns)


def read_while_writing(server, last):
    """Every reader on every table, as they are at this moment; yields violations."""
    for directory in tables_of(server.data_dir):
        columns = columns_of(directory)
        for reader, read in READERS.items():
            try:
                rows = read(directory, columns)
            except Exception as error:  # Each of them has errors of its own.
                text = f"{reader}: {directory}: {error!r}"
                yield Violation("reader", text[:1000])
                continue
            doubled = [row for row in rows if row[1] != row[3]]
            total = sum(row[1] for row in rows)
            if doubled:
                yield Violation("reader", f"{reader}: {directory}: rows doubled: {doubled}")
            if total < last.get((reader, directory), 0):
                before = last[(reader, directory)]
                yield Violation("reader", f"{reader}: {directory}: {total} rows after {before}")
            last[(reader, directory)] = total


def read_at_the_end(data_dir):
    """All of them say the same; yields violations."""
    for directory in tables_of(data_dir):
        columns = columns_of(directory)
        expected = by_us(directory, columns)
        for reader, read in READERS.items():
            found = read(directory, columns)
            if found != expected:
                text = f"{reader}: {directory}: expected {expected}, found {found}"
                yield Violation("reader", text)


def main():
    options = arguments(__doc__, rounds=3, clients=3).parse_args()
    scratch = scratch_of(options)
    print(f"seed {options.seed}, data in {scratch}", flush=True)
    rng = random.Random(options.seed)
    # ClickHouse reads local files below the directory that it is started in only.
    os.chdir("/")
    server = Server(options, scratch / "data")
    ledger = Ledger(options.seed, options.clients, rows_log2=6, widen_share=0.02)
    checker, violations, last, reads = Checker(server.data_dir), [], {}, 0
    try:
        for number in range(options.rounds):
            ledger.round = number
            server.start(**SETTINGS)
            threads = ledger.run(server.address, lambda: not server.is_alive())
            time.sleep(1)
            for _ in range(2):
                violations += read_while_writing(server, last)
                reads += 1
            time.sleep(rng.uniform(0, 0.3))
            server.kill()
            for thread in threads:
                thread.join()
        server.start(**SETTINGS)
        server.flush()
        violations += checker.check(ledger)
        violations += read_at_the_end(server.data_dir)
        violations += check_totals(checker)[0]
    except Died as error:
        violations.append(Violation("died", str(error)))
    if server.process is not None:
        server.kill()
    counts = {
        "rounds": options.rounds,
        "readers": sorted(READERS),
        "reads_while_writing": reads,
        "tables": len(tables_of(server.data_dir)),
        "acknowledged": ledger.counts[ACKNOWLEDGED],
        "rows": ledger.counts["rows"],
    }
    finish(options, "readers", counts, violations, scratch)


if __name__ == "__main__":
    main()
