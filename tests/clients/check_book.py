"""The examples in Python and SQL of the guide, as a reader would run them.

Runs every block of schemas/guide/start.md and reading.md but that for Spark (read_by_spark.py),
with the server's address in place of port 8086, and a copy of its tables in `peristyle-data`.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from pathlib import Path

import duckdb

from check_delta import duckdb_extension

GUIDE = Path(__file__).resolve().parents[2] / "schemas" / "guide"
URL = os.environ["PERISTYLE_URL"]
PORT = str(urllib.parse.urlsplit(URL).port)
WEATHER = b"""\
weather,city=Zurich temp=4.5 1700000000000000000
weather,city=Basel temp=6 1700000001000000000
"""
# What each example of start.md names its measurement.
WRITTEN = ["v1", "v2", "v3", "arc", "columns", "arrow"]


def blocks(page, *languages):
    """The fenced blocks of a page in these languages, in order."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", (GUIDE / page).read_text(), re.M | re.S)
    return [(language, text) for language, text in found if language in languages]


def post(path, body=b""):
    with urllib.request.urlopen(urllib.request.Request(URL + path, body, method="POST")) as answer:
        assert answer.status in (200, 204), answer.status


def run(text):
    """What a block prints."""
    text = text.replace("localhost:8086", f"localhost:{PORT}").replace(" 8086", f" {PORT}")
    text = text.replace("port=8086", f"port={PORT}").replace("localhost", "127.0.0.1")
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{text}\n{done.stderr}")
    return done.stdout.strip()


def tables():
    """Measurements of all databases that have rows."""
    with urllib.request.urlopen(URL + "/api/v1/tables") as answer:
        return re.findall(r'\{"name":"([^"]+)","rows":[1-9]', answer.read().decode())


def main():
    data = os.path.abspath(os.environ["PERISTYLE_DATA_DIR"])
    with tempfile.TemporaryDirectory(prefix="peristyle-book-") as scratch:
        os.chdir(scratch)
        written = [run(text) for _, text in blocks("start.md", "python")]
        missing = set(WRITTEN) - set(tables())
        assert not missing, f"nothing in {missing}"
        assert len(written) == len(WRITTEN) + 1, "an example that is in no list here"
        assert "quest" in tables()

        post("/write?db=demo", WEATHER)
        post("/api/v1/flush?db=demo")
        # ClickHouse follows no link out of the directory that it is started in.
        shutil.copytree(Path(data) / "tables", "peristyle-data/tables")
        connection = duckdb.connect()
        connection.sql(f"LOAD '{duckdb_extension()}'")
        results = {}
        for number, (language, text) in enumerate(blocks("reading.md", "python", "sql")):
            name = f"{number} {text.split()[1]}"
            if "pyspark" in text:
                print(f"   not run: {name}")
            elif language == "sql":
                results[name] = float(connection.sql(text).fetchone()[0])
            else:
                results[name] = float(run(text))
    print("  ", results)
    assert len(results) >= 6 and set(results.values()) == {10.5}, results


if __name__ == "__main__":
    main()
