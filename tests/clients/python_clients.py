"""The Python clients that users have, as `scenarios.py` wants a client to be."""

import gzip
import logging
import urllib.error
import urllib.parse
import urllib.request

import arc_client
import influxdb
import influxdb.exceptions
import influxdb_client
import influxdb_client_3
import pyarrow
import questdb
import requests
import urllib3
from arc_client.exceptions import ArcAuthenticationError, ArcError, ArcServerError
from arc_client.ingestion.line_protocol import format_lines
from influxdb_client.client.write.retry import WritesRetry as Retry2
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.domain.write_precision import WritePrecision
from influxdb_client.rest import ApiException
from influxdb_client_3.exceptions.exceptions import InfluxDBPartialWriteError
from influxdb_client_3.write_client.client.write.retry import WritesRetry as Retry3
from influxdb_client_3.write_client.client.write_api import WriteType

from rows import Unsigned
from scenarios import Busy, Refused, Unauthorised, check

ALL_KINDS = {"float", "int", "uint", "bool", "str"}
# Of those clients that send again by themselves: often enough for a restart, not for ever.
RETRY = {"total": 20, "retry_interval": 0.2, "max_retry_delay": 1, "allowed_methods": ["POST"]}


# What they log is told by their exceptions.
logging.disable(logging.CRITICAL)


def raise_for(status, text):
    """What `status` says to a user of a client that does not say it by its exceptions."""
    kind = {401: Unauthorised, 500: Busy, 503: Busy}.get(status, Refused)
    raise kind(f"{status} {text}")


def as_dict(row):
    """The form that all of InfluxDB's clients take."""
    measurement, time_ns, tags, fields = row
    return {"measurement": measurement, "time": time_ns, "tags": tags, "fields": fields}


def unsigned_of(row):
    return {name: "uint" for name, value in row.fields.items() if isinstance(value, Unsigned)}


class Client:
    """What most of them have in common."""

    kinds, unit_ns, is_before_1970, database = ALL_KINDS, 1, True, None
    tells, repeats, are_tags_fields = True, False, False
    is_atomic, is_durable = False, True

    def start(self):
        """Nothing, where the client calls nothing by itself."""

    def close(self):
        self.it.close()

    spoilt = "v"

    def spoil(self, row):
        return row._replace(fields=row.fields | {"v": "text"})


class InfluxDB1(Client):
    """`influxdb`: InfluxDB 1, Basic authentication always, gzip if asked for."""

    name, package = "influxdb", "influxdb"
    kinds = ALL_KINDS - {"uint"}

    def connect(self, url, database, token):
        parts = urllib.parse.urlsplit(url)
        credentials = {} if token is None else {"username": "any", "password": token}
        self.it = influxdb.InfluxDBClient(
            parts.hostname, parts.port, database=database, gzip=True, retries=1, **credentials
        )

    def start(self):
        version = self.it.ping()
        check(version and version[0].isdigit(), f"ping: no version: {version!r}")
        database = self.it._database
        self.it.create_database(database)
        names = [it["name"] for it in self.it.get_list_database()]
        check(database in names, f"{database!r} is not among {names}")

    def write(self, rows):
        try:
            points = [as_dict(it) for it in rows]
            check(self.it.write_points(points, time_precision="n"), "not written")
        except influxdb.exceptions.InfluxDBClientError as error:
            raise_for(error.code, error.content)
        except (influxdb.exceptions.InfluxDBServerError, requests.ConnectionError) as error:
            raise Busy(str(error)) from error


class InfluxDB2(Client):
    """`influxdb-client`: InfluxDB 2, gzip, sends again what was answered 429 and above."""

    name, package = "influxdb-client", "influxdb-client"
    repeats = True

    def connect(self, url, database, token):
        self.bucket = database
        self.it = influxdb_client.InfluxDBClient(
            url, token or "", org="any", enable_gzip=True, retries=Retry2(**RETRY)
        )
        self.api = self.it.write_api(write_options=SYNCHRONOUS)

    def start(self):
        check(self.it.ping(), "ping")
        check(self.it.health().status == "pass", "health")
        check(self.it.ready().status == "ready", "ready")
        check(self.it.version()[:1].isdigit(), f"version {self.it.version()!r}")

    def point(self, row):
        return influxdb_client.Point.from_dict(
            as_dict(row), WritePrecision.NS, field_types=unsigned_of(row)
        )

    def write(self, rows):
        try:
            self.api.write(self.bucket, record=[self.point(it) for it in rows])
        except ApiException as error:
            raise_for(error.status, error.message)
        except urllib3.exceptions.HTTPError as error:
            raise Busy(str(error)) from error


