"""Records what real clients send, so that machines without them can replay it.

    record.py --binary target/release/peristyle --telegraf telegraf tests/corpus/clients

Every client writes the same fixed rows: each kind of value, then a batch with one bad row, through
a proxy that keeps the requests byte by byte. `tests/it/clients.rs` sends them again. The rows that
tables have to hold come from what was given to the client, not from what the server made of it.
"""

import argparse
import base64
import json
import logging
import re
import socket
import socketserver
import tempfile
import threading
from pathlib import Path

import libraries
import rows
import telegraf
from agent import OUTPUTS, Agent
from scenarios import Options, Refused, check
from server import Server


class Proxy(socketserver.ThreadingTCPServer):
    """Passes requests on, one by one, and keeps them with the status of their answers."""

    daemon_threads = True

    def __init__(self, upstream):
        self.upstream, self.kept, self.lock = upstream, [], threading.Lock()
        super().__init__(("127.0.0.1", 0), Connection)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Connection(socketserver.BaseRequestHandler):
    """One client's connection, with one to the server behind it."""

    def handle(self):
        with socket.create_connection(self.server.upstream) as upstream:
            reader, answers = self.request.makefile("rb"), upstream.makefile("rb")
            while head := read_head(reader):
                body = read_body(head, reader)
                upstream.sendall(head + body)
                answer = read_head(answers)
                status = int(answer.split(b" ")[1])
                is_empty = status == 204 or head.startswith(b"HEAD")
                rest = b"" if is_empty else read_body(answer, answers)
                with self.server.lock:
                    self.server.kept.append((head, body, status))
                self.request.sendall(answer + rest)


def read_head(reader):
    """Up to the blank line; empty when the connection has ended."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = reader.readline()
        if not line:
            return b""
        head += line
    return head


def read_body(head, reader):
    """As it is on the wire: chunks stay chunks."""
    if re.search(rb"\r\ntransfer-encoding: *chunked", head, re.IGNORECASE):
        body = b""
        while True:
            size = reader.readline()
            body += size + reader.read(int(size, 16) + 2)
            if int(size, 16) == 0:
                return body
    length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    return reader.read(int(length[1])) if length else b""


def row_of(row, are_tags_fields):
    """As the table has it: columns of Arc's clients do not say what is a tag."""
    measurement, time_ns, tags, fields = row
    if are_tags_fields:
        tags, fields = {}, tags | fields
    return {"measurement": measurement, "time_ns": time_ns, "tags": tags, "fields": fields}


def write_down(path, client, database, kept, expected):
    """One request a line, and what the tables have to hold then in the last one."""
    lines = [{"client": client, "database": database}]
    for head, body, status in kept:
        # The port is the proxy's, and the token of `root:root` is nobody's.
        head = re.sub(rb"127\.0\.0\.1:\d+", b"127.0.0.1:8086", head).decode()
        lines.append({"head": head, "body": base64.b64encode(body).decode(), "status": status})
    lines.append({"rows": expected})
    text = "".join(json.dumps(it, ensure_ascii=False) + "\n" for it in lines)
    path.write_text(text, "utf-8")
    print(f"   {path.name}: {len(kept)} requests, {len(expected)} rows, {len(text)} bytes")


def record_library(kind, server, folder):
    client, proxy = kind(), Proxy(server.address)
    name = "".join(it if it.isalnum() else "_" for it in kind.name).replace("__", "_")
    database = client.database or name
    client.connect("http://{}:{}".format(*proxy.server_address), database, None)
    client.start()
    table = f"types_{name}"
    expected = rows.every_type(table, client.kinds, client.unit_ns, client.is_before_1970)
    client.write(expected)
    good, batch = rows.numbered(f"bad_{name}", 0, 2), rows.numbered(f"bad_{name}", 2, 4)
    client.write(good)
    try:
        client.write([*batch[:2], client.spoil(batch[2]), *batch[3:]])
        check(not client.tells, "a refusal was not told")
    except Refused:
        check(client.tells, "a refusal was told")
    client.close()
    expected += good if client.is_atomic else [*good, *batch[:2], *batch[3:]]
    proxy.shutdown()
    version = f"{client.package} {libraries.version_of(client)}"
    stored = [row_of(it, kind.are_tags_fields) for it in expected]
    write_down(folder / f"{name}.jsonl", version, database, proxy.kept, stored)


def record_telegraf(options, output, server, scratch):
    proxy = Proxy(server.address)
    url = "http://{}:{}".format(*proxy.server_address)
    with Agent(options.telegraf, scratch, url, [output]) as agent:
        agent.feed(telegraf.FIXED)
        agent.wait_empty()
        agent.feed(f'{telegraf.SEED}mixed,kind=bad f="text" {rows.BASE_NS + 1_000_000}')
        agent.wait_empty()
        agent.end()
    proxy.shutdown()
    expected = []
    for metric in agent.metrics():
        row = rows.Row(*metric)
        if row.measurement == "mixed" and telegraf.is_bad(row.fields):
            continue
        row = row._replace(time_ns=row.time_ns // output.unit_ns * output.unit_ns)
        expected.append(row_of(row, output.name == "arc"))
    path = options.folder / f"telegraf_{output.name}.jsonl"
    write_down(path, telegraf.version_of(options), output.database, proxy.kept, expected)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--binary", required=True, type=Path)
    parser.add_argument("--telegraf", required=True, type=Path)
    parser.add_argument("--only", help="a part of a client's name", default="")
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="peristyle-record-") as scratch:
        server = Server(Options(options.binary), Path(scratch) / "data")
        server.start()
        try:
            for kind in libraries.clients()[0]:
                if options.only in kind.name:
                    record_library(kind, server, options.folder)
            for output in OUTPUTS:
                if options.only in f"telegraf_{output.name}":
                    own = Path(scratch) / output.name
                    own.mkdir()
                    record_telegraf(options, output, server, own)
        finally:
            server.kill()


if __name__ == "__main__":
    main()
