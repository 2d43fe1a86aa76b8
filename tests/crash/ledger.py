"""Clients that remember what they sent and what became of it.

Every row says where it belongs and is like no other:

    tag `client`, fields `request` and `n` (unique in a client), `target` (database|measurement),
    `v` = n / 8, a time of its own, and of the columns `w0`, `w1` .. those its client uses by then,
    which say `n` again, as a number or as text.

A request is one body: rows of one or more measurements of one database, in line protocol or
MessagePack, row by row or by columns, gzipped or plain; now and then with a row that has to be
refused alone, or with all of them; now and then behind a megabyte of comments, so that the thread
for large bodies decodes it. It is

    acknowledged   204, or an answer that says which rows were refused: the others are stored
    refused        an answer that says nothing is stored, or it never left this process
    unknown        the connection broke: stored whole, or not at all

With `retry_share` a part of the acknowledged requests and all unknown ones are sent again, the same
bytes, as clients do that missed an answer: they have to be stored once all the same. Those with bad
rows are not: a bad row has no time of its own.

Rows are a function of seed and client; only the answers depend on the server.
"""

import gzip
import http.client
import itertools
import random
import threading
import time
from typing import NamedTuple

import msgpack

TARGETS = [(db, m) for db in ("alpha", "beta/week") for m in ("cpu", "mem load", "Disk")]
# Two days: 2023-11-14 and 15. Rows alternate between them, so that a request has files of both.
BEGIN_US = 1_699_920_000_000_000
DAY_US = 86_400_000_000
CLIENT_US = 3_600_000_000
REQUESTS_OF_CLIENT = 10**9
ACKNOWLEDGED, REFUSED, UNKNOWN = "acknowledged", "refused", "unknown"
ADDED_MAX = 12
# More than a shard decodes itself; a few kilobytes, gzipped.
COMMENTS = b"# this line is a comment, and so are those below it\n" * 24_000


def time_of(client, n):
    """Nanoseconds; clients of odd number have digits below the microsecond."""
    us = BEGIN_US + n % 2 * DAY_US + client * CLIENT_US + n
    return us * 1000 + client % 2 * 7


def added_value(column, n):
    """What the added column says; the even ones are numbers, the odd ones text."""
    return n if int(column[1:]) % 2 == 0 else str(n)


class Violation(NamedTuple):
    """Something that must not be: a kind to count by, and what a reader needs to find it."""

    kind: str
    text: str

    def __str__(self):
        return f"{self.kind}: {self.text}"


class Part(NamedTuple):
    """The rows `first` to `first + count - 1` of a request, all of one measurement."""

    measurement: str
    first: int
    count: int
    added: tuple


class Request:
    """One body and what became of it."""

    __slots__ = "id client database parts form state answer body sent round".split()

    def __init__(self, id, client, database, parts, form):
        self.id, self.client, self.database, self.parts = id, client, database, parts
        self.form, self.state, self.answer, self.body, self.sent = form, None, "", None, None
        self.round = None

    def becomes(self, state, answer):
        """One more try has ended: what was acknowledged stays so, what is unknown may change."""
        self.answer = answer
        if self.state != ACKNOWLEDGED and not (self.state == UNKNOWN and state == REFUSED):
            self.state = state

    def __str__(self):
        when = "" if self.round is None else f" in round {self.round}"
        return f"request {self.id} ({self.state}{when}, {self.answer!r}, {self.form})"

    def rows(self):
        return sum(part.count for part in self.parts)


class Form(NamedTuple):
    """How a request is written."""

    encoding: str  # lines, rows, columns
    path: str
    is_gzip: bool
    bad: int  # rows that have to be refused
    is_partial: bool  # whether the others are stored then
    is_large: bool  # comments first; of lines, gzipped

    def __str__(self):
        text = f"{self.encoding}{' gzip' if self.is_gzip else ''} to {self.path}"
        text += ", large" if self.is_large else ""
        return f"{text}, {self.bad} bad{'' if self.is_partial else ', all or nothing'}"


def escaped(measurement):
    return measurement.replace(" ", "\\ ")


def row_values(request, part, n):
    values = {"request": request.id, "n": n, "target": f"{request.database}|{part.measurement}"}
    values["v"] = n / 8
    return values | {column: added_value(column, n) for column in part.added}


