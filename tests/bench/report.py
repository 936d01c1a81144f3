"""What the finished loads say: medians with their range, and the bars that are to be reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any

import attrs
from loads import GENERATIONS, Finished

MIB = 2**20

Group = tuple[str, int, int, str]
"""Shape, records, records a page, phase."""


@attrs.frozen
class Spread:
    """A median, and between which values it lies."""

    middle: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(median(values), min(values), max(values))


MEASURES: Mapping[str, Callable[[Finished], float]] = {
    "rows_per_second": lambda each: each.rows_per_second,
    "wall_seconds": lambda each: each.wall_seconds,
    "own_seconds": lambda each: each.own_seconds,
    "cpu_seconds": lambda each: each.cpu_seconds,
    "database_seconds": lambda each: each.database_seconds,
    "server_seconds": lambda each: each.server_seconds,
    "all_cpu_seconds": lambda each: each.cpu_seconds + each.database_seconds + each.server_seconds,
    "others_seconds": lambda each: each.others_seconds,
    "peak_mib": lambda each: each.peak_bytes / MIB,
    "database_peak_mib": lambda each: each.database_peak_bytes / MIB,
    "wal_mib": lambda each: each.wal_bytes / MIB,
    "inserted": lambda each: each.inserted,
    "updated": lambda each: each.updated,
    "dead": lambda each: each.dead,
    "rolled_back": lambda each: each.rolled_back,
}


@attrs.frozen
class Row:
    """One program in one group."""

    program: str
    repeats: int
    measures: Mapping[str, Spread]

    def __getitem__(self, name: str) -> Spread:
        return self.measures[name]


@attrs.frozen
class Bar:
    """Something to reach, what was reached, and whether that is enough."""

    what: str
    wanted: str
    found: str
    met: bool


def table_of(finished: Sequence[Finished]) -> dict[Group, dict[str, Row]]:
    """Sum the loads up, by group and program, in the order in which they were run."""
    sorted_out: dict[Group, dict[str, list[Finished]]] = {}
    for each in finished:
        load = each.load
        group = (load.shape, load.records, load.per_page, load.phase)
        sorted_out.setdefault(group, {}).setdefault(load.program, []).append(each)
    return {
        group: {program: _row(program, found) for program, found in by_program.items()}
        for group, by_program in sorted_out.items()
    }


def _row(program: str, found: Sequence[Finished]) -> Row:
    spreads = {name: Spread.of([of(each) for each in found]) for name, of in MEASURES.items()}
    return Row(program, len(found), spreads)


def cpu_ratio(rows: Mapping[str, Row], program: str = "yardstick") -> float | None:
    """Return how many times the CPU seconds of syncd another program costs, PostgreSQL's too."""
    if "syncd" not in rows or program not in rows:
        return None
    return rows[program]["all_cpu_seconds"].middle / rows["syncd"]["all_cpu_seconds"].middle


def ratio(rows: Mapping[str, Row], program: str = "yardstick") -> float | None:
    """Return how many times as fast as another program syncd is, by the median rows a second."""
    if "syncd" not in rows or program not in rows:
        return None
    return rows["syncd"]["rows_per_second"].middle / rows[program]["rows_per_second"].middle


# --- The bars -------------------------------------------------------------------------------------

# How many times as fast as the yardstick: by shape, records a page and phase.
_RATIOS = {
    ("plain", 1000, "first"): 1.4,
    ("plain", 50, "first"): 0.8,
    ("plain", 1000, "1%"): 3.0,
    ("plain", 50, "1%"): 1.2,
    ("cars", 1000, "first"): 1.2,
    ("cars", 1000, "1%"): 3.0,
    ("viewed", 1000, "1%"): 1.5,
}
_PEAK_MIB = {"plain": 150.0, "viewed": 150.0, "cars": 250.0}
_REWRITE_SHARE = 0.9  # of syncd's own first pass, where every record has changed
_WAL_SHARE = 0.01  # of the first pass's, where none has
_GROWTH = 0.10  # of the peak, with five times the records


def bars(table: Mapping[Group, Mapping[str, Row]]) -> list[Bar]:
    """Hold what was measured against what is to be reached."""
    found: list[Bar] = []
    for group, rows in table.items():
        found += _of_group(group, rows, table)
    return [*found, *_growth(table)]


def _of_group(
    group: Group, rows: Mapping[str, Row], table: Mapping[Group, Mapping[str, Row]]
) -> Iterator[Bar]:
    shape, records, per_page, phase = group
    name = _named(group)
    wanted, reached = _RATIOS.get((shape, per_page, phase)), ratio(rows)
    if wanted is not None and reached is not None:
        yield Bar(name, f">= {wanted:.1f} x yardstick", f"{reached:.2f} x", reached >= wanted)
    own = rows.get("syncd")
    if own is None:
        return
    peak, most = own["peak_mib"].most, _PEAK_MIB[shape]
    yield Bar(name, f"peak RSS < {most:.0f} MiB", f"{peak:.0f} MiB", peak < most)
    first = table.get((shape, records, per_page, "first"), {}).get("syncd")
    if first is None:
        return
    if phase == "100%":
        share = own["rows_per_second"].middle / first["rows_per_second"].middle
        wanted_share = f">= {_REWRITE_SHARE} x own first pass"
        yield Bar(name, wanted_share, f"{share:.2f} x", share >= _REWRITE_SHARE)
    if phase == "0%" and shape != "viewed":
        dead, written = own["dead"].most, own["inserted"].most + own["updated"].most
        met = not dead and not written
        yield Bar(name, "no row written", f"{written:.0f} written, {dead:.0f} dead", met)
        share = own["wal_mib"].middle / first["wal_mib"].middle
        said = f"{share:.2%} ({own['wal_mib'].middle:.1f} MiB)"
        yield Bar(name, f"WAL < {_WAL_SHARE:.0%} of the first pass", said, share < _WAL_SHARE)


