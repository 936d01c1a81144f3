"""`syncd run`: effects wait for a daemon, unless the command is told to deliver them (P46, P49)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import database_facts as facts
from console import Ended, syncd

from syncd.testing import serve
from syncd_front.simulator import FRONT, Company, Front
from syncd_front.simulator import Simulator as FrontSimulator
from syncd_ship24.simulator import API_KEY, PREFIX, Ship24
from syncd_ship24.simulator import Simulator as Ship24Simulator

KIND = "ship24.register_tracker"
TOKEN = "an-invented-front-token"
STATES = "SELECT state, count(*)::int AS n FROM syncd.effect GROUP BY state ORDER BY state"


@attrs.frozen
class Chain:
    """Mail whose shipments are registered elsewhere, and the configuration that says so."""

    ship24: Ship24
    folder: Path
    file: Path

    async def run(self, *options: str) -> Ended:
        run = ["run", "mail", "--full", "--json", *options]
        return await syncd("-c", self.file, *run, folder=self.folder)


@asynccontextmanager
async def chain(dsn: str, folder: Path, *, effects_max: int = 1000) -> AsyncIterator[Chain]:
    company = Company("acme", 20, newest=time.time())
    front, ship24 = Front(company, token=TOKEN, calls=None), Ship24(limits=False)
    async with serve(FrontSimulator(front)) as mail, serve(Ship24Simulator(ship24)) as tracking:
        file = folder / "syncd.toml"
        file.write_text(f"""
[database]
url = '''{dsn}'''
[daemon]
effects_max = {effects_max}
[connectors.front]
base_url = "{mail}{FRONT}"
register_trackers = true
[[connectors.front.accounts]]
name = "acme"
token = "{TOKEN}"
plan = "enterprise"
[connectors.front.quotas.core]
requests = 6000
per = "60s"
[connectors.ship24]
base_url = "{tracking}{PREFIX}"
api_key = "{API_KEY}"
[jobs.mail]
connector = "front"
""")
        await syncd("-c", file, "migrate", folder=folder)
        yield Chain(ship24, folder, file)


def states(dsn: str) -> dict[str, int]:
    return {row["state"]: row["n"] for row in facts.rows(dsn, STATES)}


async def test_a_run_delivers_effects_only_where_it_is_told_to(dsn: str, tmp_path: Path) -> None:
    async with chain(dsn, tmp_path, effects_max=3) as kept:
        bare = await kept.run()
        enqueued = bare.json()["effects"][KIND]["enqueued"]
        assert (bare.code, states(dsn), kept.ship24.parcels) == (0, {"pending": enqueued}, {})
        assert enqueued > 3
        assert any("`syncd serve`, or by `syncd run --effects`" in w for w in bare.words())

        full = await kept.run("--wait", "0s")
        (told,) = [w for w in full.words() if "daemon.effects_max" in w]
        assert (full.code, f"over 3 effects of {KIND} are open" in told) == (75, True)

        kept.ship24.mode = "down"
        hindered = await kept.run("--effects", "--wait", "1s")
        assert hindered.code == 75, "nothing is fetched above the mark"
        assert hindered.json()["effects"][KIND]["left_open"] == enqueued
        assert any(f"syncd effects list --kind {KIND}" in w for w in hindered.words())

        kept.ship24.mode = "up"
        facts.execute(dsn, "UPDATE syncd.effect SET due_at = syncd.clock()")
        done = await kept.run("--effects")
    assert done.code == 0, done.err
    assert done.json()["effects"][KIND] == {
        "enqueued": 0,
        "delivered": enqueued,
        "dead": 0,
        "left_open": 0,
        "left_dead": 0,
    }
    assert states(dsn) == {"delivered": enqueued}
    shipments = facts.rows(dsn, "SELECT tracking_number FROM front.shipments")
    registered = {each.number for each in kept.ship24.parcels.values()}
    assert registered == {each["tracking_number"] for each in shipments}


async def test_a_run_that_delivers_says_which_effects_are_dead(dsn: str, tmp_path: Path) -> None:
    async with chain(dsn, tmp_path) as kept:
        kept.ship24.refusals.extend([(400, "validation_error")] * 100)
        ended = await kept.run("--effects", "--wait", "2s")

    told = ended.json()["effects"][KIND]
    assert (ended.code, ended.json()["exit_code"]) == (3, 3)
    assert told["dead"] == told["left_dead"] == told["enqueued"] > 0
    assert any("see why with" in word for word in ended.words())
