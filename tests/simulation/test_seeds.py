"""200 worlds, each drawn from a seed: whatever befalls them, the laws hold."""

from __future__ import annotations

import json
import os
from pathlib import Path

import attrs
import pytest
from seeds import TRIED, Lived, live, summary

from syncd.events import Event, TableChanged

SHARDS = 20
SEEDS_OF_A_SHARD = 10
MET_MIN = 6  # of all seeds, each kind of trouble

RESULTS = Path(__file__).parents[2] / "build" / "test-results"


@pytest.mark.parametrize("shard", range(SHARDS))
def test_whatever_befalls_a_world_the_laws_hold(
    shard: int, worlds: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    first = shard * SEEDS_OF_A_SHARD
    lives = [live(seed, worlds) for seed in range(first, first + SEEDS_OF_A_SHARD)]

    broken = {f"make simulate SEEDS={each.seed}": each.broken for each in lives if each.broken}
    assert broken == {}
    noted = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        noted = noted.parent  # which all workers share
    every = together(noted, shard, lives)
    if every:
        met, said = summary(every)
        if RESULTS.is_dir():
            (RESULTS / "simulation.txt").write_text(f"simulation: {said}\n", encoding="utf-8")
        assert {kind: met[kind] for kind in TRIED if met[kind] < MET_MIN} == {}, said


def together(folder: Path, shard: int, lives: list[Lived]) -> list[Lived]:
    """Note what a shard met; answer with all of it once every shard has, else with nothing."""
    mine = folder / f"simulated-{shard}.json"
    mine.with_suffix(".part").write_text(json.dumps([attrs.asdict(each) for each in lives]))
    mine.with_suffix(".part").rename(mine)
    files = sorted(folder.glob("simulated-*.json"))
    if len(files) < SHARDS:
        return []
    return [Lived(**each) for file in files for each in json.loads(file.read_text())]


def test_a_seed_reproduces_a_run(worlds: str) -> None:
    first, again, other = (told(seed, worlds) for seed in (3, 3, 4))

    assert first == again
    assert len(first) > 50
    assert other != first


def told(seed: int, dsn: str) -> list[str]:
    """Let a world live; answer with all that its daemons told."""
    words: list[str] = []

    def hear(at: float, number: int, event: Event) -> None:
        if not isinstance(event, TableChanged):  # the first world's tables are there for the next
            words.append(f"{at} {number} {event!r}")

    live(seed, dsn, hear=hear)
    return words
