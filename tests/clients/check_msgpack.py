"""Bodies that real encoders make, written to the server and read back row by row."""

import json
import os
import urllib.request
from collections import defaultdict

from msgpack_bodies import bodies
from segments import READERS, directory_of

URL = os.environ["PERISTYLE_URL"]
DATA_DIR = os.environ["PERISTYLE_DATA_DIR"]


def post(path, body=b""):
    """Posts `body` and returns status and answer."""
    request = urllib.request.Request(URL + path, data=body, method="POST")
    with urllib.request.urlopen(request) as response:
        return response.status, response.read()


def row_of(time_ns, values):
    """A row in a form that sorts, and that tells 1, 1.0 and true apart."""
    return time_ns, sorted((name, repr(value)) for name, value in values.items())


def rows_of(table):
    """The rows of a measurement without nulls, `time` and `time_ns` as one number."""
    table = table.drop_columns(["date"])
    us = table["time"].cast("int64").to_pylist()
    rows = []
    for us, row in zip(us, table.drop_columns(["time"]).to_pylist()):
        below = row.pop("time_ns", None) or 0
        values = {name: value for name, value in row.items() if value is not None}
        rows.append(row_of(us * 1000 + below, values))
    return sorted(rows)


def check(name, body, sent):
    """Writes one body into a database of its own, and compares every row of every measurement."""
    database = f"msgpack_{name}"
    answer = post(f"/api/v1/write/msgpack?db={database}", body)
    assert answer == (204, b""), (name, answer)
    status, answer = post(f"/api/v1/flush?db={database}")
    assert status == 200 and json.loads(answer)["rows"] == len(sent), (name, answer)

    expected = defaultdict(list)
    for row in sent:
        expected[row["measurement"]].append(row_of(row["time_ns"], row["tags"] | row["fields"]))
    for measurement, rows in expected.items():
        directory = directory_of(DATA_DIR, database, measurement)
        for reader, read in READERS.items():
            found = rows_of(read(directory))
            assert found == sorted(rows), (name, reader, measurement, found[:2], sorted(rows)[:2])


CHECKED = bodies()
for name, (body, sent) in CHECKED.items():
    check(name, body, sent)
print(f"{len(CHECKED)} bodies by {len(READERS)} readers: every row equal")