class InfluxDB2Batching(InfluxDB2):
    """The same, as most use it: batches are made and sent in the background."""

    name = "influxdb-client, batching"

    def connect(self, url, database, token):
        self.bucket = database
        self.it = influxdb_client.InfluxDBClient(url, token or "", org="any")
        self.options = influxdb_client.WriteOptions(
            batch_size=1000, retry_interval=200, max_retries=20, max_retry_delay=1000
        )

    def write(self, rows):
        """Its users learn of a batch by callbacks only; closing it waits for what is under way."""
        failed = []
        with self.it.write_api(
            write_options=self.options,
            error_callback=lambda _, body, error: failed.append(error),
        ) as api:
            api.write(self.bucket, record=[self.point(it) for it in rows])
        for error in failed:
            if isinstance(error, ApiException):
                raise_for(error.status, error.message)
            raise Busy(str(error))


class InfluxDB3(Client):
    """`influxdb3-python` on /api/v3/write_lp."""

    name, package = "influxdb3-python", "influxdb3-python"
    repeats = True
    use_v2_api = False

    def connect(self, url, database, token):
        options = influxdb_client_3.WriteOptions(
            write_type=WriteType.synchronous, use_v2_api=self.use_v2_api
        )
        self.it = influxdb_client_3.InfluxDBClient3(
            host=url,
            token=token or "any",
            database=database,
            retries=Retry3(**RETRY),
            enable_gzip=True,
            write_client_options={"write_options": options},
        )

    def start(self):
        version = self.it.get_server_version()
        check(version and version[0].isdigit(), f"version {version!r}")

    def point(self, row):
        return influxdb_client_3.Point.from_dict(
            as_dict(row), WritePrecision.NS, field_types=unsigned_of(row)
        )

    def write(self, rows):
        try:
            self.it.write([self.point(it) for it in rows])
        except InfluxDBPartialWriteError as error:
            lines = [(it.line_number, it.error_message) for it in error.line_errors]
            check(lines and lines[0][0] > 0, f"no line: {lines}")
            raise Refused(f"{error.message} {lines}") from error
        except influxdb_client_3.InfluxDBError as error:
            raise_for(error.response.status, error.message)
        except urllib3.exceptions.HTTPError as error:
            raise Busy(str(error)) from error


class InfluxDB3ByV2(InfluxDB3):
    """The same on /api/v2/write, which is its default."""

    name = "influxdb3-python, v2"
    use_v2_api = True


class QuestDB(Client):
    """`questdb`: rows of text over HTTP; it cannot name a database, and sends again by itself."""

    name, package = "questdb", "questdb"
    kinds = ALL_KINDS - {"uint"}
    is_before_1970, repeats, is_atomic = False, True, True
    database = "default"

    def connect(self, url, database, token):
        parts = urllib.parse.urlsplit(url)
        credentials = "" if token is None else f"token={token};"
        self.it = questdb.Sender.from_conf(
            f"http::addr={parts.netloc};auto_flush=off;retry_timeout=20000;{credentials}"
        )
        self.it.establish()

    def write(self, rows):
        for row in rows:
            self.it.row(
                row.measurement,
                symbols=row.tags,
                columns=row.fields,
                at=questdb.TimestampNanos(row.time_ns),
            )
        try:
            self.it.flush()
        except questdb.QuestDBError as error:
            code, text = error.code, str(error)
            if code == questdb.QuestDBErrorCode.AuthError:
                raise Unauthorised(text) from error
            if code == questdb.QuestDBErrorCode.ServerFlushError:
                raise Refused(text) from error
            raise Busy(f"{code}: {text}") from error


