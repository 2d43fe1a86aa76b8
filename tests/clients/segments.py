"""Reads the Parquet files of a measurement as their users do: by DuckDB and by pyarrow."""

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
        component += chr(byte) if verbatim else f"%{byte:02X}"
    if len(component) > 180:
        raise ValueError(f"{name[:40]}...: hashed names are found by their footer, not by this")
    return component or "%"


def directory_of(data_dir, database, measurement):
    return Path(data_dir) / "tables" / encode_name(database) / encode_name(measurement)


def glob_of(directory):
    return str(directory / "**" / "*.parquet")


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
    files = sorted(directory.glob("**/*.parquet"))
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
