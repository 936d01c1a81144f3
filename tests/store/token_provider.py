"""A provider of tokens as OAuth 2.0 knows them (RFC 6749), without HTTP; and who asks it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import uuid4

import attrs
import trio
from database import connect

from syncd import sealing
from syncd.credentials import Bearer, Credentials
from syncd.errors import Unauthorized, Unavailable
from syncd.events import Event
from syncd.http import Badge
from syncd.model import Connector, Credential, Instance, Secret, Upstream
from syncd.store import credentials as store
from syncd.store.credentials import Owner
from syncd.store.hops import Hops, Timeouts
from syncd.store.registry import register_instance
from syncd.vault import Vault, new_key

OWNER = Owner("office", "north")
CONNECTOR = Connector(
    "office",
    "1",
    settings=object,
    feeds=(),
    upstream=lambda _, __: Upstream("http://localhost", ()),
)
INSTANCE: Instance[Any] = Instance("office", CONNECTOR, None, ())


@attrs.define
class Provider:
    """Trades refresh tokens for the next pair; an old one works no more, unless it `keeps` them."""

    keeps: bool = False
    lifetime_seconds: float = 7200.0
    number: int = 0
    trades: int = 0
    dead: bool = False
    trouble: Exception | None = None  # raised in place of an answer
    loses: bool = False  # answers that the asker never gets
    asked: trio.Event = attrs.field(factory=trio.Event)
    answers: trio.Event | None = None  # held until this is set
    taken: list[str] = attrs.field(factory=list)

    def credential(self, *, lifetime_seconds: float | None = None) -> Credential:
        """Return the pair that is good now."""
        life = self.lifetime_seconds if lifetime_seconds is None else lifetime_seconds
        now = datetime.now(UTC)
        return Credential(
            Secret(f"access-{self.number:03}-of-north"),
            Secret(f"refresh-{self.number:03}-of-north"),
            now + timedelta(seconds=life),
            now + timedelta(days=180),
            {"open_id": "north-1"},
        )

    async def __call__(self, old: Credential) -> Credential:
        assert old.refresh_token is not None
        self.trades += 1
        self.asked.set()
        if self.answers is not None:
            await self.answers.wait()
        await trio.lowlevel.checkpoint()
        if self.trouble is not None:
            raise self.trouble
        number = int(old.refresh_token.reveal().split("-")[1])
        if self.dead or number > self.number or (number < self.number and not self.keeps):
            raise Unauthorized("token", "invalid_grant")
        self.taken.append(old.refresh_token.reveal())
        self.number += 1
        if self.loses:
            raise Unavailable("token", "the connection broke")  # nobody hears the answer
        return self.credential()

    def accepts(self, badge: Badge) -> bool:
        return badge.fields["authorization"] == f"Bearer access-{self.number:03}-of-north"


def bearer(credential: Credential) -> dict[str, str | Secret]:
    return {"authorization": Secret(f"Bearer {credential.access_token.reveal()}")}


class Counting(Hops):
    """Counts transactions by what they do."""

    done: list[str]

    async def run(self, work: Any, *args: Any, **kwargs: Any) -> Any:
        self.done.append(work.__name__)
        return await super().run(work, *args, **kwargs)


@attrs.define
class Office:
    """A database with one credential, and the processes that use it."""

    dsn: str
    provider: Provider
    vault: Vault = attrs.field(factory=lambda: Vault([new_key()]))
    events: list[Event] = attrs.field(factory=list)

    def put(self, credential: Credential) -> None:
        """Import a credential."""
        with connect(self.dsn) as connection:
            register_instance(connection, INSTANCE)
            connection.execute(
                "INSERT INTO syncd.account (instance, name) VALUES ('office', 'north')"
                " ON CONFLICT DO NOTHING"
            )
            new = sealing.sealed(self.vault, OWNER, credential)
            store.bring(connection, INSTANCE, {"north": new})

    def row(self) -> dict[str, Any]:
        with connect(self.dsn) as connection:
            row = connection.execute("SELECT * FROM syncd.credential").fetchone()
        assert row is not None
        return row

    @asynccontextmanager
    async def process(self, *, lease_seconds: float = 60.0) -> AsyncIterator[Bearer]:
        """Begin a process; yield who lets its requests in."""
        hops = Counting(
            Secret(self.dsn),
            pool_min=1,
            pool_max=2,
            timeouts=Timeouts(patience_seconds=1.0),
            emit=self.events.append,
            random=Random(1),
        )
        hops.done = []
        await hops.open()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hops.watch)
            kept = Credentials(
                hops,
                self.vault,
                clock=lambda: datetime.now(UTC),
                emit=self.events.append,
                holder=uuid4(),
                lease_seconds=lease_seconds,
            )
            made = kept.bearer(OWNER, bearer)
            made.trade = self.provider
            try:
                yield made
            finally:
                await hops.aclose()
                nursery.cancel_scope.cancel()

    def told(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def transactions(of: Bearer) -> list[str]:
    """Return what a process has done in the database."""
    hops = of._all.hops
    assert isinstance(hops, Counting)
    return hops.done
