"""Runs checks that share one server, which has to end well afterwards.

    with_server.py --binary target/release/peristyle check_delta.py ..

A check finds the server in PERISTYLE_URL and its data directory in PERISTYLE_DATA_DIR.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from scenarios import Options, url_of
from server import Server


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--binary", required=True, type=Path)
    parser.add_argument("checks", nargs="+", type=Path)
    options = parser.parse_args()
    failed = []
    with tempfile.TemporaryDirectory(prefix="peristyle-clients-") as scratch:
        server = Server(Options(options.binary), Path(scratch) / "data")
        server.start()
        os.environ["PERISTYLE_URL"] = url_of(server)
        os.environ["PERISTYLE_DATA_DIR"] = str(server.data_dir)
        for check in options.checks:
            print(f"-- {check.name}", flush=True)
            if subprocess.run([sys.executable, str(check)]).returncode:
                failed.append(check.name)
        status, _ = server.end()
        if status != 0:
            failed.append(f"SIGTERM: expected status 0, found {status}")
        if failed:
            print(f"-- last lines of the server\n{server.log(20)}", file=sys.stderr)
    for text in failed:
        print(f"FAILED {text}", file=sys.stderr)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
