"""Runs the examples of schemas/examples that write, and compares what they wrote.

    examples.py --binary target/release/peristyle [--go GO]
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import rows
from scenarios import Options, url_of
from server import Server

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "schemas" / "examples"
BEGIN = 1_700_000_000_000_000_000


def expected(measurement):
    fields = [{"level": 1.25, "open": True}, {"open": False}]
    tags = [{"room": "hall"}, {"room": "attic"}]
    return [rows.Row(measurement, BEGIN + n, tags[n], fields[n]) for n in range(2)]


def commands(options, url):
    """Each language, its directory and the command that a reader of the example would give."""
    yield "python", ROOT, [sys.executable, str(EXAMPLES / "python" / "write.py"), url]
    if options.go:
        yield "go", EXAMPLES / "go", [options.go, "run", "-mod=readonly", "main.go", url]
    example = EXAMPLES / "rust" / "write_columns.rs"
    cargo = ["cargo", "run", "--locked", "--quiet", "--example", example.stem, "--"]
    yield "rust", ROOT, [*cargo, url.removeprefix("http://")]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--binary", required=True, type=Path)
    parser.add_argument("--go", default="", help="the go command; without it Go is a fault")
    options = parser.parse_args()
    failed = [] if options.go else ["go: not on this machine, so the example was not tried"]
    with tempfile.TemporaryDirectory(prefix="peristyle-examples-") as scratch:
        server = Server(Options(options.binary), Path(scratch) / "data")
        server.start()
        try:
            for language, directory, command in commands(options, url_of(server)):
                done = subprocess.run(command, cwd=directory, env=os.environ)
                if done.returncode:
                    failed.append(f"{language}: status {done.returncode}")
                    continue
                server.flush()
                for measurement in (f"{language}_msgpack", f"{language}_arrow"):
                    wrong = rows.differences(server.data_dir, "examples", expected(measurement))
                    failed += wrong
                    print(f"   {measurement}: {len(wrong)} differences")
        finally:
            server.kill()
    for text in failed:
        print(f"FAILED {text}", file=sys.stderr)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
