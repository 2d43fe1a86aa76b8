#!/usr/bin/env python3
"""Compares the Parquet files of a data directory with what should be in them.

    read_back.py DATA_DIR EXPECTED.json

EXPECTED.json, where every key of a column may be left out:

    {"DATABASE": {"MEASUREMENT": {
        "rows": 3,
        "columns": {"COLUMN": {
            "type": "double",               as pyarrow names it in the files
            "count": 2,                     values that are not null
            "sum": 1.5,                     integers exactly, floats within 1e-9
            "values": [0.5, null, 1.0]      in order of time; timestamps in microseconds
        }},
        "absent": ["COLUMN"]                columns that must not exist
    }}}

Both readers must agree. Exits with 1 and one line for each difference.
"""

import decimal
import json
import math
import sys

import pyarrow

from segments import READERS, directory_of


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


def differences(data_dir, expected):
    for database, measurements in expected.items():
        for measurement, table in measurements.items():
            directory = directory_of(data_dir, database, measurement)
            for reader, read in READERS.items():
                for difference in differences_of_table(read(directory), table):
                    yield f"{reader}: {database}/{measurement}: {difference}"


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[2], encoding="utf-8") as file:
        expected = json.load(file)
    found = list(differences(sys.argv[1], expected))
    for difference in found:
        print(difference)
    measurements = sum(len(it) for it in expected.values())
    print(f"{measurements} measurements by {len(READERS)} readers: {len(found)} differences")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
