"""Registrations of trackers by the engine: rows cause them, the background carries them out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import attrs
import msgspec
import pytest
import trio
from database import connect
from processes import seen

from syncd import (
    Connector,
    Cursor,
    Effect,
    Feed,
    Page,
    Pass,
    Quota,
    Record,
    Stream,
    Transform,
    Upstream,
    WithEffects,
    background,
    hookimpl,
)
from syncd.cli.commands import invoke
from syncd.config import Config, parse, structure
from syncd.daemon import Process, Root
from syncd.events import EffectLaneDamped, EffectRetried, Event, PartitionParked
from syncd.jobs import run_job
from syncd.observe import Observer
from syncd.plugins import Plugins
from syncd.testing import serve
from syncd_ship24 import plugin
from syncd_ship24.simulator import API_KEY, PREFIX, Ship24, Simulator

E = TypeVar("E", bound=Event)

DEADLINE_SECONDS = 60.0  # what hangs must fail, on a busy machine too
REGISTER = "ship24.register_tracker"


@attrs.frozen
class Nothing:
    """There is nothing to be set."""


@attrs.define
class Parcel:
    number: str
    reference: str


class Parcels:
    """A connector of parcels that are to be followed: each row registers its tracker."""

    def __init__(self, numbers: Sequence[str]) -> None:
        self.numbers = numbers
        self.stream = Stream("parcels", Parcel, key=("number",))
        self.connector = Connector(
            name="parcels",
            version="1",
            settings=Nothing,
            feeds=(Feed("parcels", (self.stream,), quota="all"),),
            upstream=lambda *_: Upstream("http://127.0.0.1:9", quotas=(Quota("all"),)),
        )

    @hookimpl
    def connectors(self) -> Sequence[Connector]:
        return [self.connector]

    @hookimpl
    def begin(self, feed: Feed) -> Any:
        if feed.streams != (self.stream,):
            return None
        return lambda *_: Pass("full", (Cursor("all"),))

    @hookimpl
    def fetch(self, feed: Feed) -> Any:
        if feed.streams != (self.stream,):
            return None

        async def page(*_: Any) -> Page:
            await trio.lowlevel.checkpoint()
            raws = [
                msgspec.Raw(msgspec.json.encode({"number": each, "reference": f"PO {each}"}))
                for each in self.numbers
            ]
            return Page({"parcels": [Record(raw) for raw in raws]}, end=True)

        return page

    @hookimpl
    def transform(self, stream: Stream) -> Transform | None:
        if stream is not self.stream:
            return None
        return Transform("register", 1, registering, effects=(REGISTER,))


def registering(parcel: Parcel) -> WithEffects:
    payload = {"trackingNumber": parcel.number, "shipmentReference": parcel.reference}
    return WithEffects(parcel, [Effect(REGISTER, parcel.number, payload)])


@attrs.define
class World:
    """A database, parcels, and the upstream that is to follow them."""

    dsn: str
    upstream: Ship24
    base_url: str
    parcels: Parcels
    events: list[Event] = attrs.field(factory=list)

    def configured(self) -> tuple[Config, Plugins]:
        plugins = Plugins({"ship24": plugin, "parcels": self.parcels})
        text = f"""
            [database]
            url = "{self.dsn}"
            pool_max = 4
            [connectors.ship24]
            base_url = "{self.base_url}{PREFIX}"
            api_key = "{API_KEY}"
            [connectors.parcels]
            [jobs.parcels]
            connector = "parcels"
            mode = "full"
        """
        raw = parse(text, file="syncd.toml", folder=Path.cwd())
        return structure(raw, plugins.connectors, environment={}), plugins

    async def live(
        self, *, until: Callable[[], bool], first: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Pull the parcels and deliver their effects in a process, until something is so.

        `first` is done once they are pulled.
        """
        config, plugins = self.configured()
        observer = Observer()
        observer.listen(self.events.append)

        async def main(process: Process) -> None:
            async with background.opened(process) as delivering, trio.open_nursery() as nursery:
                nursery.start_soon(delivering.run)
                job = config.jobs["parcels"]
                await run_job(process, job, mode="full", wait_seconds=2.0)
                if first is not None:
                    await first()
                await seen("what is waited for", until, told=lambda: str(self.states))
                delivering.retire()

        await Root(config, plugins, observer).run(main)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with connect(self.dsn) as connection:
            return [tuple(row.values()) for row in connection.execute(query.encode())]

    def told(self, kind: type[E]) -> list[E]:
        return [each for each in self.events if isinstance(each, kind)]

    @property
    def states(self) -> dict[str, int]:
        return dict(self.rows("SELECT state, count(*) FROM syncd.effect GROUP BY state"))

    def is_over(self) -> bool:
        return not set(self.states) & {"pending", "delivering"}