class ArcRows(Client):
    """`arc-tsdb-client`: MessagePack rows, gzip, times in microseconds."""

    name, package = "arc-tsdb-client, rows", "arc-tsdb-client"
    kinds = ALL_KINDS - {"uint"}
    # The server guesses the unit of a time by its size.
    unit_ns, is_before_1970, tells = 1000, False, False

    def connect(self, url, database, token):
        parts = urllib.parse.urlsplit(url)
        self.it = arc_client.ArcClient(parts.hostname, parts.port, token, database)

    def start(self):
        check(self.it.health().status in ("pass", "healthy", "ok"), "health")

    def send(self, rows):
        records = [
            {
                "measurement": row.measurement,
                "timestamp": row.time_ns // 1000,
                "fields": row.fields,
                "tags": row.tags,
            }
            for row in rows
        ]
        self.it.write.write_records(records)

    def write(self, rows):
        try:
            self.send(rows)
        except ArcError as error:
            cause = error.__cause__
            if isinstance(cause, ArcAuthenticationError):
                raise Unauthorised(str(error)) from error
            if isinstance(cause, ArcServerError) and cause.status_code < 500:
                raise Refused(str(error)) from error
            raise Busy(str(error)) from error


class ArcColumns(ArcRows):
    """The same by columns: a tag is a column like others."""

    name = "arc-tsdb-client, columns"
    are_tags_fields = True

    def send(self, rows):
        columns = {"time": [row.time_ns // 1000 for row in rows]}
        for name in dict.fromkeys(key for row in rows for key in row.tags | row.fields):
            columns[name] = [(row.tags | row.fields).get(name) for row in rows]
        self.it.write.write_columnar(rows[0].measurement, columns)


class ArcLines(ArcRows):
    """The same by line protocol, gzip, times in nanoseconds."""

    name = "arc-tsdb-client, lines"
    unit_ns, is_before_1970 = 1, True

    def send(self, rows):
        records = [as_dict(row) | {"timestamp": row.time_ns} for row in rows]
        self.it.write.write_line_protocol(format_lines(records, time_unit="ns"))


class Arrow(Client):
    """`pyarrow` and the standard library: one record batch as an IPC stream, gzipped."""

    name, package = "pyarrow", "pyarrow"
    spoilt = "n"
    types = {
        bool: pyarrow.bool_(),
        float: pyarrow.float64(),
        int: pyarrow.int64(),
        str: pyarrow.string(),
        Unsigned: pyarrow.uint64(),
    }

    def connect(self, url, database, token):
        self.url, self.database_name, self.token = url, database, token

    def close(self):
        """Nothing is open."""

    def spoil(self, row):
        """A column has one type: floats, of which this one is no integer as the table has them."""
        return row._replace(fields=row.fields | {"n": row.fields["n"] + 0.5})

    def body(self, rows):
        times = [it.time_ns for it in rows]
        columns = {"time": pyarrow.array(times, pyarrow.timestamp("ns", "UTC"))}
        tags = dict.fromkeys(name for row in rows for name in row.tags)
        for name in tags:
            values = pyarrow.array([row.tags.get(name) for row in rows], pyarrow.string())
            columns[name] = values.dictionary_encode()
        for name in dict.fromkeys(name for row in rows for name in row.fields):
            values = [row.fields.get(name) for row in rows]
            kind = float if any(isinstance(it, float) for it in values) else type(values[-1])
            columns[name] = pyarrow.array(values, self.types[kind])
        batch = pyarrow.record_batch(columns)
        sink = pyarrow.BufferOutputStream()
        with pyarrow.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        return sink.getvalue().to_pybytes(), ",".join(tags)

    def write(self, rows):
        body, tags = self.body(rows)
        query = {"db": self.database_name, "measurement": rows[0].measurement, "tags": tags}
        url = f"{self.url}/api/v1/write/arrow?{urllib.parse.urlencode(query)}"
        headers = {"Content-Type": "application/vnd.apache.arrow.stream"}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(url, gzip.compress(body, mtime=0), headers)
        request.add_header("Content-Encoding", "gzip")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                # 200 says that some rows were refused, and which.
                if answer.status != 204:
                    raise_for(answer.status, answer.read().decode())
        except urllib.error.HTTPError as error:
            raise_for(error.code, error.read().decode())
        except OSError as error:
            raise Busy(str(error)) from error


CLIENTS = [
    InfluxDB1,
    InfluxDB2,
    InfluxDB2Batching,
    InfluxDB3,
    InfluxDB3ByV2,
    QuestDB,
    ArcRows,
    ArcColumns,
    ArcLines,
    Arrow,
]
