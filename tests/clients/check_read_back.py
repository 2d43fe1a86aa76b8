"""Every kind and every shape, written to a server by real encoders and read back by real readers.

    check_read_back.py                         against $PERISTYLE_URL and $PERISTYLE_DATA_DIR
    check_read_back.py DATA_DIR EXPECTED.json  compares only; segments.differences has the form
"""

import gzip
import json
import os
import sys
import urllib.request

import msgpack

from segments import READERS, differences

DATABASE = "Read/back"  # encoded in paths
MS = 1_700_000_000_000
DAY_US = 86_400_000_000

LINES = """\
# what a line can say
kinds f=1.5,i=-9223372036854775808i,u=42u,s="",b=t 1
kinds,Host=a\\ b,\u00e9=\u00fc f=2,s="quote \\" and comma,",b=false 1999
kinds,Host=c i=9223372036854775807i,date="mine",a.b=1 -1
kinds f=0.1 86400000000000
""".encode()

EXPECTED_KINDS = {
    "rows": 4,
    "columns": {
        "time": {"type": "timestamp[us, tz=UTC]", "values": [-1, 0, 1, DAY_US]},
        "time_ns": {"type": "int16", "values": [999, 1, 999, 0]},
        "Host": {"type": "string", "values": ["c", None, "a b", None]},
        "\u00e9": {"type": "string", "values": [None, None, "\u00fc", None]},
        "f": {"type": "double", "values": [None, 1.5, 2.0, 0.1], "count": 3, "sum": 3.6},
        "i": {"type": "int64", "values": [(1 << 63) - 1, -(1 << 63), None, None], "sum": -1},
        "u": {"type": "int64", "values": [None, 42, None, None]},
        "s": {"type": "string", "values": [None, "", 'quote " and comma,', None]},
        "b": {"type": "bool", "values": [None, True, False, None]},
        "a.b": {"type": "double", "values": [1.0, None, None, None]},
        "date~1": {"type": "string", "values": ["mine", None, None, None]},
    },
}


def shapes():
    """The shapes of MessagePack; row `n` is at `MS + n`, with host `hn` and value `n + 0.5`."""
    yield {"m": "shapes", "t": MS, "h": "h0", "fields": {"v": 0.5}}
    yield {"fields": {"v": 1.5}, "tags": {"host": "h1"}, "t": MS + 1, "m": "shapes"}
    yield {"batch": [{"m": "shapes", "t": MS + 2, "h": "h2", "fields": {"v": 2.5}}]}
    yield {
        "m": "shapes",
        "columns": {"time": [MS + 3, MS + 4], "host": ["h3", "h4"], "v": [3.5, 4.5]},
        "tag_keys": ["host"],
    }
    yield [{"m": "shapes", "t": MS + 5, "h": "h5", "fields": {"v": 5.5}}]
    yield {
        "name": "shapes",
        "time": msgpack.Timestamp(MS // 1000, 6_000_000),
        "tags": {"host": "h6"},
        "fields": {"v": 6.5},
    }


EXPECTED_SHAPES = {
    "rows": 7,
    "columns": {
        "time": {"values": [(MS + it) * 1000 for it in range(7)]},
        "host": {"type": "string", "values": [f"h{it}" for it in range(7)]},
        "v": {"type": "double", "values": [it + 0.5 for it in range(7)], "sum": 24.5},
    },
    "absent": ["time_ns"],
}


def post(path, body=b"", headers=None):
    url = os.environ["PERISTYLE_URL"] + path
    request = urllib.request.Request(url, data=body, method="POST", headers=headers or {})
    with urllib.request.urlopen(request) as response:
        return response.status, response.read()


def write():
    """Writes everything, and returns what should be found."""
    expected = {"Kinds load": EXPECTED_KINDS}
    lines = LINES.replace(b"kinds", b"Kinds\\ load")
    gzipped = {"Content-Encoding": "gzip"}
    assert post(f"/write?db={DATABASE}", gzip.compress(lines), gzipped) == (204, b"")
    for use_bin_type in (True, False):
        measurement = f"shapes_{use_bin_type}"
        for separately in (True, False):
            bodies = [msgpack.packb(it, use_bin_type=use_bin_type) for it in shapes()]
            name = f"{measurement}_{separately}"
            # The name has six letters in every shape: its fixstr marker grows with it.
            old, new = (msgpack.packb(it) for it in ("shapes", name))
            bodies = [body.replace(old, new) for body in bodies]
            for body in bodies if separately else [b"".join(bodies)]:
                answer = post(f"/api/v1/write/msgpack?db={DATABASE}", body)
                assert answer == (204, b""), (name, answer, body)
            expected[name] = EXPECTED_SHAPES
    status, answer = post(f"/api/v1/flush?db={DATABASE}")
    assert status == 200, answer
    assert json.loads(answer)["rows"] == sum(it["rows"] for it in expected.values()), answer
    return {DATABASE: expected}


def main():
    if len(sys.argv) == 3:
        data_dir = sys.argv[1]
        with open(sys.argv[2], encoding="utf-8") as file:
            expected = json.load(file)
    elif len(sys.argv) == 1:
        data_dir = os.environ["PERISTYLE_DATA_DIR"]
        expected = write()
    else:
        sys.exit(__doc__)
    found = list(differences(data_dir, expected))
    for difference in found:
        print(difference)
    measurements = sum(len(it) for it in expected.values())
    print(f"{measurements} measurements by {len(READERS)} readers: {len(found)} differences")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