@asynccontextmanager
async def world(dsn: str, numbers: Sequence[str], **options: Any) -> AsyncIterator[World]:
    upstream = Ship24(**options)
    with trio.fail_after(DEADLINE_SECONDS):
        async with serve(Simulator(upstream)) as base_url:
            yield World(dsn, upstream, base_url, Parcels(numbers))


def numbers(count: int) -> list[str]:
    return [f"1Z999AA1{place:010}" for place in range(count)]


async def test_each_row_registers_its_tracker_once_and_its_outcome_is_a_row(dsn: str) -> None:
    async with world(dsn, [*numbers(250), "x"]) as there:
        await there.live(until=there.is_over)

        assert there.states == {"delivered": 250, "dead": 1}
        followed = {(p.number, p.tracker_id) for p in there.upstream.parcels.values()}
        delivered = "SELECT key, response->>'trackerId' FROM syncd.effect WHERE state = 'delivered'"
        assert set(there.rows(delivered)) == followed
        ((key, error),) = there.rows("SELECT key, last_error FROM syncd.effect WHERE state='dead'")
        assert key == "x"
        assert "trackingNumber" in error
        bulks = [each for each in there.upstream.asked if each.endpoint == "bulk"]
        assert max(each.trackers for each in bulks) == 100

        there.upstream.asked.clear()
        await there.live(until=there.is_over)  # the same parcels, seen again
        assert there.upstream.asked == []


async def test_a_provider_that_takes_a_bulk_and_loses_its_answer_has_each_tracker_once(
    dsn: str,
) -> None:
    async with world(dsn, numbers(60)) as there:
        there.upstream.lost = 1
        await there.live(until=there.is_over)

        assert there.states == {"delivered": 60}
        assert len(there.upstream.parcels) == 60


async def test_a_quota_at_its_end_leaves_effects_pending_with_the_reason(dsn: str) -> None:
    async with world(dsn, numbers(5), quota=0) as there:

        def is_refused() -> bool:
            said = "SELECT count(*) FROM syncd.effect WHERE last_error LIKE '%quota_limit_reached%'"
            return there.rows(said) != [(0,)]

        await there.live(until=is_refused)

        assert there.states == {"pending": 5}
        attempts = "SELECT DISTINCT attempts FROM syncd.effect"
        assert there.rows(attempts) == [(0,)], "a quota costs no attempt"
        parcels = "SELECT count(*) FROM parcels.parcels"
        assert there.rows(parcels) == [(5,)], "the sync has not waited"
        assert there.rows("SELECT name FROM syncd.account WHERE state = 'parked'") == []


async def test_a_quota_that_ends_within_a_bulk_costs_the_others_nothing_and_kills_nobody(
    dsn: str,
) -> None:
    async with world(dsn, numbers(5), quota=3) as there:
        there.upstream.odd.quota_by_item = True
        refused = "SELECT count(*) FROM syncd.effect WHERE last_error LIKE 'quota_limit_reached%'"
        await there.live(until=lambda: there.rows(refused) == [(2,)])

        assert there.states == {"pending": 2, "delivered": 3}
        waiting = "SELECT DISTINCT attempts FROM syncd.effect WHERE state = 'pending'"
        assert there.rows(waiting) == [(0,)], "time is all that a quota needs"


async def test_a_refused_key_parks_the_account_and_its_effects_go_on_once_it_is_resumed(
    dsn: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No attempt is spent on it, and nothing is asked meanwhile."""
    file = tmp_path / "syncd.toml"
    file.write_text(
        f'[database]\nurl = "{dsn}"\n[connectors.ship24]\napi_key = "{API_KEY}"\n'
        '[jobs.trackers]\nconnector = "ship24"\n'
    )
    async with world(dsn, numbers(7)) as there:
        there.upstream.refusals.append((403, "auth_api_key_revoked"))
        parked = "SELECT name, parked_reason FROM syncd.account WHERE state = 'parked'"

        async def typed(*words: str, code: int = 0) -> str:
            capsys.readouterr()
            asked = partial(invoke, ["-c", str(file), *words])
            assert await trio.to_thread.run_sync(asked) == code
            return capsys.readouterr().out

        async def resume() -> None:
            await seen("a retry", lambda: there.told(EffectRetried))
            ((account, reason),) = there.rows(parked)
            assert (account, "the key is refused" in reason) == ("default", True)
            waiting = "SELECT DISTINCT state, attempts FROM syncd.effect"
            assert there.rows(waiting) == [("pending", 0)]
            (named,) = there.told(PartitionParked)
            assert named.partition == "ship24.*"
            assert "auth_api_key_revoked" in named.reason
            assert "syncd resume ship24" in await typed("status", code=1)
            assert len(there.upstream.asked) == 1

            assert await typed("resume", "ship24") == "resumed: 1\n"

        await there.live(first=resume, until=there.is_over)

        assert there.states == {"delivered": 7}
        assert there.rows("SELECT DISTINCT attempts FROM syncd.effect") == [(1,)]
        assert len(there.told(EffectLaneDamped)) == 1
