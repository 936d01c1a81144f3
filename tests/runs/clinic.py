"""A register of doctors, and a connector that makes leads of them, and calls of the leads.

The upstream lists doctors state by state, a page each; a state may be closed (503). Doctors are
fetched; `leads` and `calls` are derived for all accounts at once, `tallies` for each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar, cast

import attrs
import msgspec
import trio

from syncd import (
    Connector,
    Context,
    Cursor,
    Derivation,
    Feed,
    Instance,
    Page,
    Partition,
    Pass,
    Quota,
    Record,
    Request,
    Slice,
    Stream,
    Upstream,
    decode,
    hookimpl,
)
from syncd.config import Config, parse, structure
from syncd.daemon import Process, Root
from syncd.events import Event
from syncd.jobs import run_job
from syncd.model import Mode
from syncd.observe import Observer
from syncd.plugins import Plugins
from syncd.progress import Bounds
from syncd.verdicts import Result
from syncd_cars.simulator_serving import serve

T = TypeVar("T")
E = TypeVar("E", bound=Event)

DEADLINE_SECONDS = 60.0


@attrs.frozen
class Settings:
    base_url: str
    states: tuple[str, ...] = ("CA", "NY", "TX")
    specialty: str = "surgeon"
    leads: str = ""  # a select in place of the right one


@attrs.frozen
class Office:
    """An account has no settings of its own."""


@attrs.define
class Doctor:
    npi: int
    state: str
    specialty: str


@attrs.define
class Lead:
    npi: int
    state: str
    status: str


@attrs.define
class Call:
    state: str
    leads: int


LEADS_SELECT = (
    "SELECT DISTINCT d.npi, d.state, 'new' AS status FROM {doctors} AS d"
    " WHERE d.specialty = %(specialty)s"
)
DOCTORS = Stream("doctors", Doctor, key=("npi",), per_account=True)
LEADS = Stream("leads", Lead, key=("npi",), mode="insert-only")
CALLS = Stream("calls", Call, key=("state",))
TALLIES = Stream("tallies", Call, key=("state",), per_account=True)


@attrs.frozen
class Plugin:
    """The connector's hooks; `incremental`: whether it can be asked for what changed."""

    incremental: bool = False

    @hookimpl
    def connectors(self) -> Sequence[Connector]:
        derived = {"quota": "all", "derived": True}
        return [
            Connector(
                "clinic",
                "1.0.0",
                settings=Settings,
                feeds=(
                    Feed("calls", (CALLS,), **cast("Any", derived)),
                    Feed("leads", (LEADS,), **cast("Any", derived)),
                    Feed("tallies", (TALLIES,), **cast("Any", derived)),
                    Feed("doctors", (DOCTORS,), quota="all", incremental=self.incremental),
                ),
                upstream=lambda settings, _: Upstream(settings.base_url, quotas=(Quota("all"),)),
                account_settings=Office,
            )
        ]

    @hookimpl
    def partitions(self, feed: Feed) -> Any:
        async def slices(ctx: Context[Settings, None]) -> Sequence[Slice]:
            return [Slice(state, covers="share") for state in ctx.settings.states]

        return slices if feed.name == "doctors" else None

    @hookimpl
    def begin(self) -> Any:
        def first(_: Partition, request: Request, __: datetime) -> Pass:
            return Pass(request.mode, (Cursor("all"),))

        return first

    @hookimpl
    def fetch(self) -> Any:
        return doctors

    @hookimpl
    def derive(self, instance: Instance[Settings], stream: Stream) -> Derivation | None:
        settings = instance.settings
        return {
            "leads": Derivation(
                settings.leads or LEADS_SELECT, ("doctors",), {"specialty": settings.specialty}
            ),
            "calls": Derivation(
                "SELECT state, count(*) AS leads FROM {leads} GROUP BY state", ("leads",)
            ),
            "tallies": Derivation(
                "SELECT state, count(*) AS leads FROM {doctors} WHERE account_id = %(account)s"
                " GROUP BY state",
                ("doctors",),
            ),
        }.get(stream.name)


