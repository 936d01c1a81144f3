"""Play every scenario and print the table: `make simulate-report`.

The plots of rate against limit over time go to build/simulate.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import attrs
from plot import sparkline, svg
from scenarios import SCENARIOS, Reached, Scenario, play
from simulate import begin, database

PLOTS = Path(__file__).parents[2] / "build" / "simulate"
HEAD = ("scenario", "ideal", "reached", "ratio", "refused", "while locked", "to reach", "verdict")


@attrs.frozen
class Row:
    """One row of the table, and its plots."""

    cells: tuple[str, ...]
    misses: tuple[str, ...]
    drawn: str  # a line of characters
    plot: str  # SVG
    seconds: float  # that it took to play
    reached_seconds: float


def played(place: int, *, small: bool) -> Row:
    """Play one scenario, in the database of this process."""
    scenario = SCENARIOS[place]
    began = time.monotonic()
    reached = play(scenario, database(), small=small)
    judge = reached.judge
    return Row(
        cells=_cells(scenario, reached),
        misses=tuple(reached.misses),
        drawn=sparkline(judge, reached.seconds),
        plot=svg(scenario.name, judge, reached.seconds, reached.limits),
        seconds=time.monotonic() - began,
        reached_seconds=reached.seconds,
    )


def _cells(scenario: Scenario, reached: Reached) -> tuple[str, ...]:
    return (
        scenario.name,
        reached.ideal,
        reached.reached,
        f"{reached.ratio:.3f}",
        f"{reached.judge.refused_share:.2%}",
        str(reached.judge.calls_while_locked),
        scenario.reach,
        "missed" if reached.misses else "reached",
    )


def table(rows: Iterable[tuple[str, ...]]) -> str:
    """Write rows as Markdown."""
    lines = [HEAD, tuple("---" for _ in HEAD), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _draw(scenario: Scenario, row: Row) -> str:
    PLOTS.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^a-z0-9]+", "-", scenario.name.lower()).strip("-")
    (PLOTS / f"{name}.svg").write_text(row.plot, encoding="utf-8")
    return (
        f"{row.drawn}  {scenario.name} ({row.reached_seconds:.0f} s, {row.seconds:.0f} s to play)"
    )


def main() -> int:
    """Print the table, what was missed, and the rates over time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="as make test plays them")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="", metavar="TEXT", help="those whose name has it")
    given = parser.parse_args()
    places = [n for n, each in enumerate(SCENARIOS) if given.only.lower() in each.name.lower()]
    began = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(given.jobs, mp_context=context, initializer=begin) as pool:
        playing = [pool.submit(played, place, small=given.small) for place in places]
        rows = [each.result() for each in playing]
    print(table([row.cells for row in rows]))
    chosen = [SCENARIOS[place] for place in places]
    for scenario, row in zip(chosen, rows, strict=True):
        if row.misses:
            print(f"missed: {scenario.name}: {'; '.join(row.misses)}")
    print(*(_draw(each, row) for each, row in zip(chosen, rows, strict=True)), sep="\n")
    print(f"{time.monotonic() - began:.0f} s; plots: {PLOTS}")
    return 1 if any(row.misses for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
