"""Which loads there are, in which order, and what is known of one that is finished. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs
import msgspec

GENERATIONS = {"first": 0, "1%": 1, "0%": 1, "50%": 2, "100%": 3}
"""The phases in their order, and the generation of pages that each is served."""

PROGRAMS = ("syncd", "yardstick", "yardstick-distinct", "dlt")


class Load(msgspec.Struct, frozen=True):
    """One walk of one program through all pages: what makes it comparable."""

    shape: str
    records: int
    per_page: int
    phase: str
    program: str
    repeat: int

    @property
    def sequence(self) -> str:
        """Name the database that this load shares with the phases before and after it."""
        program = self.program.replace("-", "_")
        return f"bench_{self.shape}_{self.records}_{self.per_page}_{program}_{self.repeat}"

    @property
    def generation(self) -> int:
        return GENERATIONS[self.phase]

    def __str__(self) -> str:
        size = f"{self.records:,} x {self.per_page}"
        return f"{self.shape} {size} {self.phase} {self.program} #{self.repeat}"


class Finished(msgspec.Struct, kw_only=True):
    """What one load took: a line of the results."""

    load: Load
    code: str  # the version of everything that was measured
    commit: str
    at: str
    wall_seconds: float
    own_seconds: float  # from its first request to its last commit
    cpu_seconds: float
    database_seconds: float
    server_seconds: float
    others_seconds: float  # CPU of everybody else on the machine: they disturb
    peak_bytes: int
    database_peak_bytes: int
    inserted: int
    updated: int
    dead: int
    rolled_back: int
    wal_bytes: int
    page_server: str
    database: str

    @property
    def rows_per_second(self) -> float:
        return self.load.records / self.wall_seconds


@attrs.frozen
class Plan:
    """One shape and size: every program walks every phase, so many times."""

    shape: str
    records: int
    per_page: int
    phases: tuple[str, ...]
    programs: tuple[str, ...]
    repeats: int

    def loads(self) -> list[Load]:
        """Return the loads, the programs taking turns: A B A B."""
        return [
            Load(self.shape, self.records, self.per_page, phase, program, repeat)
            for repeat in range(1, self.repeats + 1)
            for phase in self.phases
            for program in self.programs
        ]


def in_order(phases: Iterable[str]) -> tuple[str, ...]:
    """Put phases into the order in which they follow each other.

    Raises: `ValueError` for one that there is not, and without a first pass before the others.
    """
    wanted = set(phases)
    if unknown := wanted - set(GENERATIONS):
        raise ValueError(f"no phase is named {', '.join(sorted(unknown))}")
    if "first" not in wanted:
        raise ValueError("a second pass needs a first one: name the phase `first`, too")
    return tuple(phase for phase in GENERATIONS if phase in wanted)


def seconds_left(done: Sequence[Finished], left: Sequence[Load], *, beside: float) -> float:
    """Estimate how long what is left will take.

    `beside` is what each load needs beside its own time: settling, verifying.
    """
    known: dict[tuple[str, str], list[float]] = {}
    for each in done:
        known.setdefault((each.load.shape, each.load.program), []).append(
            each.wall_seconds / each.load.records
        )
    rates = [rate for found in known.values() for rate in found]
    middle = sum(rates) / len(rates) if rates else 1 / 15_000  # rows/s of a hand-written program

    def of(load: Load) -> float:
        found = known.get((load.shape, load.program))
        return load.records * (sum(found) / len(found) if found else middle)

    return sum(of(load) + beside for load in left)
