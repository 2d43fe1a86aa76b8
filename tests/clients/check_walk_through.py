"""The walk-through of README.md: write twice, flush, read both back with DuckDB."""

import json
import os
import urllib.request

import duckdb
import msgpack

URL = os.environ["PERISTYLE_URL"]
DATABASE = "walk_through"
TABLES = os.path.join(os.environ["PERISTYLE_DATA_DIR"], "tables", DATABASE)


def post(path, body=b""):
    """Posts `body` and returns status and answer."""
    request = urllib.request.Request(URL + path, data=body, method="POST")
    with urllib.request.urlopen(request) as response:
        return response.status, response.read()


def rows(measurement, columns):
    """The rows of a measurement in order of time."""
    files = f"{TABLES}/{measurement}/date=*/*.parquet"
    table = f"read_parquet('{files}', union_by_name=true, hive_partitioning=true)"
    return duckdb.sql(f"select {columns} from {table} order by time").fetchall()


LINES = b"""\
weather,city=Zurich temp=4.5,rain=false 1700000000000000000
weather,city=Basel temp=6,wind=12i 1700000001000000000
"""
assert post(f"/write?db={DATABASE}", LINES) == (204, b"")

COLUMNS = {
    "time": [1700000000000, 1700000001000],
    "room": ["hall", "attic"],
    "open": [True, False],
    "level": [1.25, -2.5],
}
BODY = msgpack.packb({"m": "door", "columns": COLUMNS, "tag_keys": ["room"]})
assert post(f"/api/v1/write/msgpack?db={DATABASE}", BODY) == (204, b"")

status, answer = post(f"/api/v1/flush?db={DATABASE}")
assert (status, json.loads(answer)) == (200, {"files": 2, "rows": 4}), (status, answer)

found = rows("weather", "epoch_us(time), city, temp, rain, wind, date::varchar")
assert found == [
    (1700000000000000, "Zurich", 4.5, False, None, "2023-11-14"),
    (1700000001000000, "Basel", 6.0, None, 12, "2023-11-14"),
], found
found = rows("door", "epoch_us(time), room, open, level")
assert found == [
    (1700000000000000, "hall", True, 1.25),
    (1700000001000000, "attic", False, -2.5),
], found
