"""Unpacks the recordings of tests/corpus into seeds: seeds.py DIRECTORY.

Each target's go to DIRECTORY/<target>, with the control byte in front that the target reads.
"""

import base64
import gzip
import hashlib
import json
import pathlib
import sys
import zlib

CORPUS = pathlib.Path(__file__).resolve().parent.parent / "corpus"
BYTES_MAX = 2048
LINES_MAX = 400  # of the thousands of recorded lines; those that fail are the shortest


class Seeds:
    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory

    def add(self, target: str, control: bytes, seed: bytes) -> None:
        if len(seed) > BYTES_MAX:
            return
        folder = self.directory / target
        folder.mkdir(parents=True, exist_ok=True)
        bytes_ = control + seed
        (folder / hashlib.sha1(bytes_).hexdigest()).write_bytes(bytes_)


def records(path: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def lines(seeds: Seeds) -> None:
    for path in sorted((CORPUS / "line_protocol").glob("*.jsonl")):
        bodies = {base64.b64decode(it["input"]) for it in records(path)}
        for body in sorted(bodies, key=len)[:LINES_MAX]:
            seeds.add("line_protocol", b"\x01", body)
            seeds.add("names", b"", body.replace(b",", b"\0"))


def msgpack(seeds: Seeds) -> None:
    for record in records(CORPUS / "msgpack" / "telegraf-arc.jsonl"):
        seeds.add("msgpack", b"", base64.b64decode(record["input"]))
    for path in sorted((CORPUS / "msgpack" / "clients").glob("*.msgpack")):
        seeds.add("msgpack", b"", path.read_bytes())


def json_documents(seeds: Seeds) -> None:
    text = (CORPUS / "json" / "vectors.txt").read_text()
    for piece in text.split("## ")[1:]:
        body = [it for it in piece.splitlines()[1:] if not it.startswith(("=> ", "!! "))]
        seeds.add("json", b"", "\n".join(body).encode())


def inflated(head: str, body: bytes) -> bytes:
    """A recorded body as its decoder gets it."""
    if "chunked" in head.lower():
        rest, body = body, b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            size = int(size, 16)
            body, rest = body + rest[:size], rest[size + 2 :]
    return gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body


def clients(seeds: Seeds) -> None:
    for path in sorted((CORPUS / "clients").glob("*.jsonl")):
        calls = [it for it in records(path) if "head" in it]
        for call in calls:
            head, body = call["head"], base64.b64decode(call["body"])
            seeds.add("http", b"\0", head.encode() + body)
            data = inflated(head, body)
            if not data:
                continue
            seeds.add("inflate", b"\0", gzip.compress(data, mtime=0))
            seeds.add("inflate", b"\1", zlib.compress(data))
            if "msgpack" in head:
                seeds.add("msgpack", b"", data)
            elif "arrow" in head:
                seeds.add("arrow", b"\0", data)
            elif data.startswith((b"{", b"[")):
                seeds.add("json", b"", data)
            else:
                is_questdb = "questdb" in head
                seeds.add("line_protocol", b"\x09" if is_questdb else b"\x01", data)


def main() -> None:
    seeds = Seeds(pathlib.Path(sys.argv[1]))
    for unpack in (lines, msgpack, json_documents, clients):
        unpack(seeds)


main()
