"""Rows as clients mean them, and as tables hold them; what is different between the two."""

import collections
from typing import NamedTuple

import deltalake

from segments import directory_of

# 2023-11-14 22:13:20 UTC: fixed, so that a recorded request says nothing of its machine.
BASE_NS = 1_700_000_000_000_000_000
SHOWN = 3


class Unsigned(int):
    """An integer that is sent as an unsigned one, by clients that can say so."""


class Row(NamedTuple):
    """One point: `tags` of text, `fields` of bool, int, Unsigned, float or str."""

    measurement: str
    time_ns: int
    tags: dict
    fields: dict


def every_type(measurement, kinds, unit_ns, is_before_1970):
    """Rows with every value that a client of these `kinds` can say, in its unit of time."""
    values = {
        "float": [1.5, -0.1, 1e300, 5e-324],
        "int": [42, -(1 << 63), (1 << 63) - 1, 0],
        "int53": [42, -(1 << 53) + 1, (1 << 53) - 1, 0],
        "uint": [Unsigned(7), Unsigned(0), Unsigned((1 << 63) - 1), Unsigned(1 << 40)],
        "bool": [True, False, True, False],
        "str": ["plain", 'a "quoted" text, with = and \\ in it', "caf\u00e9 \u4e16\u754c", ""],
    }
    tags = [
        {"host": "web1"},
        {"host": "a b,c=d", "region": "\u00fc"},
        {"host": "web1", "region": "eu"},
        {},
    ]
    times = [0, 1, 999_999_999, -BASE_NS - 1 if is_before_1970 else 86_400_000_000_000]
    return [
        Row(
            measurement,
            (BASE_NS + times[at]) // unit_ns * unit_ns,
            tags[at],
            {f"{kind}_value": values[kind][at] for kind in values if kind in kinds},
        )
        for at in range(len(times))
    ]


def numbered(measurement, first, count):
    """Rows that are like no others: each says its number three times."""
    return [
        Row(
            measurement,
            BASE_NS + n * 1_000_000,
            {"host": f"web{n % 7}"},
            {"n": n, "v": n / 8, "text": f"row {n}"},
        )
        for n in range(first, first + count)
    ]


def plain(time_ns, values):
    """A row in a form that sorts, and that tells 1, 1.0 and true apart."""
    values = {k: int(v) if isinstance(v, Unsigned) else v for k, v in values.items()}
    return time_ns, tuple(sorted((name, repr(value)) for name, value in values.items()))


def sent(rows):
    """What a table holds of `rows`: a tag and a field are columns alike."""
    return [plain(row.time_ns, row.tags | row.fields) for row in rows]


def stored(data_dir, database, measurement):
    """The rows that the table's log says there are."""
    directory = directory_of(data_dir, database, measurement)
    if not (directory / "_delta_log").exists():
        return []
    table = deltalake.DeltaTable(str(directory)).to_pyarrow_table().drop_columns(["date"])
    times = table["time"].cast("int64").to_pylist()
    rows = []
    for us, row in zip(times, table.drop_columns(["time"]).to_pylist(), strict=True):
        below = row.pop("time_ns", None) or 0
        values = {name: value for name, value in row.items() if value is not None}
        rows.append(plain(us * 1000 + below, values))
    return rows


def differences(data_dir, database, expected):
    """One line for each row of `expected` that is lost, altered or doubled, and for others."""
    of_measurement = collections.defaultdict(list)
    for row in expected:
        of_measurement[row.measurement].append(row)
    found = []
    for measurement, rows in of_measurement.items():
        here = collections.Counter(stored(data_dir, database, measurement))
        should = collections.Counter(sent(rows))
        for what, those in (("missing", should - here), ("doubled or not sent", here - should)):
            found += [f"{database}/{measurement}: {what}: {row}" for row in list(those)[:SHOWN]]
            if len(those) > SHOWN:
                more = sum(those.values())
                found.append(f"{database}/{measurement}: {what}: {more} rows in all")
    return found
