"""Telegraf writes through every output while the server is killed and started again and again.

    telegraf_restarts.py --binary target/release/peristyle --telegraf telegraf --minutes 10

It is fed numbered metrics with times of their own, 500 a second. In the end its buffers have to be
empty, and the table of each output has to hold every number once. The last line is JSON, for
`perf/results`.

One thing cannot be told apart by anyone but the row itself: a kill between the journal's sync and
the answer. Telegraf saw no answer then and sends those metrics again, in another body when more
have come or when the order of its maps is another. Such a batch is found by the error that Telegraf
logged: the connection broke under a request. Rows that are doubled without such an error are a
fault, and with `--strict` those too.
"""

import argparse
import collections
import json
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

import deltalake

import rows
from agent import OUTPUTS, Agent
from scenarios import Options, check, url_of
from segments import directory_of
from server import Server
from telegraf import version_of

FED, FED_SECONDS = 50, 0.1
# What Telegraf says when a connection breaks under a request.
BROKEN = ("EOF", "connection reset", "broken pipe", "unexpected EOF", "use of closed")
DOWN_SECONDS_MAX = 3


class Feeder(threading.Thread):
    """Numbered metrics at an even rate until it is told to stop."""

    def __init__(self, agent):
        super().__init__(daemon=True)
        self.agent, self.fed, self.is_over, self.failed = agent, 0, threading.Event(), None

    def run(self):
        try:
            while not self.is_over.wait(FED_SECONDS):
                numbers = range(self.fed, self.fed + FED)
                lines = [f"run,host=web{n % 7} n={n}i,v={n + 0.5} {time_of(n)}" for n in numbers]
                check(self.agent.feed("\n".join(lines)) == 204, "Telegraf took no metrics")
                self.fed += FED
        except Exception as error:  # Whoever waits for the end is told.
            self.failed = error


def time_of(n):
    return rows.BASE_NS + n * 1_000_000


def judge(data_dir, output, fed):
    """How many numbers are lost, doubled and altered in the table of this output."""
    table = deltalake.DeltaTable(str(directory_of(data_dir, output.database, "run")))
    table = table.to_pyarrow_table(columns=["n", "v", "time"])
    numbers = [round(it) for it in table["n"].to_pylist()]
    counts = collections.Counter(numbers)
    times = table["time"].cast("int64").to_pylist()
    sound = zip(numbers, table["v"].to_pylist(), times, strict=True)
    return {
        "rows": table.num_rows,
        "lost": fed - len(counts),
        "doubled": table.num_rows - len(counts),
        "altered": sum(v != n + 0.5 or us * 1000 != time_of(n) for n, v, us in sound),
    }


def broken(agent, output):
    return sum(any(word in line for word in BROKEN) for line in agent.lines_of(output))


def kill_and_start(server, rng, counts, settings):
    """Down for a moment, as a service is that its supervisor starts again."""
    server.kill()
    time.sleep(rng.uniform(0, DOWN_SECONDS_MAX))
    counts["recovery_ms_max"] = max(
        counts.get("recovery_ms_max", 0), round(server.start(**settings) * 1000)
    )
    counts["kills"] = counts.get("kills", 0) + 1


def drive(options, server, agent, rng, counts):
    """Feeds and kills for as long as asked for; the buffers are empty at its return."""
    feeder = Feeder(agent)
    feeder.start()
    end = time.monotonic() + options.minutes * 60
    while (left := end - time.monotonic()) > options.period / 2:
        # Not always at the same distance from Telegraf's flush.
        time.sleep(min(left, options.period * rng.uniform(0.75, 1.25)))
        kill_and_start(server, rng, counts, {"schemas": "shipped"})
        check(feeder.failed is None, feeder.failed)
    feeder.is_over.set()
    feeder.join()
    agent.wait_empty(120)
    counts["fed"] = feeder.fed


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--binary", required=True, type=Path)
    parser.add_argument("--telegraf", required=True, type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--period", type=float, default=60, help="seconds from kill to kill")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--strict", action="store_true", help="no row may be doubled, ever")
    parser.add_argument("--outputs", help="names of examples, with commas (default: all)")
    options = parser.parse_args()
    asked = options.outputs.split(",") if options.outputs else [it.name for it in OUTPUTS]
    outputs = [it for it in OUTPUTS if it.name in asked]
    print(f"   seed {options.seed}, {options.minutes} minutes, {len(outputs)} outputs")
    rng, counts, faults = random.Random(options.seed), {}, []
    with tempfile.TemporaryDirectory(prefix="peristyle-telegraf-") as scratch:
        server = Server(Options(options.binary), Path(scratch) / "data")
        server.start(schemas="shipped")
        server.stay()
        try:
            with Agent(options.telegraf, Path(scratch), url_of(server), outputs) as agent:
                drive(options, server, agent, rng, counts)
                status = agent.end()
            server.flush()
            for output in outputs:
                found = judge(server.data_dir, output, counts["fed"])
                found["broken_requests"] = broken(agent, output)
                found["buffered"] = agent.buffered(output)
                counts[output.name] = found
                is_told = found["broken_requests"] and not options.strict
                bad = found["lost"] or found["altered"] or found["buffered"]
                if bad or (found["doubled"] and not is_told):
                    faults.append(f"{output.name}: {found}")
            if status:
                faults.append(f"Telegraf ended with {status}")
        finally:
            server.kill()
    result = {"script": "telegraf_restarts", "telegraf": version_of(options), **vars(options)}
    result |= counts | {"faults": len(faults)}
    print(json.dumps({k: v for k, v in result.items() if not isinstance(v, Path)}))
    for text in faults:
        print(f"FAILED {text}", file=sys.stderr)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
