"""The servers that Peristyle is compared with: how each is had, started and asked.

Versions are pinned here. What is downloaded or built lies below $HOME/.cache/peristyle/peers and
is never part of the tree. A peer that cannot be had says so and is left out of the table.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

CACHE = Path.home() / ".cache" / "peristyle" / "peers"

INFLUXDB = "1.6.7~rc0-1+b13"
VICTORIAMETRICS = "1.79.5+ds1-2+b5"
QUESTDB = "9.0.3"
START_SECONDS = 60


class Missing(Exception):
    """A peer that cannot be had on this machine."""


def run(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise Missing(f"{command[0]}: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout


def install(name, make):
    """The directory of a peer, filled by `make` unless a finished one is there."""
    directory = CACHE / name
    if not (directory / "complete").exists():
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        try:
            make(directory)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Missing(str(error)) from error
        (directory / "complete").touch()
    return directory


def debian(package, version):
    def make(directory):
        run(["apt-get", "download", f"{package}={version}"], cwd=directory, timeout=300)
        (archive,) = directory.glob("*.deb")
        run(["dpkg", "-x", str(archive), str(directory)])
        archive.unlink()

    return install(f"{package}-{version}".replace("~", "_"), make)


def maven(group, artifact, version):
    def make(directory):
        what = f"{group}:{artifact}:{version}"
        copy = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
        run(["mvn", "-q", "-B", copy, f"-Dartifact={what}", f"-DoutputDirectory={directory}"],
            timeout=600)

    return install(f"{artifact}-{version}", make) / f"{artifact}-{version}.jar"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Peer:
    """A running server. `with` ends it, by its own process, and removes its data."""

    def __init__(self, scratch):
        self.directory = Path(tempfile.mkdtemp(prefix="peristyle-compare-", dir=scratch))
        self.port = free_port()
        self.process = None

    def __enter__(self):
        try:
            command = self.command()
            log = open(self.directory / "log", "wb")
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.directory,
                                            env=os.environ | self.environment)
            self.wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def wait(self):
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}{self.health}", timeout=5)
                return
            except OSError as error:
                if self.process.poll() is not None or time.monotonic() > end:
                    text = (self.directory / "log").read_text(errors="replace")[-300:]
                    raise Missing(f"{self.name} did not start: {error}: {text}") from error
                time.sleep(0.1)

    environment = {}
    health = "/ping"


class Peristyle(Peer):
    name, target, version = "Peristyle", "peristyle", "this tree"
    durable = "yes: synced"
    level = "fsync"
    binary = None

    def command(self):
        return [self.binary, "serve", "--listen", f"127.0.0.1:{self.port}",
                "--durability", self.level, "--data-dir", str(self.directory / "data")]


class PeristyleMemory(Peristyle):
    name, durable, level = "Peristyle, `memory`", "no: within 10 s", "memory"


class InfluxDB(Peer):
    name, target, version = "InfluxDB", "influxdb1", INFLUXDB
    durable = "yes: WAL synced (its default)"

    def command(self):
        binary = debian("influxdb", INFLUXDB) / "usr/bin/influxd"
        config = self.directory / "influxdb.conf"
        config.write_text(f"""
reporting-disabled = true
bind-address = "127.0.0.1:{free_port()}"
[meta]
  dir = "{self.directory}/meta"
[data]
  dir = "{self.directory}/data"
  wal-dir = "{self.directory}/wal"
  index-version = "tsi1"
  cache-max-memory-size = "4g"
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:{self.port}"
  log-enabled = false
""")
        return [str(binary), "-config", str(config)]


class VictoriaMetrics(Peer):
    name, target, version = "VictoriaMetrics", "victoriametrics", VICTORIAMETRICS
    durable = "no: within 5 s"
    health = "/health"

    def command(self):
        binary = debian("victoria-metrics", VICTORIAMETRICS) / "usr/bin/victoria-metrics"
        return [str(binary), f"-httpListenAddr=127.0.0.1:{self.port}",
                f"-storageDataPath={self.directory}/data", "-retentionPeriod=12"]


class QuestDB(Peer):
    name, target, version = "QuestDB", "questdb", QUESTDB
    durable = "no: `nosync`, its default"

    def command(self):
        if not shutil.which("java") or not shutil.which("mvn"):
            raise Missing("java and mvn are not on this machine")
        jar = maven("org.questdb", "questdb", QUESTDB)
        config = self.directory / "root" / "conf" / "server.conf"
        config.parent.mkdir(parents=True)
        config.write_text(f"""
http.net.bind.to=127.0.0.1:{self.port}
http.bind.to=127.0.0.1:{self.port}
http.min.enabled=false
pg.enabled=false
line.tcp.enabled=false
line.udp.enabled=false
telemetry.enabled=false
""")
        return ["java", "-p", str(jar), "-m", "io.questdb/io.questdb.ServerMain",
                "-d", str(self.directory / "root")]


PEERS = {
    "peristyle": Peristyle,
    "peristyle-memory": PeristyleMemory,
    "victoriametrics": VictoriaMetrics,
    "influxdb": InfluxDB,
    "questdb": QuestDB,
}
