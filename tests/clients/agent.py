"""A real Telegraf: its configuration, its process, what it sends, and what it says about it."""

import re
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import NamedTuple

import msgpack

EXAMPLES = Path(__file__).resolve().parents[2] / "schemas" / "examples" / "telegraf"
ADDRESS = "http://127.0.0.1:8086"
START_SECONDS, END_SECONDS = 30, 60


class Output(NamedTuple):
    """One of the examples: its file, and how its rows differ from what Telegraf has."""

    file: str
    unit_ns: int = 1
    # JSON has numbers: whether they are whole is all that it says of their kind.
    is_json: bool = False

    @property
    def name(self):
        return self.file.removesuffix(".conf")

    @property
    def database(self):
        return f"from {self.name}"

    def configuration(self, url, token):
        """The example, with its address, database and alias changed, and its token uncommented."""
        text = (EXAMPLES / self.file).read_text("utf-8").replace(ADDRESS, url)
        text = re.sub(r'"telegraf"', f'"{self.database}"', text)
        text = text.replace("?db=telegraf", f"?db={self.database.replace(' ', '%20')}")
        if token is not None:
            _, head, tail = text.partition("  # With access tokens")
            tail = "\n".join(re.sub("^  # ", "  ", line) for line in tail.splitlines()[1:])
            text = f"{text[: text.index(head)]}{tail}\n".replace("$PERISTYLE_TOKEN", token)
        return re.sub(r"(\[\[outputs\.\w+\]\])", rf'\1\n  alias = "{self.name}"', text, count=1)


OUTPUTS = [
    Output("influxdb.conf"),
    Output("influxdb_v2.conf"),
    Output("influxdb_v3.conf"),
    Output("arc.conf", unit_ns=1_000_000),
    Output("http_msgpack.conf"),
    Output("http_json.conf", is_json=True),
]

AGENT = """
[agent]
  interval = "1s"
  flush_interval = "1s"
  flush_jitter = "0s"
  metric_batch_size = {batch_size}
  metric_buffer_limit = 1000000
  omit_hostname = true
  precision = "1ns"
  debug = true
  logfile = "{log}"

[[inputs.http_listener_v2]]
  service_address = "tcp://127.0.0.1:{port}"
  data_format = "influx"

[[outputs.file]]
  files = ["{ledger}"]
  data_format = "msgpack"
"""


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


class Agent:
    """One Telegraf with several outputs, and with `outputs.file` as the ledger of what it had."""

    def __init__(
        self, binary, directory, url, outputs=OUTPUTS, token=None, more="", batch_size=1000
    ):
        self.outputs, self.port = outputs, free_port()
        self.ledger, self.log_path = directory / "ledger.msgpack", directory / "telegraf.log"
        text = AGENT.format(
            log=self.log_path, ledger=self.ledger, port=self.port, batch_size=batch_size
        )
        text += "".join(it.configuration(url, token) for it in outputs) + more
        (directory / "telegraf.conf").write_text(text, "utf-8")
        command = [str(binary), "--config", str(directory / "telegraf.conf")]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            self.wait_for(self.is_listening, START_SECONDS, "Telegraf does not listen")

        except BaseException:
            self.process.kill()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """However it went, no process stays behind."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def is_listening(self):
        try:
            return self.feed("") == 204
        except OSError:
            return False

    def feed(self, lines):
        """Gives it metrics, in line protocol; 204 says that it has them."""
        url = f"http://127.0.0.1:{self.port}/telegraf"
        request = urllib.request.Request(url, lines.encode(), method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status

    def wait_for(self, condition, seconds, text):
        """Polls: neither a log nor a port says when it changes."""
        deadline = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{text}\n{self.log()}\n{self.errors()}")
            time.sleep(0.05)

    def log(self, lines=15):
        if not self.log_path.exists():
            return ""
        text = self.log_path.read_text("utf-8", "replace")
        return text if lines is None else "\n".join(text.splitlines()[-lines:])

    def errors(self):
        return self.process.stderr.read().decode() if self.process.poll() is not None else ""

    def lines_of(self, output):
        """What it logged of one output."""
        name = re.compile(rf"::{output.name}[\]:]")
        return [it for it in self.log(None).splitlines() if name.search(it)]

    def buffered(self, output):
        """How many metrics it said last that it still has for this output."""
        found = re.findall(rf"::{output.name}\] Buffer fullness: (\d+)", self.log(None))
        return int(found[-1]) if found else None

    def written(self, output):
        found = re.findall(rf"::{output.name}\] Wrote batch of (\d+) metrics", self.log(None))
        return sum(map(int, found))

    def wait_empty(self, seconds=60):
        """Waits until every output has written what was fed so far."""
        count = len(re.findall("Buffer fullness", self.log(None)))
        expected = count + 2 * len(self.outputs)

        def is_empty():
            found = len(re.findall("Buffer fullness", self.log(None)))
            return found > expected and not any(self.buffered(it) for it in self.outputs)

        self.wait_for(is_empty, seconds, "the buffers do not become empty")

    def end(self):
        """SIGTERM: it writes what it has and ends; returns its status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
        return self.process.wait()

    def metrics(self):
        """Everything it had: name, time in nanoseconds, tags, fields."""
        with open(self.ledger, "rb") as file:
            for it in msgpack.Unpacker(file, strict_map_key=False):
                yield it["name"], it["time"].to_unix_nano(), it["tags"], it["fields"]