def lines_of(request, rng):
    lines = []
    for part in request.parts:
        head = f"{escaped(part.measurement)},client=c{request.client} "
        texts = {int: "{}i", float: "{!r}", str: '"{}"'}
        of_part = []
        for n in range(part.first, part.first + part.count):
            values = row_values(request, part, n)
            text = ",".join(f"{k}={texts[type(v)].format(v)}" for k, v in values.items())
            of_part.append(f"{head}{text} {time_of(request.client, n)}")
        # Behind the first good one: the first value of a column decides its kind.
        for bad in ("n=", f'request={request.id}i,n=-1i,v="text"')[: request.form.bad]:
            of_part.insert(rng.randint(1, len(of_part)), head + bad)
        lines += of_part
    text = ("\n".join(lines) + "\n").encode()
    return COMMENTS + text if request.form.is_large else text


def items_of(request, rng):
    items = []
    for part in request.parts:
        tags = {"client": f"c{request.client}"}
        of_part = [
            {
                "m": part.measurement,
                "t": time_of(request.client, n),
                "tags": tags,
                "fields": row_values(request, part, n),
            }
            for n in range(part.first, part.first + part.count)
        ]
        for bad in ({}, {"request": request.id, "n": -1, "v": "text"})[: request.form.bad]:
            item = {"m": part.measurement, "t": 1, "tags": tags, "fields": bad}
            of_part.insert(rng.randint(1, len(of_part)), item)
        items += of_part
    return msgpack.packb(items)


def columns_of(request, rng):
    items = []
    for part in request.parts:
        ns = range(part.first, part.first + part.count)
        rows = [row_values(request, part, n) for n in ns]
        times = [time_of(request.client, n) for n in ns]
        if request.form.bad:
            at = rng.randint(1, len(rows))
            rows.insert(at, {"request": request.id, "n": -1, "target": "", "v": "text"})
            times.insert(at, 1)
        columns = {"time": times, "client": [f"c{request.client}"] * len(rows)}
        columns |= {name: [row.get(name) for row in rows] for name in rows[0]}
        items.append({"m": part.measurement, "columns": columns, "tag_keys": ["client"]})
    return msgpack.packb(items)


BODIES = {"lines": lines_of, "rows": items_of, "columns": columns_of}
LINE_PATHS = ("/write", "/api/v2/write", "/api/v3/write_lp", "/api/v1/write/line-protocol")


class Client:
    """One connection's worth of requests, one after the other, kept alive."""

    def __init__(self, number, ledger):
        self.number, self.ledger = number, ledger
        self.rng = random.Random(f"{ledger.seed} {number}")
        self.retries = random.Random(f"{ledger.seed} {number} retries")
        self.serial, self.n, self.added = 0, 0, 0
        self.connection = None

    def form(self):
        """Mostly plain good bodies; one in twelve has bad rows."""
        is_large = self.rng.random() < self.ledger.large_share
        encoding = "lines" if is_large else self.rng.choice(("lines", "lines", "rows", "columns"))
        path = self.rng.choice(LINE_PATHS) if encoding == "lines" else "/api/v1/write/msgpack"
        bad = self.rng.choice((1, 2)) if self.rng.random() < 1 / 12 else 0
        is_partial = not bad or self.rng.random() < 0.7
        is_gzip = is_large or self.rng.random() < 0.5
        return Form(encoding, path, is_gzip, bad, is_partial, is_large)

    def next_request(self):
        """Makes the next request and its body."""
        rng, form = self.rng, self.form()
        database = rng.choice(sorted({it for it, _ in self.ledger.targets}))
        measurements = [m for it, m in self.ledger.targets if it == database]
        if rng.random() < self.ledger.widen_share and self.added < ADDED_MAX:
            self.added += 1
        parts = []
        chosen = rng.sample(measurements, min(len(measurements), rng.choice((1, 1, 2, 3))))
        for measurement in chosen:
            count = int(2 ** rng.uniform(0, self.ledger.rows_log2))
            added = tuple(f"w{it}" for it in range(self.added) if rng.random() < 0.7)
            parts.append(Part(measurement, self.n, count, added))
            self.n += count
        id = self.number * REQUESTS_OF_CLIENT + self.serial
        self.serial += 1
        request = Request(id, self.number, database, tuple(parts), form)
        request.body = BODIES[form.encoding](request, rng)
        return request

    def send(self, address, request):
        """Sends it and remembers the answer; false when the connection broke."""
        path = f"{request.form.path}?db={request.database.replace('/', '%2F')}"
        path += "" if request.form.is_partial else "&accept_partial=false"
        body, headers = request.body, {}
        if request.form.is_gzip:
            body, headers = gzip.compress(body, 1, mtime=0), {"Content-Encoding": "gzip"}
        try:
            if self.connection is None:
                self.connection = http.client.HTTPConnection(*address, timeout=60)
                self.connection.connect()
        except OSError as error:
            request.becomes(REFUSED, f"never sent: {error!r}")
            self.close()
            return False
        try:
            request.sent = time.monotonic()
            self.connection.request("POST", path, body, headers)
            answer = self.connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            request.becomes(UNKNOWN, repr(error))
            self.close()
            return False
        self.ledger.answered(request, answer, text)
        return True

    def close(self):
        if self.connection is not None:
            self.connection.close()
        self.connection = None

    def run(self, address, is_over, requests=None):
        """Sends until the connection breaks, `is_over()`, or so many requests are sent."""
        is_kept = True
        for request in self.doubtful():
            is_kept = is_kept and self.send(address, request)
        for _ in range(requests) if requests is not None else itertools.count():
            if is_over() or not is_kept:
                break
            request = self.next_request()
            request.round = self.ledger.round
            self.ledger.open[request.id] = request
            is_kept = self.send(address, request)
            is_retried = self.ledger.retry_share and not request.form.bad
            if is_kept and is_retried and self.retries.random() < self.ledger.retry_share:
                is_kept = self.send(address, request)
            if request.state != UNKNOWN or not is_retried:
                request.body = None
            if request.answer == "503":
                # As a good client would, but not as long as Retry-After asks: the test waits.
                time.sleep(0.02)
        self.close()

    def doubtful(self):
        """Requests of this client that are sent again after a restart."""
        found = list(self.ledger.open.values())
        return [it for it in found if it.client == self.number and it.body and it.sent]