def _growth(table: Mapping[Group, Mapping[str, Row]]) -> Iterator[Bar]:
    """Compare the memory that many records take with that of few ones."""
    peaks = {
        (group[2], group[1]): rows["syncd"]["peak_mib"].middle
        for group, rows in table.items()
        if group[0] == "plain" and group[3] == "first" and "syncd" in rows
    }
    few, many = peaks.get((1000, 190_000)), peaks.get((1000, 1_000_000))
    if few is not None and many is not None:
        growth = many / few - 1
        wanted = f"peak at most {_GROWTH:.0%} above that of 190,000"
        yield Bar("plain 1,000,000", wanted, f"{growth:+.0%}", growth <= _GROWTH)


# --- As text, as JSON -----------------------------------------------------------------------------


def as_text(table: Mapping[Group, Mapping[str, Row]]) -> str:
    """Write the table for a reader: medians, and (least-most) where the spread matters."""
    cells = {
        group: [
            [row.program, *_cells(row), *_times(rows, program)] for program, row in rows.items()
        ]
        for group, rows in table.items()
    }
    titles = ["program", "n", *_COLUMNS, "ratio", "by CPU"]
    every = [titles, *(line for found in cells.values() for line in found)]
    widths = [max(len(line[n]) for line in every) for n in range(len(titles))]
    lines = []
    for group, found in cells.items():
        lines += ["", _named(group), *(_aligned(line, widths) for line in [titles, *found])]
    if disturbed := _disturbed(table):
        lines += ["", disturbed]
    reached = bars(table)
    if reached:
        width = max(len(bar.what) for bar in reached)
        lines += ["", "to reach:"]
        lines += [
            f"  {'yes' if bar.met else 'NO':<4}{bar.what:<{width}}  {bar.wanted}: {bar.found}"
            for bar in reached
        ]
    return "\n".join(line.rstrip() for line in lines[1:])


def _disturbed(table: Mapping[Group, Mapping[str, Row]]) -> str:
    """Warn where the machine was not ours."""
    rows = [row for found in table.values() for row in found.values()]
    shares = [row["others_seconds"].middle / row["wall_seconds"].middle for row in rows]
    many = sum(share > _OTHERS_SHARE for share in shares)
    if not many:
        return ""
    return (
        f"others took up to {max(shares):.1f} cores meanwhile, in {many} of {len(rows)} rows more "
        f"than {_OTHERS_SHARE}: go by CPU, or repeat on a quiet machine"
    )


_OTHERS_SHARE = 0.2  # of a core: what a desktop does by itself is less


def _spread(spread: Spread, digits: int) -> str:
    least, most = f"{spread.least:,.{digits}f}", f"{spread.most:,.{digits}f}"
    return f"{spread.middle:,.{digits}f} ({least}-{most})"


_COLUMNS: Mapping[str, Callable[[Row], str]] = {
    "rows/s": lambda row: _spread(row["rows_per_second"], 0),
    "wall s": lambda row: _spread(row["wall_seconds"], 2),
    "own s": lambda row: _spread(row["own_seconds"], 2),
    "CPU s": lambda row: _spread(row["cpu_seconds"], 2),
    "PG CPU": lambda row: _spread(row["database_seconds"], 2),
    "pages": lambda row: f"{row['server_seconds'].middle:.2f}",
    "others": lambda row: f"{row['others_seconds'].middle:.1f}",
    "RSS MiB": lambda row: f"{row['peak_mib'].most:.0f}",
    "PG MiB": lambda row: f"{row['database_peak_mib'].most:.0f}",
    "WAL MiB": lambda row: f"{row['wal_mib'].middle:.1f}",
    "ins": lambda row: f"{row['inserted'].middle:.0f}",
    "upd": lambda row: f"{row['updated'].middle:.0f}",
}
"""Seconds of CPU are the program's, PostgreSQL's, the page server's and everybody else's."""


def _cells(row: Row) -> list[str]:
    return [str(row.repeats), *(written(row) for written in _COLUMNS.values())]


def _times(rows: Mapping[str, Row], program: str) -> list[str]:
    """Say how many times as fast as a program syncd is, and how many times as cheap."""
    by_rows, by_cpu = ratio(rows, program), cpu_ratio(rows, program)
    if by_rows is None or by_cpu is None or program == "syncd":
        return ["", ""]
    return [f"{by_rows:.2f}x", f"{by_cpu:.2f}x"]


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
    return "  ".join([f"  {first.strip():<{widths[0]}}", *others])


def _named(group: Group) -> str:
    shape, records, per_page, phase = group
    return f"{shape}, {records:,} records, {per_page} a page, {_PHASES[phase]}"


_PHASES = {phase: "first pass" if phase == "first" else f"{phase} changed" for phase in GENERATIONS}


def as_json(table: Mapping[Group, Mapping[str, Row]]) -> dict[str, Any]:
    """Return the same for a program."""
    groups = [
        {
            "shape": shape,
            "records": records,
            "per_page": per_page,
            "phase": phase,
            "ratio": ratio(rows),
            "cpu_ratio": cpu_ratio(rows),
            "programs": {name: attrs.asdict(row) for name, row in rows.items()},
        }
        for (shape, records, per_page, phase), rows in table.items()
    ]
    return {"groups": groups, "bars": [attrs.asdict(bar) for bar in bars(table)]}
