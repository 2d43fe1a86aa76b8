"""A server as a process of its own: started, killed by its id, asked to end, and what it said."""

import argparse
import functools
import hashlib
import http.client
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
START_SECONDS = 60
END_SECONDS = 30
SHOWN = 5


class Died(Exception):
    """The server ended by itself; says how, with the last lines of its log."""


def arguments(description, **defaults):
    """The options that all scripts of this folder have; `defaults` adds integers."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--binary", required=True, type=Path, help="a peristyle binary")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--scratch", type=Path, help="directory for data (default: a temporary)")
    parser.add_argument("--server-arguments", default="", help="more options for `peristyle`")
    parser.add_argument("--segment-bytes", help="size of a WAL segment (default: small)")
    parser.add_argument(
        "--without-log",
        action="store_true",
        help="the binary writes no Delta log: every Parquet file of a directory counts",
    )
    for name, default in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    return parser


@functools.cache
def settings_of(binary):
    """The options that this binary knows."""
    text = subprocess.run([binary, "--help-all"], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"^ +--([a-z-]+)", text, re.MULTILINE))


def scratch_of(options):
    """A directory of this run's own, on a disk and not in memory."""
    if options.scratch:
        options.scratch.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="peristyle-crash-", dir=options.scratch))


class Server:
    """One data directory and the process that serves it, if any does."""

    def __init__(self, options, data_dir, log=None):
        self.binary = options.binary.resolve()
        self.data_dir = Path(data_dir)
        self.more = shlex.split(options.server_arguments)
        self.log_path = Path(log or f"{data_dir}.log")
        self.process = None
        self.listen = "127.0.0.1:0"
        self.token = None
        self.address = None
        self.kill_signal = signal.SIGKILL

    def command(self, settings):
        """What starts it. A setting that this binary does not know is left out."""
        known = settings_of(self.binary)
        command = [str(self.binary), "--listen", self.listen, "--data-dir", str(self.data_dir)]
        for name, value in settings.items():
            if name.replace("_", "-") in known:
                command += [f"--{name.replace('_', '-')}", str(value)]
        return command + self.more

    def spawn(self, under=(), environment=None, **settings):
        """Starts the process, behind the tracer's command `under`, and does not wait."""
        self.address = None
        self.kill_signal = signal.SIGUSR1 if under else signal.SIGKILL
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [*under, *self.command(settings)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=os.environ | (environment or {}),
            )

    def trace(self, log, act=(), **settings):
        """Starts it under `tracer.py`, which does `act` and lists the calls in `log`."""
        log.unlink(missing_ok=True)
        tracer = [sys.executable, "-B", str(HERE / "tracer.py"), "--under", str(self.data_dir)]
        self.spawn([*tracer, "--log", str(log), *act, "--"], **settings)

    def wait_ready(self):
        """Waits until it is ready; returns the seconds that took, or raises `Died`."""
        begin = time.monotonic()
        while True:
            if self.process.poll() is not None:
                raise Died(f"status {self.process.returncode} before it was ready\n{self.log()}")
            found = re.search(r"listening on http://([0-9.]+):(\d+)", self.log(None))
            if found:
                self.address = found[1], int(found[2])
                try:
                    if self.get("/ready")[0] == 200:
                        return time.monotonic() - begin
                except (OSError, http.client.HTTPException):
                    pass  # It may be dying; the next turn sees it.
            if time.monotonic() - begin > START_SECONDS:
                raise Died(f"not ready within {START_SECONDS} s\n{self.log()}")
            time.sleep(0.002)

    def start(self, **settings):
        self.spawn(**settings)
        return self.wait_ready()

    def stay(self):
        """From here on it is started at the address that it has, so that clients find it again."""
        self.listen = "{}:{}".format(*self.address)

    def ask(self, method, path, timeout=120):
        connection = http.client.HTTPConnection(*self.address, timeout=timeout)
        try:
            headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def get(self, path):
        return self.ask("GET", path, 10)

    def flush(self):
        """Publishes everything accepted; raises `Died` when it cannot."""
        try:
            status, text = self.ask("POST", "/api/v1/flush")
        except (OSError, http.client.HTTPException) as error:
            raise Died(f"no answer to a flush: {error!r}\n{self.log()}") from error
        if status != 200:
            raise Died(f"flush: expected 200, found {status} {text[:200]!r}\n{self.log()}")
        return json.loads(text)

    def kill(self):
        """SIGKILL to this process and no other; waits for its end. The tracer passes it on."""
        self.process.send_signal(self.kill_signal)
        self.process.wait(END_SECONDS)

    def end(self, times=1):
        """SIGTERM; returns status and seconds. It is killed when it takes too long."""
        begin = time.monotonic()
        for number in range(times):
            time.sleep(0.02 if number else 0)
            self.process.send_signal(signal.SIGTERM)
        return self.ended(begin)

    def ended(self, begin=None, seconds=END_SECONDS):
        """Waits for its end; returns status and seconds since `begin`."""
        begin = begin or time.monotonic()
        if not self.ended_by_itself(seconds):
            self.kill()
            return "killed: it did not end", time.monotonic() - begin
        return self.process.returncode, time.monotonic() - begin

    def ended_by_itself(self, seconds):
        """Gives it so long to end; says whether it did."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def is_alive(self):
        return self.process.poll() is None

    def log(self, lines=12):
        """The last lines that it wrote, or all; colours taken out."""
        text = re.sub(r"\x1b\[[0-9;]*m", "", self.log_path.read_text("utf-8", "replace"))
        return text if lines is None else "\n".join(text.splitlines()[-lines:])


def finish(options, script, counts, violations, data_dir):
    """Prints what is wrong and one line of JSON; ends the script by what it found."""
    kinds = {}
    for violation in violations:
        kinds.setdefault(violation.kind, []).append(violation)
    for kind, of_kind in sorted(kinds.items()):
        for violation in of_kind[:SHOWN]:
            print(f"VIOLATION {violation}")
        if len(of_kind) > SHOWN:
            print(f"VIOLATION {kind}: .. and {len(of_kind) - SHOWN} more")
    digest = hashlib.sha256(options.binary.read_bytes()).hexdigest()[:16]
    result = {"script": script, "binary": digest, "seed": options.seed, **counts}
    if violations:
        print(f"the data is kept: {data_dir}")
    else:
        shutil.rmtree(data_dir)
    by_kind = {kind: len(of_kind) for kind, of_kind in kinds.items()}
    print(json.dumps(result | {"violations": by_kind}), flush=True)
    sys.exit(1 if violations else 0)
