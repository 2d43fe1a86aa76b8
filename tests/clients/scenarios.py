"""What every client is put through, whatever its language: see README.md.

A client is a class with

    name        of the package and, where it has several ways to write, of the way
    kinds       of values that it can say: float, int, uint, bool, str
    unit_ns     the unit of its times, which may be before 1970 where `is_before_1970`
    tells       whether it tells its user of refused rows (Arc's clients are told in headers)
    is_atomic   whether one bad row costs its whole batch, as its protocol wants it
    is_durable  whether what it was told survives a kill: not so where it asks for no sync
    repeats     whether it sends again by itself what was answered 503
    are_tags_fields     whether what it sends does not say which columns are tags
    connect(url, database, token), start(), write(rows), close()
    spoil(row), spoilt  a row that has to be refused for a value, and what its refusal names

`write` returns when the client believes that the rows are stored. It raises Refused when it was
told that some are not and never will be, Unauthorised, or Busy when it gave up for the time being.
"""

import http.client
import re
import socket
import threading
import time
import traceback

import rows

# For one client to get through one scenario; nothing takes so long unless something hangs.
DEADLINE_SECONDS = 90
# Kills, and batches of every client before each.
RESTARTS, MORE_BATCHES = 3, 20
BATCH_ROWS = 50
# Bodies that are announced and never end: no larger than is taken, down to the smallest admitted.
# As many as bodies may have of the memory of the scenario `overload`.
LARGEST_BYTES = 32 << 20
# Small bodies have a sixteenth of the memory for themselves, which is 64 MiB.
SMALL_BYTES = 32 << 10
SMALL_COUNT = 64
BUSY_SECONDS = 2.5


class Refused(Exception):
    """Rows were refused; to send them again would change nothing."""


class Unauthorised(Exception):
    """The token is not known."""


class Busy(Exception):
    """Not stored, as far as the client knows; the same rows may be sent again."""


class Options:
    """What `server.Server` wants to know."""

    def __init__(self, binary):
        self.binary, self.server_arguments = binary, ""


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def flushed(server):
    server.flush()
    return server.data_dir


def compare(server, database, expected):
    found = rows.differences(flushed(server), database, expected)
    check(not found, "\n".join(found))


def url_of(server):
    return "http://{}:{}".format(*server.address)


def database_of(client, scenario):
    """QuestDB's clients cannot say one: theirs is the default, and tables tell them apart."""
    return client.database or f"{client.name} {scenario}"


def tables_of(client, scenario):
    letters = (it if it.isalnum() else "_" for it in f"{client.name}_{scenario}")
    return "".join(letters).lower()


def every_type(client, server):
    """Start-up calls, then every kind of value in one batch."""
    database = database_of(client, "types")
    client.connect(url_of(server), database, None)
    client.start()
    table = tables_of(client, "types")
    expected = rows.every_type(table, client.kinds, client.unit_ns, client.is_before_1970)
    client.write(expected)
    client.close()
    compare(server, database, expected)


def one_bad_row(client, server):
    """A row of the wrong kind costs its neighbours nothing, and the next batch goes through."""
    database, table = database_of(client, "bad row"), tables_of(client, "bad")
    client.connect(url_of(server), database, None)
    batches = [rows.numbered(table, first, 10) for first in (0, 10, 20)]
    client.write(batches[0])
    bad = batches[1][4]
    mixed = list(batches[1])
    mixed[4] = client.spoil(bad)
    told = None
    try:
        client.write(mixed)
    except Refused as refusal:
        told = str(refusal)
    check((told is not None) == client.tells, f"expected told: {client.tells}, found {told!r}")
    check(told is None or client.spoilt in told, f"the refusal does not name the column: {told!r}")
    client.write(batches[2])
    client.close()
    if client.is_atomic:
        batches[1] = []
    compare(server, database, [it for batch in batches for it in batch if it is not bad])
    rejected = [dict(it[1]) for it in rows.stored(server.data_dir, database, "_rejected")]
    rejected = [it for it in rejected if it["measurement"] == repr(table)]
    check(len(rejected) == 1, f"expected 1 row in _rejected, found {rejected}")


class Run(threading.Thread):
    """One client that writes numbered batches until `is_over`, again and again when it must."""

    def __init__(self, client, server, scenario):
        super().__init__(name=client.name, daemon=True)
        self.client, self.is_over, self.is_open = client, threading.Event(), threading.Event()
        self.database = database_of(client, scenario)
        self.table = tables_of(client, scenario)
        self.url = url_of(server)
        self.expected, self.done, self.again, self.failed = [], 0, 0, None

    def run(self):
        try:
            self.client.connect(self.url, self.database, None)
            while not self.done or not self.is_over.is_set():
                batch = rows.numbered(self.table, self.done * BATCH_ROWS, BATCH_ROWS)
                self.write(batch)
                self.expected += batch
                self.done += 1
            self.client.close()
        except Exception:  # Every client has errors of its own; this one says which.
            self.failed = traceback.format_exc()

    def write(self, batch):
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            try:
                return self.client.write(batch)
            except Busy as busy:
                check(time.monotonic() < deadline, f"still not written: {busy}")
                self.again += 1
            self.is_open.wait(1)
            time.sleep(0.05)


