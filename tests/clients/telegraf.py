"""Telegraf through every output of schemas/examples/telegraf, compared with what it had.

    telegraf.py --binary target/release/peristyle --telegraf telegraf [--scenario NAME]

`outputs.file` beside them writes down every metric, so that the inputs of a real machine can be
compared value by value too.
"""

import argparse
import ast
import collections
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import rows
from agent import EXAMPLES, OUTPUTS, Agent
from libraries import token_of
from scenarios import Hog, Options, check, url_of
from server import Server

# Fixed metrics of every kind, with what Telegraf has to escape.
FIXED = rf"""
fixed,host=web1,region=eu f=1.5,i=42i,b=true,s="plain" {rows.BASE_NS}
fixed,host=a\ b\,c\=d f=-0.1,i=-9223372036854775808i,b=false,s="q \" and \\ , =" {rows.BASE_NS + 1}
fixed,p=C:\dir f=0.5,i=9223372036854775807i,b=true,s="caf{chr(0xE9)}
two lines" {rows.BASE_NS + 999_999_999}
fixed f=123456.789 -1000000000000000000
unsigned u=42u,big=9223372036854775807u {rows.BASE_NS}
spaced\ name\,x f=2.5 {rows.BASE_NS}
"""
# Values that do not fit `seed`, by field: ten kinds of bad.
SEED = f'mixed,kind=seed f=0.5,i=7i,s="text",b=true {rows.BASE_NS}\n'
BAD = ['f="text"', "f=true", "i=1.5", 'i="text"', "i=true", "s=1.5", "s=7i", "s=true", 'b="text"']
BAD += ["b=0.5"]
GOOD_ROWS, BAD_OF_KIND = 4950, 5
# What Telegraf logs of a server that is busy, and of a token that is not known.
BUSY, UNKNOWN = ("503", "memory budget"), ("401", "nauthor", "uthenticat")
NEXT_NS = rows.BASE_NS + 10**12


