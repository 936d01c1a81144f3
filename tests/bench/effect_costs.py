"""What it costs a full pass that its rows have effects: none, every tenth one, each, each in order.

    python tests/bench/effect_costs.py --records 40000 --repeats 7

The four take turns, each in a database of its own. CPU is that of the process and of PostgreSQL;
the effects are enqueued, and nobody delivers them. How many statements a commit has is counted in
a run of its own, whose time is not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import databases
import measure
import page_server
import pages
from measure import Cost
from programs import HERE, TIMES_IN_FLIGHT, Failed
from store_bench import tell

RECORDS = 40_000  # some 8 commits of 5,000 rows
PER_PAGE = 1000
REPEATS = 7
TIMEOUT_SECONDS = 300.0


@attrs.frozen
class Variant:
    """Of `every` so many rows one has an effect, 0: none has; `ordered`: with an ordering key."""

    every: int
    ordered: bool = False


VARIANTS: Mapping[str, Variant] = {
    "rows": Variant(0),
    "every tenth": Variant(10),
    "each": Variant(1),
    "each in order": Variant(1, ordered=True),
}
MORE = {"each": 1, "each in order": 2}  # statements that a commit may have more than without


@attrs.frozen
class Bench:
    """Where everything is, and how much of it there is."""

    folder: Path
    database: databases.Server
    pages: page_server.PageServer
    records: int

    def load(
        self, variant: Variant, *, program: str = "syncd_program.py"
    ) -> tuple[Cost, dict[str, Any]]:
        """Run a full pass into an empty database; answer with its cost and what it told.

        Raises: `Failed`, also where rows or effects are not as many as they should be.
        """
        name = f"{databases.PREFIX}effects"
        self.database.make(name, control=True)
        self.database.settle(name)
        file, told = self.folder / "effects.toml", self.folder / "effects.told"
        file.write_text(self._configuration(variant, self.database.dsn(name)))
        said = self.folder / "effects.said"
        cost = measure.run(
            [sys.executable, str(HERE / program), str(file), str(told)],
            said=said,
            database=self.database.postmaster,
            server=self.pages.pid,
            timeout_seconds=TIMEOUT_SECONDS,
        )
        if cost.code != 0:
            raise Failed(f"exit code {cost.code}\n{said.read_text()[-4000:]}")
        self._verify(variant.every, name)
        self.database.drop(name)
        return cost, json.loads(told.read_text())

    def _verify(self, every: int, name: str) -> None:
        with self.database.verifiable(name) as connection:
            rows, effects = (
                connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
                for table in ("caused.records", "syncd.effect")
            )
        wanted = len(range(0, self.records, every)) if every else 0
        # Where the first one stands that has an effect, is nobody's business.
        if rows != (self.records,) or effects is None or abs(effects[0] - wanted) > 1:
            raise Failed(f"{rows} rows and {effects} effects, not {self.records} and {wanted}")

    def _configuration(self, variant: Variant, dsn: str) -> str:
        served = pages.Pages("plain", self.records, PER_PAGE, 0)
        return (
            f"[database]\nurl = '''{dsn}'''\n[connectors.caused]\n"
            f'base_url = "{self.pages.url}/{served.name}"\nper_page = {PER_PAGE}\n'
            f"in_flight = {TIMES_IN_FLIGHT}\nevery = {variant.every}\n"
            f"ordered = {'true' if variant.ordered else 'false'}\n"
            '[jobs.caused]\nconnector = "caused"\nmode = "full"\n'
        )


def measured(bench: Bench, repeats: int) -> dict[str, object]:
    """Let the variants take turns; answer with the figures."""
    costs: dict[str, list[Cost]] = {name: [] for name in VARIANTS}
    for _ in range(repeats):
        for name, variant in VARIANTS.items():
            costs[name].append(bench.load(variant)[0])
    figures: dict[str, object] = {"records": bench.records, "repeats": repeats}
    for name, found in costs.items():
        if found:
            own = sorted(cost.cpu_seconds for cost in found)
            figures[f"{name}: CPU s"] = _middle(own)
            figures[f"{name}: CPU s from"] = round(own[0], 3)
            figures[f"{name}: CPU s to"] = round(own[-1], 3)
            figures[f"{name}: PostgreSQL CPU s"] = _middle([c.database_seconds for c in found])
            figures[f"{name}: wall s"] = _middle([cost.wall_seconds for cost in found])
    statements = {name: _statements(bench, VARIANTS[name]) for name in ("rows", *MORE)}
    figures |= {f"{name}: statements a commit": count for name, count in statements.items()}
    figures |= {f"{name}: statements more": statements[name] - statements["rows"] for name in MORE}
    return figures


def _statements(bench: Bench, variant: Variant) -> int:
    _, told = bench.load(variant, program="counted_program.py")
    return int(statistics.median_high(told["commits"]))


def _middle(seconds: Sequence[float]) -> float:
    return round(statistics.median(seconds), 3)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=RECORDS)
    parser.add_argument("--repeats", type=int, default=REPEATS, help="of each; 0: only count")
    parser.add_argument("--json", action="store_true", help="print one JSON object, and no table")
    parser.add_argument("--data", type=Path, help="where all is kept (default: a temporary folder)")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="syncd-bench-") as made:
        folder = given.data or Path(made)
        pages.truth_of(pages.Pages("plain", given.records, PER_PAGE, 0), folder / "pages")
        with (
            databases.serving(folder / "postgresql") as database,
            page_server.serving(folder / "pages", folder / "nginx") as served,
        ):
            figures = measured(Bench(folder, database, served, given.records), given.repeats)
    tell(figures, as_json=given.json)
    return (
        0 if all(figures[f"{name}: statements more"] == more for name, more in MORE.items()) else 1
    )


if __name__ == "__main__":
    sys.exit(main())
