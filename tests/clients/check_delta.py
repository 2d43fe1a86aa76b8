"""The Delta logs, read by engines that users have: DuckDB, delta-rs and ClickHouse.

    check_delta.py                         against $PERISTYLE_URL and $PERISTYLE_DATA_DIR
    check_delta.py DATA_DIR EXPECTED.json  compares only; segments.differences has the form

What is written is what check_read_back.py writes. Each engine must find the same rows through the
log that readers of plain files find in the directory, `date` among the columns.
"""

import json
import os
import sys
from pathlib import Path

import chdb
import deltalake
import duckdb
import pyarrow

import check_read_back
from segments import differences, directory_of

DATABASE = "Delta/log"  # encoded in paths


def duckdb_extension():
    """DuckDB's extension comes as a package, so that nothing is fetched when it is loaded."""
    found = [
        path
        for place in sys.path
        if Path(place).is_dir()
        for path in Path(place).glob("duckdb_extension_delta/**/*.duckdb_extension")
    ]
    if not found:
        sys.exit("duckdb-extension-delta is not installed: see requirements.txt")
    return found[0]


def read_by_duckdb(directory):
    connection = duckdb.connect()
    connection.sql(f"LOAD '{duckdb_extension()}'")
    connection.sql("SET TimeZone = 'UTC'")
    query = "SELECT * FROM delta_scan($table) ORDER BY time"
    return connection.sql(query, params={"table": str(directory)}).to_arrow_table()


def read_by_delta_rs(directory):
    return deltalake.DeltaTable(str(directory)).to_pyarrow_table().sort_by("time")


def read_by_clickhouse(directory):
    query = (
        f"SELECT * FROM deltaLakeLocal('{directory}') ORDER BY time"
        " SETTINGS output_format_arrow_string_as_string = 1, session_timezone = 'UTC'"
    )
    return chdb.query(query, "ArrowTable")


READERS = {
    "DuckDB": read_by_duckdb,
    "delta-rs": read_by_delta_rs,
    "ClickHouse": read_by_clickhouse,
}


def differences_of_dates(data_dir, expected):
    """`date` is the day of `time`, for every row and in every engine."""
    for database, measurements in expected.items():
        for measurement in measurements:
            directory = directory_of(data_dir, database, measurement)
            for reader, read in READERS.items():
                table = read(directory)
                times = table["time"].cast(pyarrow.timestamp("us", "UTC"))
                if table["date"].to_pylist() != times.cast(pyarrow.date32()).to_pylist():
                    yield f"{reader}: {database}/{measurement}: date: expected the day of time"


def without_types(expected):
    """ClickHouse has types of its own: only values are compared with it."""
    copy = json.loads(json.dumps(expected))
    for measurements in copy.values():
        for table in measurements.values():
            for column in table.get("columns", {}).values():
                column.pop("type", None)
    return copy


def main():
    if len(sys.argv) == 3:
        data_dir = sys.argv[1]
        with open(sys.argv[2], encoding="utf-8") as file:
            expected = json.load(file)
    elif len(sys.argv) == 1:
        data_dir = os.environ["PERISTYLE_DATA_DIR"]
        check_read_back.DATABASE = DATABASE
        expected = check_read_back.write()
    else:
        sys.exit(__doc__)
    # ClickHouse reads local files below the directory that it is started in only.
    data_dir = os.path.abspath(data_dir)
    os.chdir(data_dir)
    found = []
    for name, read in READERS.items():
        wanted = without_types(expected) if name == "ClickHouse" else expected
        found.extend(differences(data_dir, wanted, {name: read}))
    found.extend(differences_of_dates(data_dir, expected))
    for difference in found:
        print(difference)
    measurements = sum(len(it) for it in expected.values())
    print(f"{measurements} tables by {len(READERS)} engines: {len(found)} differences")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
