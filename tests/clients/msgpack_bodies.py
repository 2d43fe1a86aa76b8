"""MessagePack bodies as real encoders make them, for the tests that write them to a server.

    python3 tests/clients/msgpack_bodies.py DIR    writes NAME.msgpack and NAME.json for each body

`tests/corpus/msgpack/clients` is what it wrote, so that `cargo test` needs no Python.

NAME.json lists the rows the server has to hold afterwards: measurement, time_ns, tags, fields.
Needs the package `msgpack`.
"""

import json
import pathlib
import struct
import sys
import zlib

import msgpack

T0 = 1_700_000_000
ROWS = 20


def row(measurement, time_ns, tags, fields):
    return {"measurement": measurement, "time_ns": time_ns, "tags": tags, "fields": fields}


def python_rows(use_bin_type):
    """The arc-tsdb-client shape: an array of rows, time in microseconds."""
    items, rows = [], []
    for n in range(ROWS):
        tags = {"host": f"web{n % 7}", "region": "eu"}
        fields = {"usage": n / 4, "n": n - 100, "ok": n % 2 == 0, "text": "caf\u00e9"}
        items.append({"m": "py_rows", "t": T0 * 10**6 + n, "tags": tags, "fields": fields})
        rows.append(row("py_rows", T0 * 10**9 + n * 1000, tags, fields))
    return msgpack.packb(items, use_bin_type=use_bin_type), rows


def python_binary(use_bin_type):
    """Keys and strings that are bytes in Python: bin, or raw str without use_bin_type."""
    item = {b"m": b"py_binary", b"t": T0, b"h": b"web1", b"fields": {b"s": b"raw", b"v": 1}}
    rows = [row("py_binary", T0 * 10**9, {"host": "web1"}, {"s": "raw", "v": 1})]
    return msgpack.packb(item, use_bin_type=use_bin_type), rows


def python_columnar():
    """Columns, seconds, nils, and tag_keys."""
    columns = {
        "time": [T0 + n for n in range(ROWS)],
        "host": [f"web{n % 3}" for n in range(ROWS)],
        "usage": [None if n % 5 == 0 else n / 8 for n in range(ROWS)],
        "n": list(range(ROWS)),
    }
    body = msgpack.packb({"tag_keys": ["host"], "columns": columns, "m": "py_columnar"})
    rows = []
    for n in range(ROWS):
        fields = {"n": n} if n % 5 == 0 else {"n": n, "usage": n / 8}
        rows.append(row("py_columnar", (T0 + n) * 10**9, {"host": f"web{n % 3}"}, fields))
    return body, rows


def python_batch():
    """A stream of batches from one Packer, as `Unpacker` reads it."""
    packer, body, rows = msgpack.Packer(), b"", []
    for n in range(10):
        items = [{"m": "py_batch", "t": T0 * 1000 + n, "f": [n, n / 2]} for _ in range(2)]
        body += packer.pack({"batch": items})
        fields = {"field_0": n, "field_1": n / 2}
        rows += [row("py_batch", T0 * 10**9 + n * 10**6, {}, fields)] * 2
    return body, rows


def go_int(value):
    """An int64 as vmihailenco/msgpack encodes it by default: always nine bytes."""
    return b"\xd3" + struct.pack(">q", value)


def go_array(values):
    """A slice as the Go encoder writes it: its length, then nine-byte numbers or short strings."""
    assert len(values) > 15
    body = b"\xdc" + struct.pack(">H", len(values))
    for value in values:
        if isinstance(value, int):
            body += go_int(value)
        else:
            body += msgpack.packb(value)
    return body


def go_columnar():
    """The load generator of Arc: every int64 and float64 is nine bytes, keys in random order."""
    columns = {
        "cpu_user": [n / 100 for n in range(ROWS)],
        "time": [T0 * 10**6 + n for n in range(ROWS)],
        "host": [f"server{n % 1000:03d}" for n in range(ROWS)],
        "value": [float(n) for n in range(ROWS)],
    }
    body = b"\x82" + msgpack.packb("columns") + bytes([0x80 | len(columns)])
    for name, values in columns.items():
        body += msgpack.packb(name) + go_array(values)
    body += msgpack.packb("m") + msgpack.packb("go_columnar")
    rows = []
    for n in range(ROWS):
        fields = {
            "cpu_user": n / 100,
            "host": f"server{n % 1000:03d}",
            "value": float(n),
        }
        rows.append(row("go_columnar", T0 * 10**9 + n * 1000, {}, fields))
    return body, rows


def telegraf_int(value):
    """An int64 as tinylib/msgp writes it: the smallest signed form."""
    if -32 <= value <= 127:
        return struct.pack(">b", value)
    for marker, form, bits in ((0xD0, ">b", 7), (0xD1, ">h", 15), (0xD2, ">i", 31)):
        if -(1 << bits) <= value < 1 << bits:
            return bytes([marker]) + struct.pack(form, value)
    return go_int(value)


def telegraf_time(seconds, ns):
    if ns == 0:
        return b"\xd6\xff" + struct.pack(">I", seconds)
    return b"\xd7\xff" + struct.pack(">Q", ns << 34 | seconds)


def telegraf_serializer():
    """data_format = "msgpack": maps one behind the other, fields in random order."""
    body, rows = b"", []
    for n in range(ROWS):
        ns = 0 if n % 2 else n
        fields = {"usage_idle": 100 - n / 10, "count": n * 40_000 - 70, "active": n % 3 == 0}
        names = sorted(fields, key=lambda name: zlib.crc32(f"{name}{n}".encode()))
        tags = {"cpu": f"cpu{n % 4}", "host": "web1"}
        body += b"\x84" + msgpack.packb("name") + msgpack.packb("tg_cpu")
        body += msgpack.packb("time") + telegraf_time(T0, ns)
        body += msgpack.packb("tags") + msgpack.packb(tags)
        body += msgpack.packb("fields") + bytes([0x80 | len(fields)])
        for name in names:
            value = fields[name]
            is_int = isinstance(value, int) and not isinstance(value, bool)
            body += msgpack.packb(name) + (telegraf_int(value) if is_int else msgpack.packb(value))
        rows.append(row("tg_cpu", T0 * 10**9 + ns, tags, fields))
    return body, rows


def telegraf_arc():
    """outputs.arc: several measurements, tags and fields alike, nil where a metric has no value."""
    items, rows = [], []
    for measurement, field in (("tg_mem", "used"), ("tg_disk", "free")):
        columns = {
            field: [n * 1024 for n in range(ROWS)],
            "host": ["web1"] * ROWS,
            "time": [T0 * 1000 + n for n in range(ROWS)],
            "rare": [0.5 if n % 50 == 0 else None for n in range(ROWS)],
        }
        items.append({"columns": columns, "m": measurement})
        for n in range(ROWS):
            fields = {field: n * 1024, "host": "web1"} | ({"rare": 0.5} if n % 50 == 0 else {})
            rows.append(row(measurement, T0 * 10**9 + n * 10**6, {}, fields))
    return msgpack.packb(items), rows


def bodies():
    return {
        "python_rows_bin": python_rows(True),
        "python_rows_raw": python_rows(False),
        "python_binary_bin": python_binary(True),
        "python_binary_raw": python_binary(False),
        "python_columnar": python_columnar(),
        "python_batch": python_batch(),
        "go_columnar": go_columnar(),
        "telegraf_serializer": telegraf_serializer(),
        "telegraf_arc": telegraf_arc(),
    }


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, (body, rows) in bodies().items():
        (folder / f"{name}.msgpack").write_bytes(body)
        (folder / f"{name}.json").write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