PLUGIN = Plugin()


async def doctors(ctx: Context[Settings, None], _: Cursor) -> Page:
    where = f"/{ctx.account.name}/{ctx.partition.slice.name}"
    raws = decode(await ctx.http.get(where), list[msgspec.Raw], where=where)
    return Page({"doctors": [Record(raw) for raw in raws]})


@attrs.define
class Clinic:
    """A database, the doctors by account and state, and what was said in the last run."""

    dsn: str
    public_url: str = "http://127.0.0.1:9"  # until it is served
    listed: dict[tuple[str, str], list[Doctor]] = attrs.field(factory=dict)
    closed: set[str] = attrs.field(factory=set)  # states
    asked: Counter[str] = attrs.field(factory=Counter)
    events: list[Event] = attrs.field(factory=list)
    hears: Callable[[Event], None] | None = None  # is told of each at once

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        _, account, state = scope["path"].split("/")
        self.asked[state] += 1
        body = msgspec.json.encode(self.listed.get((account, state), []))
        headers = [(b"content-type", b"application/json")]
        status = 503 if state in self.closed else 200
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def enlist(self, state: str, *numbers: int, account: str = "default") -> None:
        """Let these be the surgeons of a state; every tenth is a dentist."""
        self.listed[account, state] = [
            Doctor(n, state, "surgeon" if n % 10 else "dentist") for n in numbers
        ]

    def text(
        self,
        jobs: str,
        *,
        settings: str = "",
        accounts: Sequence[str] = (),
        lease: str = "1h",
        database: str = "",
    ) -> str:
        tables = "".join(f'[[connectors.clinic.accounts]]\nname = "{name}"\n' for name in accounts)
        return (
            f"[database]\nurl = '''{self.dsn}'''\npool_max = 4\n{database}\n"
            f'[daemon]\nlease = "{lease}"\n'
            f'[connectors.clinic]\nbase_url = "{self.public_url}"\n{settings}\n{tables}\n{jobs}\n'
        )

    def config(self, jobs: str, *, plugin: Plugin = PLUGIN, **more: Any) -> Config:
        raw = parse(self.text(jobs, **more), file="syncd.toml", folder=Path.cwd())
        return structure(raw, {"clinic": plugin.connectors()[0]}, environment={})

    async def within(
        self,
        config: Config,
        main: Callable[[Process], Awaitable[T]],
        *,
        plugin: Plugin = PLUGIN,
    ) -> T:
        """Do something in a process; `events` are its."""
        self.events.clear()
        observer = Observer()
        observer.listen(self.events.append)
        if self.hears is not None:
            observer.listen(self.hears)
        return await Root(config, Plugins({"clinic": plugin}), observer).run(main)

    async def run(
        self,
        jobs: str,
        *,
        job: str = "all",
        plugin: Plugin = PLUGIN,
        mode: Mode = "full",
        bounds: Bounds | None = None,
        **more: Any,
    ) -> dict[str, Result]:
        """Run a job once; answer with what became of its partitions, by name."""
        config = self.config(jobs, plugin=plugin, **more)

        async def main(process: Process) -> list[Result]:
            return await run_job(
                process, config.jobs[job], mode=mode, wait_seconds=0.0, bounds=bounds
            )

        results = await self.within(config, main, plugin=plugin)
        return {each.partition.removeprefix("clinic."): each for each in results}

    def told(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]


def job(name: str, *streams: str, more: str = 'mode = "full"') -> str:
    """Write the table of a job; without streams, of all."""
    named = f"streams = {msgspec.json.encode(streams).decode()}\n" if streams else ""
    return f'[jobs.{name}]\nconnector = "clinic"\n{named}{more}\n'


@asynccontextmanager
async def open_clinic(dsn: str) -> AsyncIterator[Clinic]:
    """Serve the register over real HTTP."""
    clinic = Clinic(dsn, public_url="")
    with trio.fail_after(DEADLINE_SECONDS):
        async with serve(cast("Any", clinic)):
            yield clinic
