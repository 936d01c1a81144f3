"""A process that delivers the effects of the office, here, and what it says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs
import database_facts as facts
import post_office
import trio
from processes import seen

from syncd import background, config
from syncd.daemon import Process, Root
from syncd.events import Event
from syncd.jobs import run_job
from syncd.lanes import Lane
from syncd.observe import Observer
from syncd.plugins import Plugins

E = TypeVar("E", bound=Event)


@attrs.frozen
class World:
    """A process with lanes, and what it says."""

    process: Process
    dsn: str
    events: list[Event]
    lanes: Sequence[Lane] = ()

    async def sync(self, *, verify: bool = False) -> None:
        """Walk the feed once."""
        job = self.process.config.jobs["office"]
        results = await run_job(self.process, job, mode="full", wait_seconds=0.0, verify=verify)
        assert [result.verdict for result in results] == ["complete"], results

    def said(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def states(self) -> dict[str, str]:
        return {row["key"]: row["state"] for row in rows(self.dsn)}

    async def all_are(self, state: str, count: int) -> None:
        """Wait until so many effects stand so, and none otherwise."""

        def look() -> bool:
            states = self.states()
            return len(states) == count and set(states.values()) == {state}

        await seen(f"{count} effects {state}", look, told=lambda: str(rows(self.dsn)))


def rows(dsn: str) -> list[dict[str, Any]]:
    return facts.rows(dsn, "SELECT * FROM syncd.effect ORDER BY id")


async def in_a_process(
    file: Path, main: Callable[[Process], Awaitable[None]], events: list[Event]
) -> None:
    plugins = Plugins({"office": post_office})
    settings = config.structure(config.read(file), plugins.connectors, environment={})
    observer = Observer()
    observer.listen(events.append)
    await Root(settings, plugins, observer).run(main)


async def living(
    file: Path, dsn: str, main: Callable[[World], Awaitable[None]], *, delivers: bool = True
) -> list[Event]:
    """Do something in a process that delivers meanwhile."""
    events: list[Event] = []

    async def inside(process: Process) -> None:
        async with background.opened(process) as delivering, trio.open_nursery() as nursery:
            if delivers:
                nursery.start_soon(delivering.run)
            await main(World(process, dsn, events, delivering.lanes))
            delivering.retire()

    await in_a_process(file, inside, events)
    return events


def thing(number: int, **other: Any) -> dict[str, Any]:
    return {"id": number, **other}
