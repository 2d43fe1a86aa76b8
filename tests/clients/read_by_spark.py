"""The guide's example for Spark, and tables that it reads cell by cell as DuckDB and pyarrow do.

    read_by_spark.py        against $PERISTYLE_URL and $PERISTYLE_DATA_DIR

Tables have every kind, nulls, columns that came later (older rows have nulls), columns of tags with
few values and with many, days before and after 1970, and names with capitals, spaces and dots.
At last Spark compacts a table, the server writes on, and all of them read it again.
"""

import contextlib
import datetime
import io
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pyarrow
from pyspark.sql import types

import check_book
import check_read_back
from check_delta import read_by_duckdb
from check_read_back import post
from segments import directory_of, read_by_pyarrow

DATABASE = "Spark/log"  # encoded in paths
START_S = 1_700_000_000
BATCHES = 4
ROWS = 20_000
# Spark's names of what pyarrow reads.
TYPES = {
    pyarrow.timestamp("us", "UTC"): types.TimestampType(),
    pyarrow.date32(): types.DateType(),
    pyarrow.int16(): types.ShortType(),
    pyarrow.int64(): types.LongType(),
    pyarrow.float64(): types.DoubleType(),
    pyarrow.bool_(): types.BooleanType(),
    pyarrow.string(): types.StringType(),
}


def line(batch, row):
    """A row of `wide`; each batch adds a tag and a field, and each fifth row leaves fields out."""
    tags = f"few=f{row % 7},many=m{row}_{batch},Late\\ {batch}=l{row % 3}"
    fields = [f"i={row - 5}i"]
    if row % 5:
        fields += [f"f={row / 8}", f"b={'t' if row % 2 else 'f'}", f'text="t\u00fc {row % 11}"']
    if row % 2:
        fields += [f"new.{batch}={row}i"]
    time_ns = (START_S + row * 11 + batch) * 10**9 + row % 3
    return f"wide,{tags} {','.join(fields)} {time_ns}"


def write():
    """Returns the measurements that there are."""
    check_read_back.DATABASE = DATABASE
    names = [*check_read_back.write()[DATABASE], "wide"]
    for batch in range(BATCHES):
        lines = "\n".join(line(batch, row) for row in range(ROWS))
        assert post(f"/write?db={DATABASE}", lines.encode()) == (204, b"")
        flush()
    return names


def flush():
    status, answer = post(f"/api/v1/flush?db={DATABASE}")
    assert status == 200 and json.loads(answer)["rows"] > 0, answer


def plain(value):
    """What is equal exactly when the cell is: 1 is not true, and floats have all their digits."""
    if isinstance(value, datetime.datetime):
        raise TypeError("a timestamp is compared as an integer")
    return (type(value).__name__, str(value))


def rows_of(table, reader):
    """Rows of an Arrow table, `date` as a date, timestamps in microseconds, in a fixed order."""
    columns = []
    for name in sorted(table.column_names):
        column = table[name].combine_chunks()
        if name == "date":
            column = column.cast(pyarrow.date32())
        if pyarrow.types.is_timestamp(column.type):
            column = column.cast(pyarrow.timestamp("us", "UTC")).cast(pyarrow.int64())
        columns.append([plain(it) for it in column.to_pylist()])
    rows = sorted(zip(*columns, strict=True))
    assert rows, f"{reader} found nothing"
    return rows


def read_by_spark(spark, directory):
    """The same, of a table that Spark reads by SQL."""
    frame = spark.sql(f"SELECT * FROM delta.`{directory}`")
    names = sorted(frame.columns)
    is_time = {it.name: it.dataType == types.TimestampType() for it in frame.schema}
    cells = [f"unix_micros(`{it}`)" if is_time[it] else f"`{it}`" for it in names]
    return sorted(tuple(plain(it) for it in row) for row in frame.selectExpr(*cells).collect())


def differences_of_schema(spark, directory, expected):
    found = {it.name: it.dataType for it in spark.sql(f"SELECT * FROM delta.`{directory}`").schema}
    wanted = {it.name: TYPES[it.type] for it in expected.schema if it.name != "date"}
    wanted["date"] = types.DateType()
    if found != wanted:
        yield f"expected columns {wanted}, found {found}"


def differences_of_days(spark, directory, rows, names):
    """A filter on `date` finds the rows of the day."""
    at = sorted(names).index("date")
    for day in sorted({row[at] for row in rows}):
        expected = sum(row[at] == day for row in rows)
        query = f"SELECT count(*) FROM delta.`{directory}` WHERE date = '{day[1]}'"
        found = spark.sql(query).first()[0]
        if found != expected:
            yield f"expected {expected} rows of {day[1]}, found {found}"


def differences(spark, data_dir, measurement, plain_files=True):
    directory = directory_of(data_dir, DATABASE, measurement)
    found = read_by_spark(spark, directory)
    log = read_by_duckdb(directory)
    expected = {"DuckDB": rows_of(log, "DuckDB")}
    if plain_files:
        expected["pyarrow"] = rows_of(read_by_pyarrow(directory), "pyarrow")
    texts = [*differences_of_schema(spark, directory, log)]
    texts += differences_of_days(spark, directory, found, log.column_names)
    for reader, rows in expected.items():
        if found != rows:
            first = next((pair for pair in zip(found, rows) if pair[0] != pair[1]), None)
            texts.append(f"{len(found)} rows, {reader} has {len(rows)}; the first apart: {first}")
    print(f"   {measurement}: {len(found)} rows, {len(log.column_names)} columns")
    return [f"{measurement}: {it}" for it in texts]


def run_example(data_dir):
    """The guide's example, as it stands there; returns its session."""
    post("/write?db=demo", check_book.WEATHER)
    post("/api/v1/flush?db=demo")
    (example,) = [it for _, it in check_book.blocks("reading.md", "python") if "pyspark" in it]
    shutil.copytree(Path(data_dir) / "tables", "peristyle-data/tables")
    names, printed = {}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(example, names)
    assert printed.getvalue() == "10.5\n", printed.getvalue()
    print(f"   the guide's example, Spark {names['spark'].version}: 10.5")
    return names["spark"]


def main():
    data_dir = os.path.abspath(os.environ["PERISTYLE_DATA_DIR"])
    with tempfile.TemporaryDirectory(prefix="peristyle-spark-") as scratch:
        os.chdir(scratch)
        spark = run_example(data_dir)
        measurements = write()
        found = [it for name in measurements for it in differences(spark, data_dir, name)]
        wide = directory_of(data_dir, DATABASE, "wide")
        assert spark.sql(f"OPTIMIZE delta.`{wide}`").first().metrics.numFilesRemoved > 0
        assert post(f"/write?db={DATABASE}", line(BATCHES, 0).encode()) == (204, b"")
        flush()
        # Files that a compaction replaced stay where they are.
        found += differences(spark, data_dir, "wide", plain_files=False)
        spark.stop()
    for difference in found:
        print(difference)
    print(f"{len(measurements)} tables by Spark, DuckDB and pyarrow: {len(found)} differences")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
