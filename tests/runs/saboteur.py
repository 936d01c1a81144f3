"""A connector with one bad slice: its hooks do what no hook should, and nobody else may notice.

It needs no upstream. The slice `good` has a few pages; so has `bad`, until it does its worst.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import attrs
import msgspec
import trio

from syncd import (
    Connector,
    Context,
    Cursor,
    Feed,
    Fetch,
    Instance,
    Page,
    Partition,
    Partitions,
    Pass,
    Quota,
    Record,
    Request,
    Slice,
    Stream,
    Transform,
    Upstream,
    hookimpl,
)

PAGES = 4
HOARD: list[bytearray] = []


@attrs.frozen
class Settings:
    """What `[connectors.saboteur]` may hold: which hook of the bad slice does what."""

    base_url: str = "http://127.0.0.1:9"
    hook: str = ""
    does: str = ""
    pages: int = PAGES
    page_seconds: float = 0.0
    slices: tuple[str, ...] = ("good", "bad")


@attrs.define
class Thing:
    """A row."""

    id: int
    bad: bool


THINGS = Stream(name="things", record=Thing, key=("id",))
FEED = Feed(name="things", streams=(THINGS,), quota="all")
CONNECTOR = Connector(
    name="saboteur",
    version="1.0.0",
    settings=Settings,
    feeds=(FEED,),
    upstream=lambda settings, _: Upstream(settings.base_url, quotas=(Quota("all"),)),
)


class Strange(BaseException):
    """An exception that no `except Exception` catches."""


stray: list[trio.Cancelled] = []


async def _keep_a_cancelled() -> None:
    """Catch a `trio.Cancelled` to raise it where nothing is cancelled."""
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as error:
            stray.append(error)
            raise


RAISED: dict[str, Callable[[], BaseException]] = {
    "Exception": lambda: ValueError("on purpose"),
    "ExceptionGroup": lambda: ExceptionGroup("some", [ValueError("on purpose"), KeyError("x")]),
    "BaseExceptionGroup": lambda: BaseExceptionGroup("some", [Strange("on purpose")]),
    "BaseException": lambda: Strange("on purpose"),
    "SystemExit": lambda: SystemExit(0),
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "StopIteration": StopIteration,
    "StopAsyncIteration": StopAsyncIteration,
    "TooSlowError": trio.TooSlowError,
    "RecursionError": RecursionError,
    "MemoryError": MemoryError,
}


# What no first cursor can hold.
ODD_CURSORS: dict[str, Any] = {
    "a cursor with NUL": {"after": "a\0"},
    "a cursor without end": {"after": "x" * 9000},
    "a cursor of no JSON": {"after": object()},
}


class Mute:
    """An object that may not even be described."""

    def __repr__(self) -> str:
        raise ValueError("on purpose")


RAW = msgspec.Raw(b'{"id":5,"bad":true}')

# Parts of a page as none is made, and what becomes of its partition.
ODD_PAGES: dict[str, tuple[dict[str, Any], str]] = {
    "no list of records": ({"records": {"things": None}}, "waiting"),
    "empty bytes": ({"records": {"things": [Record(msgspec.Raw(b""))]}}, "complete"),
    "text for bytes": ({"records": {"things": [Record("{}")]}}, "waiting"),  # type: ignore[arg-type]
    "a parent of no object": ({"records": {"things": [Record(RAW, parent=7)]}}, "waiting"),  # type: ignore[arg-type]
    "strange parents": ({"records": {"things": [Record(RAW, {7: Mute()})]}}, "failed"),  # type: ignore[dict-item]
    "records that are none": ({"records": {"things": ["x", None, 7, Mute()]}}, "complete"),
    "bytes of no JSON": ({"records": {"things": [Record(msgspec.Raw(b"\xff{"))]}}, "complete"),
    "a number beyond numbers": ({"opens": (Cursor({}, number=2**70),)}, "waiting"),
    "a date in words": ({"date": "today"}, "waiting"),
    "a total beyond numbers": ({"total": 2**70}, "complete"),
}

# Names and settings that no slice can have.
ODD_SLICES: dict[str, tuple[Any, Any]] = {
    "a slice with NUL": ("bad\0", {}),
    "a slice with half a character": ("bad\ud800", {}),
    "a slice without a text": (7, {}),
    "a slice without end": ("bad" * 100_000, {}),
    "settings with NUL": ("bad", {"a": "\0"}),
    "settings with half a character": ("bad", {"a": "\ud800"}),
    "settings of no JSON": ("bad", {"a": object()}),
    "settings of no object": ("bad", ["a"]),
    "a name twice": ("good", {"a": 1}),
}


def act(does: str) -> None:
    """Do what a plain function can do."""
    if does in RAISED:
        error = RAISED[does]()
        raise error
    if does.startswith("sleeps "):
        time.sleep(float(does.removeprefix("sleeps ")))
    if does == "spins":
        while True:
            pass
    if does == "hoards":
        HOARD.append(bytearray(b"x") * (8 << 20))


async def act_async(does: str) -> None:
    """Do what an async function can do besides."""
    if does == "hangs":
        await trio.sleep_forever()
    if does == "raises what was cancelled":
        await _keep_a_cancelled()
        raise stray[-1]
    while does == "swallows":
        with suppress(BaseException):  # the worst that a hook can do
            await trio.sleep(0.01)
        pause()
    act(does)


def _does(instance: Instance[Any], hook: str) -> str:
    settings: Settings = instance.settings
    return settings.does if settings.hook == hook else ""


@hookimpl
def connectors() -> Sequence[Connector]:
    return [CONNECTOR]


@hookimpl
def partitions(instance: Instance[Any]) -> Partitions | None:
    if instance.connector is not CONNECTOR:
        return None

    async def slices(_: Context[Any, Any]) -> Sequence[Slice]:
        does = _does(instance, "partitions")
        await act_async(does)
        if does in ODD_SLICES:
            return [Slice("good"), Slice(*ODD_SLICES[does])]
        return [Slice(name) for name in instance.settings.slices]

    return slices


@hookimpl
def begin(instance: Instance[Any]) -> Any:
    if instance.connector is not CONNECTOR:
        return None

    def first_page(partition: Partition, _: Request, __: datetime) -> Pass:
        does = _does(instance, "begin") if partition.slice.name == "bad" else ""
        act(does)
        return Pass("full", (Cursor(ODD_CURSORS.get(does, {"page": 1})),))

    return first_page


@hookimpl
def fetch(instance: Instance[Any]) -> Fetch | None:
    return things if instance.connector is CONNECTOR else None


async def things(ctx: Context[Settings, None], cursor: Cursor) -> Page:
    """Make one page; it names the next one."""
    value: Any = cursor.value
    number, bad = value["page"], ctx.partition.slice.name == "bad"
    await trio.sleep(ctx.settings.page_seconds)
    if bad and number == 2 and ctx.settings.hook == "fetch":
        await act_async(ctx.settings.does)
    row = {"id": number * 2 + bad, "bad": bad}
    more = number < ctx.settings.pages
    page = Page(
        records={"things": [Record(msgspec.Raw(msgspec.json.encode(row)))]},
        opens=(Cursor({"page": number + 1}),) if more else (),
    )
    odd, _ = ODD_PAGES.get(ctx.settings.does, ({}, ""))
    return attrs.evolve(page, **odd) if bad and number == 2 else page


@hookimpl
def transform(instance: Instance[Any]) -> Transform | None:
    if instance.connector is not CONNECTOR or instance.settings.hook != "transform":
        return None

    def spoil(row: Thing) -> Thing:
        if row.bad:
            act(instance.settings.does)
        return row

    return Transform(name="spoil", function=spoil, version=1)


@hookimpl
def write(instance: Instance[Any]) -> Any:
    if instance.connector is not CONNECTOR or instance.settings.hook != "write":
        return None

    def written(_: Any, rows: Sequence[Thing]) -> Any:
        if any(row.bad for row in rows):
            act(instance.settings.does)
        from syncd import Written

        return Written(inserted=len(rows))

    return written


@hookimpl
def lifespan(instance: Instance[Any]) -> AbstractAsyncContextManager[object] | None:
    if instance.connector is not CONNECTOR:
        return None

    @asynccontextmanager
    async def session() -> AsyncIterator[None]:
        await act_async(_does(instance, "lifespan"))
        yield
        await act_async(_does(instance, "lifespan's end"))

    return session()


def configuration(
    folder: Path, dsn: str, *, daemon: str = "", connector: str = "", concurrency: int = 2
) -> Path:
    """Write a configuration with one job; `daemon` and `connector` are lines of their tables."""
    file = folder / f"{uuid4().hex}.toml"
    file.write_text(f"""
[database]
url = '''{dsn}'''
pool_max = 4
[daemon]
lease = "1h"
{daemon}
[connectors.saboteur]
{connector}
[jobs.things]
connector = "saboteur"
mode = "full"
concurrency = {concurrency}
partitions_per_account = {concurrency}
""")
    return file


def pause() -> None:
    """Leave something of the machine to other tests."""
    time.sleep(0.001)
