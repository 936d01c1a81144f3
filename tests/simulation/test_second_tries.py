"""An account whose credential was refused is tried again once a day, by its connector's check."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any

import attrs
import psycopg
import trio
import trio.testing
from virtual_world import BEGAN_AT, Stalls, World, now

from syncd.errors import Unauthorized
from syncd.events import AccountRefused, AccountResumed, PartitionParked
from syncd.hookspecs import hookimpl
from syncd.model import Context, Cursor, Page
from syncd.store import parking

DAY = 86400.0
LOOK_SECONDS = 1800.0
# A day, a quarter more or less, and as late as a look may be.
SOONEST, LATEST = timedelta(days=0.75), timedelta(days=1.25, seconds=2 * LOOK_SECONDS)


@attrs.define
class Guarded(Stalls):
    """Stalls that take credentials: not those of the accounts in `refused`."""

    refused: set[str] = attrs.field(factory=set)
    asked: list[tuple[str, Any]] = attrs.field(factory=list)
    question: trio.Event = attrs.field(factory=trio.Event)

    @hookimpl
    def fetch(self) -> Any:
        async def fetch(ctx: Context[Any, None], cursor: Cursor) -> Page:
            self._let_in(ctx.account.name)
            return await self._fetch(ctx, cursor)

        return fetch

    @hookimpl
    def check(self) -> Any:
        async def check(ctx: Context[Any, None]) -> str:
            self.asked.append((ctx.account.name, now()))
            self.question.set()
            await trio.sleep(1.0)
            self._let_in(ctx.account.name)
            return "its credential is taken"

        return check

    def _let_in(self, account: str) -> None:
        if account in self.refused:
            raise Unauthorized("GET /items", "the credential is refused (401)", "renew it")


def guarded(dsn: str, *refused: str) -> tuple[World, Guarded]:
    stalls = Guarded(refused=set(refused))
    return World(dsn, 'every = "6h"', stalls=stalls), stalls


async def test_an_account_that_is_refused_is_asked_about_once_a_day_until_it_is_let_in(
    dsn: str, autojump_clock: trio.testing.MockClock
) -> None:
    world, stalls = guarded(dsn, "a")
    async with trio.open_nursery() as nursery:
        schedulers = [
            await nursery.start(lambda **k: world.daemon(look_seconds=LOOK_SECONDS, **k))
            for _ in range(2)
        ]
        await trio.sleep(4 * DAY)
        silent = len(world.told(AccountResumed))
        tries = len(stalls.asked)
        stalls.refused.clear()
        mended_at = now()
        await trio.sleep(2 * DAY)
        for scheduler in schedulers:
            scheduler.retire()

    moments = [BEGAN_AT, *(at for _, at in stalls.asked)]
    assert {account for account, _ in stalls.asked} == {"a"}, "b is fine, and not asked about"
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    assert all(SOONEST <= gap <= LATEST for gap in gaps), "whichever daemon asks"
    assert silent == 0
    assert len(world.told(AccountRefused)) == tries
    ((resumed_at, resumed),) = world.told(AccountResumed)
    assert (resumed.instance, resumed.account) == ("stalls", "a")
    assert "refused (401)" in resumed.parked
    assert resumed_at - mended_at <= LATEST
    assert next(at for name, at in stalls.fetched if name == "a") >= mended_at
    assert len(world.told(PartitionParked)) == 1, "who is parked is told once"


async def test_an_account_that_an_operator_parked_is_left_alone(
    dsn: str, autojump_clock: trio.testing.MockClock
) -> None:
    world, stalls = guarded(dsn)
    async with trio.open_nursery() as nursery:
        scheduler = await nursery.start(lambda **k: world.daemon(look_seconds=LOOK_SECONDS, **k))
        await trio.sleep(DAY / 2)
        with psycopg.connect(dsn, row_factory=psycopg.rows.dict_row) as connection:
            parking.park_accounts(connection, "stalls", "a", "while its shop moves", now=now())
        await trio.sleep(2 * DAY)
        scheduler.retire()

    assert stalls.asked == []
    (row,) = world.rows("SELECT state FROM syncd.account WHERE name = 'a'")
    assert row["state"] == "parked"


async def test_what_an_operator_did_meanwhile_stands(
    dsn: str, autojump_clock: trio.testing.MockClock
) -> None:
    """The answer to a question that was put before comes too late."""
    world, stalls = guarded(dsn, "a")
    async with trio.open_nursery() as nursery:
        scheduler = await nursery.start(lambda **k: world.daemon(look_seconds=LOOK_SECONDS, **k))
        await stalls.question.wait()
        stalls.refused.clear()
        with psycopg.connect(dsn, row_factory=psycopg.rows.dict_row) as connection:
            parking.resume(connection, "stalls", "a", now=now())
            parking.park_accounts(connection, "stalls", "a", "while its shop moves", now=now())
        await trio.sleep(1.5 * DAY)
        scheduler.retire()

    assert world.told(AccountResumed) == []
    assert len(stalls.asked) == 1


def test_accounts_that_were_refused_together_do_not_come_back_together() -> None:
    waits = [parking.trial_seconds("shop", f"store {n}") for n in range(300)]

    assert min(waits) >= 0.75 * DAY
    assert max(waits) <= 1.25 * DAY
    assert max(waits) - min(waits) > 0.4 * DAY