class Ledger:
    """All clients of a run, and every request that no check has settled."""

    def __init__(
        self, seed, clients, targets=TARGETS, rows_log2=8, widen_share=0.002, retry_share=0.0,
        large_share=0.025
    ):
        self.seed, self.targets, self.rows_log2 = seed, targets, rows_log2
        self.widen_share, self.retry_share = widen_share, retry_share
        self.large_share = large_share
        self.open, self.round = {}, None
        self.counts = {ACKNOWLEDGED: 0, REFUSED: 0, UNKNOWN: 0, "rows": 0}
        self.violations = []
        self.acknowledged_at, self.acknowledged_sent, self.refusals = 0.0, 0.0, 0
        self.clients = [Client(number, self) for number in range(clients)]

    def answered(self, request, answer, text):
        """Decides by the answer what must be found later."""
        form, status = request.form, answer.status
        told = int(answer.headers.get("X-Peristyle-Rejected", 0))
        is_partly = bool(told) or (status in (400, 422) and b"partial write" in text)
        state = UNKNOWN
        if (status == 204 and not told) if not form.bad else (form.is_partial and is_partly):
            state = ACKNOWLEDGED
            self.acknowledged_at, self.acknowledged_sent = time.monotonic(), request.sent
        elif form.bad and not form.is_partial and status == 400:
            state = REFUSED
        elif status == 503:
            state = REFUSED
            self.refusals += 1
            if not answer.headers.get("Retry-After", "").isdigit():
                self.violations.append(Violation("answer", f"503 without Retry-After: {request}"))
        else:
            self.violations.append(Violation("answer", f"{request}: {status} {text[:300]!r}"))
        request.becomes(state, str(status))

    def run(self, address, is_over, requests=None):
        """All clients at once, each in a thread of its own; returns their threads."""
        threads = [
            threading.Thread(target=it.run, args=(address, is_over, requests), daemon=True)
            for it in self.clients
        ]
        for thread in threads:
            thread.start()
        return threads

    def doubt_refusals(self):
        """The server failed by itself: what it refused meanwhile may be stored."""
        for request in self.open.values():
            if request.answer == "503" and request.state == REFUSED:
                request.state = UNKNOWN

    def settle(self):
        """Forgets the open requests, counted."""
        for request in self.open.values():
            self.counts[request.state] += 1
            if request.state == ACKNOWLEDGED:
                self.counts["rows"] += request.rows()
        self.open.clear()