def stored_form(output, time_ns, values):
    """A metric as the table of this output has to have it."""
    if output.is_json:
        values = {k: as_number(v) for k, v in values.items()}
    return rows.plain(time_ns // output.unit_ns * output.unit_ns, values)


def as_number(value):
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number else value


def differences(agent, data_dir, is_expected=lambda name, fields: True):
    """What the tables of every output have too much or too little."""
    metrics = list(agent.metrics())
    for output in agent.outputs:
        should = collections.defaultdict(collections.Counter)
        for name, time_ns, tags, fields in metrics:
            if is_expected(name, fields):
                should[name][stored_form(output, time_ns, tags | fields)] += 1
        for name, expected in should.items():
            found = rows.stored(data_dir, output.database, name)
            if output.is_json:
                numbers = [(it, {k: ast.literal_eval(v) for k, v in row}) for it, row in found]
                found = [stored_form(output, *it) for it in numbers]
            found = collections.Counter(found)
            where = f"{output.database}/{name}"
            for what, those in (("missing", expected - found), ("not sent", found - expected)):
                for row, count in list(those.items())[: rows.SHOWN]:
                    yield f"{where}: {what}, {count} x of {those.total()}: {row}"


def every_input(options, server, scratch):
    """The inputs of a machine, and metrics of every kind, for some intervals."""
    inputs = (EXAMPLES / "inputs.conf").read_text("utf-8").partition("\n\n")[2]
    with Agent(options.telegraf, scratch, url_of(server), options.outputs, more=inputs) as agent:
        agent.feed(FIXED)
        time.sleep(5)  # So many intervals of the inputs.
        check(agent.end() == 0, f"Telegraf ended badly\n{agent.log()}")
    server.flush()
    yield from differences(agent, server.data_dir)
    names = collections.Counter(it[0] for it in agent.metrics())
    print(f"   {sum(names.values())} metrics of {len(names)} measurements: {', '.join(names)}")
    for output in agent.outputs:
        said = [it for it in agent.lines_of(output) if " E! " in it or " W! " in it]
        yield from (f"{output.name}: {it}" for it in said)


def bad_rows(options, server, scratch):
    """5,000 metrics, 50 of them bad in ten ways: 4,950 stored, the next batch goes through."""
    lines, period = [], GOOD_ROWS // (len(BAD) * BAD_OF_KIND)
    for n in range(GOOD_ROWS):
        time_ns = rows.BASE_NS + (n + 1) * 1_000_000
        lines.append(f'mixed,kind=good f={n}.5,i={n}i,s="row {n}",b={n % 2 == 0} {time_ns}')
        if n % period == 0:
            bad = BAD[n // period % len(BAD)]
            lines.append(f"mixed,kind=bad {bad} {time_ns + 500_000}")
    check(len(lines) == GOOD_ROWS + len(BAD) * BAD_OF_KIND, f"{len(lines)} lines")
    url = url_of(server)
    with Agent(options.telegraf, scratch, url, options.outputs, batch_size=5000) as agent:
        for batch in (SEED, "\n".join(lines), f"mixed,kind=next f=1.5,i=1i {NEXT_NS}"):
            agent.feed(batch)
            agent.wait_empty()
        check(agent.end() == 0, f"Telegraf ended badly\n{agent.log()}")
    server.flush()
    yield from differences(agent, server.data_dir, lambda name, fields: not is_bad(fields))
    for output in agent.outputs:
        rejected = rows.stored(server.data_dir, output.database, "_rejected")
        if len(rejected) != len(BAD) * BAD_OF_KIND:
            yield f"{output.database}: expected 50 rows in _rejected, found {len(rejected)}"


def is_bad(fields):
    kinds = {"f": float, "i": int, "s": str, "b": bool}
    return any(type(value) is not kinds[name] for name, value in fields.items())


def overload(options, server, scratch):
    """While the server is busy everything stays in the buffer; then it is stored, once."""
    with Agent(options.telegraf, scratch, url_of(server), options.outputs) as agent:
        hog = Hog(server.address)
        agent.feed(SEED)
        agent.wait_for(
            lambda: hog.trickle() and all(says(agent, it, BUSY) for it in agent.outputs),
            20,
            "not every output was told that the server is busy",
        )
        hog.release()
        agent.wait_empty()
        check(agent.end() == 0, f"Telegraf ended badly\n{agent.log()}")
    server.flush()
    yield from differences(agent, server.data_dir)


def says(agent, output, words):
    return any(word in line for line in agent.lines_of(output) for word in words)


def wrong_token(options, server, scratch):
    """A wrong token stores nothing and is told; the right one writes."""
    for token in (f"{options.token}x", options.token):
        directory = scratch / token[-4:]
        directory.mkdir()
        with Agent(options.telegraf, directory, url_of(server), options.outputs, token) as agent:
            agent.feed(SEED)
            yield from try_token(agent, server, token == options.token)


def try_token(agent, server, is_right):
    if is_right:
        agent.wait_empty()
    else:
        agent.wait_for(
            lambda: all(says(agent, it, UNKNOWN) for it in agent.outputs),
            20,
            "not every output was told that its token is wrong",
        )
    agent.end()
    server.flush()
    if is_right:
        yield from differences(agent, server.data_dir)
    for output in agent.outputs if not is_right else ():
        if rows.stored(server.data_dir, output.database, "mixed"):
            yield f"{output.database}: a wrong token stored rows"


def version_of(options):
    command = [str(options.telegraf), "--version"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


SCENARIOS = [every_input, bad_rows, overload, wrong_token]


def run(scenario, options, scratch):
    """One scenario with a server of its own; yields what is wrong."""
    server = Server(Options(options.binary), scratch / "data")
    settings = {"schemas": "shipped"}
    if scenario is overload:
        settings |= {"memory_limit": "64MiB", "max_body_bytes": "32MiB"}
    if scenario is wrong_token:
        server.token = options.token = token_of(options.binary, server.data_dir)
    server.start(**settings)
    try:
        yield from scenario(options, server, scratch)
    finally:
        server.kill()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--binary", required=True, type=Path)
    parser.add_argument("--telegraf", required=True, type=Path)
    parser.add_argument("--scenario", choices=[it.__name__ for it in SCENARIOS])
    parser.add_argument("--outputs", help="names of examples, with commas (default: all)")
    options = parser.parse_args()
    asked = options.outputs.split(",") if options.outputs else [it.name for it in OUTPUTS]
    options.outputs = [it for it in OUTPUTS if it.name in asked]
    print(f"   {version_of(options)}: {', '.join(it.name for it in options.outputs)}")
    failed = []
    for scenario in SCENARIOS:
        name = scenario.__name__
        if options.scenario not in (None, name):
            continue
        begin, wrong = time.monotonic(), []
        with tempfile.TemporaryDirectory(prefix="peristyle-telegraf-") as scratch:
            try:
                wrong += [f"{name}: {it}" for it in run(scenario, options, Path(scratch))]
            except Exception:  # What a scenario lacks is one fault; the next one is tried.
                wrong.append(f"{name}: {traceback.format_exc()}")
        print(f"   {name}: {len(wrong)} faults, {time.monotonic() - begin:.1f} s")
        failed += wrong
    for text in failed:
        print(f"FAILED {text}", file=sys.stderr)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
