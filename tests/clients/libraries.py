"""Client libraries of Python and JavaScript, put through every scenario of scenarios.py.

    libraries.py --binary target/release/peristyle [--only NAME] [--scenario NAME]

Needs the packages of requirements.txt, and in PERISTYLE_NODE_DIR those of javascript/package.json.
"""

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import scenarios
from server import Server

SCENARIOS = ["every_type", "one_bad_row", "restarts", "overload", "wrong_token"]


def node_is_there():
    directory = os.environ.get("PERISTYLE_NODE_DIR")
    return directory and (Path(directory) / "node_modules").exists()


def clients():
    """All of them, and what cannot be tried."""
    import python_clients

    found, missing = list(python_clients.CLIENTS), []
    if node_is_there():
        import javascript_clients

        found += javascript_clients.CLIENTS
    else:
        missing.append("JavaScript clients: node and npm are not on this machine: not tried")
    return found, missing


def version_of(client):
    if not client.package.startswith("@"):
        return importlib.metadata.version(client.package)
    package = Path(os.environ["PERISTYLE_NODE_DIR"], "node_modules", client.package)
    return json.loads((package / "package.json").read_text())["version"]


def token_of(binary, data_dir):
    """A new token of this data directory, made before it is served."""
    command = [str(binary), "token", "create", "clients", "--allow", "write"]
    command += ["--data-dir", str(data_dir)]
    made = subprocess.run(command, capture_output=True, text=True)
    scenarios.check(made.returncode == 0, f"token create: {made.stderr.strip()}")
    return made.stdout.strip()


def one_by_one(scenario, classes, server, *more):
    for kind in classes:
        client = kind()
        try:
            getattr(scenarios, scenario)(client, server, *more)
        except Exception:  # Each client has errors of its own; the next one is tried.
            yield client, traceback.format_exc()


def run(scenario, classes, binary, scratch):
    """One scenario with a server of its own; yields clients and what is wrong."""
    server = Server(scenarios.Options(binary), scratch / scenario)
    settings = {}
    if scenario == "overload":
        settings = {"memory_limit": "64MiB", "max_body_bytes": "32MiB"}
    more = []
    if scenario == "wrong_token":
        server.token = token_of(binary, server.data_dir)
        more.append(server.token)
    server.start(**settings)
    server.stay()
    try:
        if scenario in ("restarts", "overload"):
            yield from getattr(scenarios, scenario)([it() for it in classes], server)
        else:
            yield from one_by_one(scenario, classes, server, *more)
    finally:
        server.kill()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--binary", required=True, type=Path)
    parser.add_argument("--only", help="a part of a client's name")
    parser.add_argument("--scenario", choices=SCENARIOS)
    options = parser.parse_args()
    classes, failed = clients()
    if options.only:
        classes = [it for it in classes if options.only in it.name]
    for kind in classes:
        print(f"   {kind.name}: {kind.package} {version_of(kind)}")
    with tempfile.TemporaryDirectory(prefix="peristyle-clients-") as scratch:
        for scenario in [options.scenario] if options.scenario else SCENARIOS:
            begin = time.monotonic()
            wrong = []
            try:
                for client, text in run(scenario, classes, options.binary, Path(scratch)):
                    wrong.append(f"{scenario}: {client.name}: {text}")
            except Exception:  # What a whole scenario lacks is one fault of it.
                wrong.append(f"{scenario}: {traceback.format_exc()}")
            seconds = time.monotonic() - begin
            print(f"   {scenario}: {len(classes)} clients, {len(wrong)} faults, {seconds:.1f} s")
            failed += wrong
    for text in failed:
        print(f"FAILED {text}", file=sys.stderr)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
