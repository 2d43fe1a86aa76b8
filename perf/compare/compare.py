#!/usr/bin/env python3
"""Peristyle and its peers under the same bodies, on the same machine, in one run.

    perf/compare/compare.py                                      all peers, three shapes
    perf/compare/compare.py --peers victoriametrics --shapes tsbs --seconds 5
    perf/compare/compare.py --results perf/results/2026-11-22-epyc-2c-load

Installs what it needs, pinned (peers.py), starts one server after the other on a free port of the
loopback address and a new directory of --scratch, and loads each with peristyle-load. Prints a
table, and with --results writes it there as compare.md, beside the reports (compare.jsonl).
Peers that cannot be had are named below the table, with the reason.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import peers

ROOT = Path(__file__).resolve().parent.parent.parent
# The others take line protocol only.
COLUMNS = {"peristyle", "peristyle-memory"}


def build(package, binary):
    directory = os.environ.get("CARGO_TARGET_DIR", ROOT / "target")
    command = ["cargo", "build", "--locked", "--release", "-p", package]
    subprocess.run(command, cwd=ROOT, check=True)
    return str(Path(directory) / "release" / binary)


def measure(options, key, shape, form, encoding):
    """The report of one server under one load, or None where it was not taken to the end."""
    with peers.PEERS[key](options.scratch) as server:
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            command = [
                options.load, "--quiet", "--url", f"http://127.0.0.1:{server.port}",
                "--target", server.target, "--pid", str(server.process.pid),
                "--shape", shape, "--format", form, "--encoding", encoding,
                "--seconds", str(options.seconds), "--warm-up", str(options.warm_up),
                "--connections", str(options.connections), "--json", file.name,
            ]
            if server.target == "peristyle":
                command.append("--verify")
            # Its status is 1 where requests failed; the report says how many.
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode not in (0, 1):
                raise peers.Missing(done.stderr.strip())
            report = json.loads(Path(file.name).read_text())
    report["peer"] = {"key": key, "name": server.name, "version": server.version,
                      "durable": server.durable}
    report["load"] = f"{shape}, {form}, {encoding}"
    return report


def row(report, base):
    totals, peer = report["totals"], report["peer"]
    server = totals["server"]
    cpu = server["settled_cpu_us_per_row"]
    ratio = f"{cpu / base:.1f}" if base else ""
    failed = totals["failed"] + totals["unsent"]
    return (
        f"| {report['load']} | {peer['name']} {peer['version']} | {peer['durable']} "
        f"| {totals['rows_per_s']:,.0f} | {cpu:.3f} | {ratio} | {server['cores']:.2f} "
        f"| {totals['latency_ms_p99']:.1f} | {server['resident_mb_peak']:.0f} | {failed} |"
    )


HEADS = ["load", "server", "durable when answered", "rows/s", "CPU us/row",
         "x Peristyle's CPU", "cores", "p99 ms", "peak RSS MB", "failed"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", help="peristyle; else a fresh release build")
    parser.add_argument("--load", help="peristyle-load; else a fresh release build")
    parser.add_argument("--peers", nargs="+", default=list(peers.PEERS), choices=peers.PEERS)
    parser.add_argument("--shapes", nargs="+", default=["tsbs", "telegraf", "simple"])
    parser.add_argument("--formats", nargs="+", default=["line-protocol"])
    parser.add_argument("--encodings", nargs="+", default=["plain"])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--warm-up", type=float, default=3)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--scratch", default=tempfile.gettempdir())
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    options.load = options.load or build("peristyle-load", "peristyle-load")
    peers.Peristyle.binary = options.binary or build("peristyle", "peristyle")
    loads = [(shape, form, encoding) for shape in options.shapes for form in options.formats
             for encoding in options.encodings]
    reports, missing, lines = [], {}, []
    for load in loads:
        base = None
        for key in options.peers:
            if key in missing or (load[1] != "line-protocol" and key not in COLUMNS):
                continue
            try:
                report = measure(options, key, *load)
            except peers.Missing as error:
                missing[key] = str(error)
                print(f"{key} is left out: {error}", file=sys.stderr)
                continue
            cpu = report["totals"]["server"]["settled_cpu_us_per_row"]
            base = cpu if key == "peristyle" else base
            reports.append(report)
            lines.append(row(report, base))
            print(lines[-1], flush=True)
    table = ["| " + " | ".join(HEADS) + " |", "|" + "---|" * len(HEADS), *lines]
    text = "\n".join(table) + "\n"
    if missing:
        text += "\nNot to be had on this machine:\n\n"
        for key, why in missing.items():
            text += f"- {key}: `{' '.join(why.split())[:60]}`\n"
    print("\n" + text)
    if options.results:
        options.results.mkdir(parents=True, exist_ok=True)
        (options.results / "compare.md").write_text(text)
        with open(options.results / "compare.jsonl", "w") as file:
            for report in reports:
                file.write(json.dumps(report | {"points": []}) + "\n")


if __name__ == "__main__":
    main()
