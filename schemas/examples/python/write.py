"""Writes the same two rows to Peristyle as MessagePack by columns, and as an Arrow IPC stream.

python write.py http://127.0.0.1:8086 [TOKEN]      pip install msgpack pyarrow
"""

import sys
import time
import urllib.error
import urllib.request

import msgpack
import pyarrow

BEGIN = 1_700_000_000_000_000_000


def post(url, body, token=None):
    """Sends a body; rows are on disk, synced, when it returns."""
    headers = {"Content-Type": "application/octet-stream"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, body, headers)
    for _ in range(10):
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                # 204: every row is stored. 200: some were refused, and the body says which.
                if answer.status != 204:
                    raise ValueError(answer.read().decode())
                return
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise ValueError(error.read().decode()) from error
        # 503: nothing was stored. The same bytes may be sent again, and are stored once.
        time.sleep(1)
    raise TimeoutError(url)


def by_columns():
    """Every column is an array; `tag_keys` says which ones are tags."""
    columns = {
        "time": [BEGIN, BEGIN + 1],
        "room": ["hall", "attic"],
        "level": [1.25, None],
        "open": [True, False],
    }
    return msgpack.packb({"m": "python_msgpack", "columns": columns, "tag_keys": ["room"]})


def by_arrow():
    """A record batch as it is in memory; the measurement is in the address."""
    batch = pyarrow.record_batch(
        {
            "time": pyarrow.array([BEGIN, BEGIN + 1], pyarrow.timestamp("ns", "UTC")),
            "room": pyarrow.array(["hall", "attic"]),
            "level": pyarrow.array([1.25, None]),
            "open": pyarrow.array([True, False]),
        }
    )
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def main():
    url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8086"
    token = sys.argv[2] if len(sys.argv) > 2 else None
    post(f"{url}/api/v1/write/msgpack?db=examples", by_columns(), token)
    query = "db=examples&measurement=python_arrow&tags=room"
    post(f"{url}/api/v1/write/arrow?{query}", by_arrow(), token)


if __name__ == "__main__":
    main()