def wait_for(condition, runs):
    """Polls `condition` until it holds or every run has ended."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition() and any(it.is_alive() for it in runs):
        check(time.monotonic() < deadline, "nothing more is written")
        time.sleep(0.01)


def finish(runs, server):
    """Ends all runs and waits for them; yields what is wrong, by client."""
    for run in runs:
        run.is_over.set()
    for run in runs:
        run.join(DEADLINE_SECONDS)
        if run.is_alive():
            yield run.client, "did not end"
        elif run.failed:
            yield run.client, run.failed
    data_dir = flushed(server)
    for run in runs:
        if not run.is_alive() and not run.failed:
            for difference in rows.differences(data_dir, run.database, run.expected):
                if run.client.is_durable or ": missing: " not in difference:
                    yield run.client, difference


def restarts(clients, server):
    """The server is killed and started again while all clients write; nothing is lost, or twice."""
    runs = [Run(it, server, "restart") for it in clients]
    for run in runs:
        run.is_open.set()
        run.start()
    for _ in range(RESTARTS):
        begun = {run: run.done for run in runs}
        wait_for(lambda: all(it.done >= begun[it] + MORE_BATCHES or it.failed for it in runs), runs)
        for run in runs:
            run.is_open.clear()
        server.kill()
        server.start()
        for run in runs:
            run.is_open.set()
    yield from finish(runs, server)
    batches = sum(it.done for it in runs)
    again = ", ".join(f"{it.client.name} {it.again}" for it in runs if it.again)
    print(f"   {RESTARTS} kills among {batches} batches; again by the user: {again or 'none'}")


class Hog:
    """Requests whose bodies are announced and never end: one holds all that bodies may have, and
    others the room of small ones."""

    def __init__(self, address):
        self.sockets = [
            announce(address, count) for count in [LARGEST_BYTES] + SMALL_COUNT * [SMALL_BYTES]
        ]
        # A plain body is held at twice its length, or at all that bodies may have.
        while held_bytes(address) < LARGEST_BYTES + SMALL_COUNT * 2 * SMALL_BYTES:
            time.sleep(0.01)

    def trickle(self):
        """Some more bytes, so that it is neither idle nor too slow; says that it did."""
        large, *small = self.sockets
        large.sendall(bytes(8192))
        for it in small:
            it.sendall(bytes(16))
        return True

    def release(self):
        for it in self.sockets:
            it.close()


def announce(address, count):
    """A connection with the beginning of a body of so many bytes."""
    connection = socket.create_connection(address)
    head = f"POST /write?db=hog HTTP/1.1\r\nHost: hog\r\nContent-Length: {count}\r\n\r\n#"
    connection.sendall(head.encode())
    return connection


def held_bytes(address):
    """What bodies in flight hold."""
    connection = http.client.HTTPConnection(*address, timeout=30)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    found = re.search(r'^peristyle_memory_used_bytes{part="bodies"} (\d+)', text, re.M)
    return int(found.group(1))


def overload(clients, server):
    """503 with Retry-After for a while; then everything is there, once."""
    address = server.address
    hog = Hog(address)
    status, headers = post(address, b"probe n=1i 1")
    check(status == 503 and headers["Retry-After"].isdigit(), f"{status} {headers}")
    runs = [Run(it, server, "overload") for it in clients]
    for run in runs:
        run.start()
    # Whoever repeats by itself says nothing meanwhile: it gets as long as the others, and more.
    told = [it for it in runs if not it.client.repeats]
    wait_for(lambda: hog.trickle() and all(it.again or it.done or it.failed for it in told), runs)
    time.sleep(BUSY_SECONDS)
    for run in runs:
        if run.done:
            yield run.client, "wrote although the server was busy"
        if run.client.repeats and run.again:
            yield run.client, "gave up although it should repeat by itself"
        if not run.client.repeats and not run.again:
            yield run.client, "was not told that the server is busy"
    hog.release()
    for run in runs:
        run.is_open.set()
    yield from finish(runs, server)


def post(address, body):
    connection = http.client.HTTPConnection(*address, timeout=30)
    try:
        connection.request("POST", "/write?db=probe", body)
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers
    finally:
        connection.close()


def wrong_token(client, server, token):
    """A wrong token is told as such and stores nothing; the right one writes."""
    database, table = database_of(client, "token"), tables_of(client, "token")
    batch = rows.numbered(table, 0, 10)
    client.connect(url_of(server), database, f"{token}x")
    try:
        client.write(batch)
        raise AssertionError("a wrong token was taken")
    except Unauthorised:
        pass
    client.close()
    client.connect(url_of(server), database, token)
    client.write(batch[:5])
    client.close()
    compare(server, database, batch[:5])
