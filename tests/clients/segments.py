"""Reads the files of a measurement as their users do, by DuckDB and by pyarrow; compares them."""

import decimal
import math
from pathlib import Path

import duckdb
import pyarrow
import pyarrow.dataset
import pyarrow.parquet

PLAIN = b"abcdefghijklmnopqrstuvwxyz0123456789"
DEVICES = {"con", "prn", "aux", "nul"} | {f"{it}{n}" for it in ("com", "lpt") for n in range(10)}


def encode_name(name):
    """A database or measurement as a path component: schemas/segment.md, without the hash."""
    device = name.split(".")[0] in DEVICES
    raw = name.encode()
    component = ""
    for at, byte in enumerate(raw):
        first, last = at == 0, at == len(raw) - 1
        verbatim = (
            (byte in PLAIN and not (device and first))
            or (byte in b"_-" and not first)
            or (byte in b"." and not first and not last)
        )
        component += chr(byte) if verbatim else f"@{byte:02X}"
    if len(component) > 180:
        raise ValueError(f"{name[:40]}...: hashed names are found by their footer, not by this")
    return component or "@"


def directory_of(data_dir, database, measurement):
    return Path(data_dir) / "tables" / encode_name(database) / encode_name(measurement)


def glob_of(directory):
    return str(directory / "date=*" / "*.parquet")


def read_by_duckdb(directory):
    """All rows in order of time, as a table of pyarrow's."""
    connection = duckdb.connect()
    connection.sql("SET TimeZone = 'UTC'")
    return connection.sql(
        "SELECT * FROM read_parquet($glob, union_by_name=true, hive_partitioning=true)"
        " ORDER BY time",
        params={"glob": glob_of(directory)},
    ).to_arrow_table()


def read_by_pyarrow(directory):
    """The same by pyarrow, with the union of all files' columns."""
    files = sorted(directory.glob("date=*/*.parquet"))
    schemas = [pyarrow.parquet.read_schema(it).remove_metadata() for it in files]
    schema = pyarrow.unify_schemas([pyarrow.schema([("date", pyarrow.string())]), *schemas])
    dataset = pyarrow.dataset.dataset(
        [str(it) for it in files],
        schema=schema,
        format="parquet",
        partitioning=pyarrow.dataset.partitioning(
            pyarrow.schema([("date", pyarrow.string())]), flavor="hive"
        ),
        partition_base_dir=str(directory),
    )
    return dataset.to_table().sort_by("time")


READERS = {"DuckDB": read_by_duckdb, "pyarrow": read_by_pyarrow}


def values_of(column):
    """Plain values: timestamps as microseconds, whole decimals as integers."""
    if pyarrow.types.is_timestamp(column.type):
        column = column.cast(pyarrow.timestamp("us", column.type.tz)).cast(pyarrow.int64())
    values = column.to_pylist()
    return [int(it) if isinstance(it, decimal.Decimal) else it for it in values]


def is_equal_sum(values, expected):
    present = [it for it in values if it is not None]
    if any(isinstance(it, float) for it in present):
        return math.isclose(math.fsum(present), expected, rel_tol=1e-9, abs_tol=1e-12)
    return sum(present) == expected


def differences_of_column(column, expected):
    values = values_of(column)
    count = sum(it is not None for it in values)
    if "type" in expected and str(column.type) != expected["type"]:
        yield f"expected type {expected['type']}, found {column.type}"
    if "count" in expected and count != expected["count"]:
        yield f"expected {expected['count']} values, found {count}"
    if "sum" in expected and not is_equal_sum(values, expected["sum"]):
        yield f"expected a sum of {expected['sum']}"
    if "values" in expected and values != expected["values"]:
        yield f"expected {expected['values']}, found {values}"


def differences_of_table(table, expected):
    if "rows" in expected and table.num_rows != expected["rows"]:
        yield f"expected {expected['rows']} rows, found {table.num_rows}"
    for name in expected.get("absent", []):
        if name in table.column_names:
            yield f"{name}: expected no such column"
    for name, column in expected.get("columns", {}).items():
        if name not in table.column_names:
            yield f"{name}: expected a column, found {table.column_names}"
            continue
        for difference in differences_of_column(table[name], column):
            yield f"{name}: {difference}"


def differences(data_dir, expected, readers=READERS):
    """One line for each difference between the files and `expected`, which is

        {DATABASE: {MEASUREMENT: {
            "rows": 3,
            "columns": {COLUMN: {               each key may be left out
                "type": "double",               as pyarrow names it
                "count": 2,                     values that are not null
                "sum": 1.5,                     integers exactly, floats within 1e-9
                "values": [0.5, None, 1.0]      in order of time; times in microseconds
            }},
            "absent": [COLUMN]                  columns that must not exist
        }}}
    """
    for database, measurements in expected.items():
        for measurement, table in measurements.items():
            directory = directory_of(data_dir, database, measurement)
            for reader, read in readers.items():
                for difference in differences_of_table(read(directory), table):
                    yield f"{reader}: {database}/{measurement}: {difference}"
