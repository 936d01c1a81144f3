"""A connector whose rows have effects, and a provider that honours their keys.

They are one upstream: it lists `things`, and takes parcels. A key that it knows is taken once,
however often it is sent. What it does otherwise, a test says by `answers`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import attrs
import msgspec
import trio

from syncd import (
    Connector,
    Context,
    Cursor,
    Dead,
    Deliver,
    Delivered,
    Effect,
    EffectKind,
    Feed,
    Instance,
    Outcome,
    Page,
    Partition,
    Pass,
    Queued,
    Quota,
    Record,
    Request,
    Retry,
    Stream,
    Transform,
    Upstream,
    WithEffects,
    decode,
    hookimpl,
)
from syncd_cars.simulator_serving import serve

DEADLINE_SECONDS = 120.0
PARCEL = EffectKind("office.parcel", "parcels", bulk_max=10, concurrency=2, deadline_seconds=20.0)
LETTER = EffectKind("office.letter", "parcels", concurrency=1, ordered=True, deadline_seconds=20.0)
# Few slots: all of them are to be taken before the first call is given up.
SPOILT = EffectKind("office.spoilt", "parcels", concurrency=4, deadline_seconds=1.0)


@attrs.frozen
class Settings:
    """`spoils`: what the function that delivers `office.spoilt` does.

    `looks_up`: parcels are sent only after a look at which were taken already.
    """

    base_url: str
    spoils: str = ""
    looks_up: bool = False


@attrs.define
class Thing:
    """A row; `kinds` are those of the effects that it has, `order` their ordering key."""

    id: int
    revision: int = 1
    kinds: tuple[str, ...] = ("parcel",)
    text: str = ""
    order: str | None = None


THINGS = Stream("things", record=Thing, key=("id",), version="revision")
FEED = Feed("things", streams=(THINGS,), quota="all")
KINDS = (PARCEL, LETTER, SPOILT)
BAD = "bad"  # text of things that are set aside
CONNECTOR = Connector(
    "office",
    "1.0.0",
    settings=Settings,
    feeds=(FEED,),
    upstream=lambda settings, _: Upstream(
        settings.base_url, quotas=(Quota("all"), Quota("parcels", concurrency=8))
    ),
    effects=KINDS,
)


@hookimpl
def connectors() -> Sequence[Connector]:
    return [CONNECTOR]


@hookimpl
def begin() -> Any:
    def first(_: Partition, __: Request, ___: datetime) -> Pass:
        return Pass("full", (Cursor({}),))

    return first


@hookimpl
def fetch() -> Any:
    async def fetch(ctx: Context[Settings, None], _: Cursor) -> Page:
        response = await ctx.http.get("/things")
        raws = decode(response, list[msgspec.Raw], where="GET /things")
        return Page({"things": [Record(raw) for raw in raws]})

    return fetch


@hookimpl
def transform() -> Transform:
    def caused(thing: Thing) -> Any:
        if thing.text == BAD:
            raise ValueError("on purpose")
        return WithEffects(
            thing,
            [
                Effect(f"office.{kind}", f"{kind}-{thing.id}", {"text": thing.text}, thing.order)
                for kind in thing.kinds
            ],
        )

    return Transform("caused", 1, caused, effects=tuple(kind.name for kind in KINDS))


@hookimpl
def deliver(instance: Instance[Any], kind: EffectKind) -> Deliver | None:
    if kind is SPOILT:
        return _spoilt(instance.settings.spoils)

    async def delivered(ctx: Context[Any, Any], effects: Sequence[Queued]) -> Mapping[int, Outcome]:
        taken: list[str] = []
        if ctx.settings.looks_up:
            taken = decode(await ctx.http.get("/taken"), list[str], where="GET /taken")
        left = [each for each in effects if each.key not in taken]
        done: dict[int, Outcome] = {e.id: Delivered() for e in effects if e.key in taken}
        if not left:
            return done
        sent = [{"key": each.key, "payload": each.payload} for each in left]
        response = await ctx.http.post("/parcels", json=sent)
        said = decode(response, dict[str, str], where="POST /parcels")
        return done | {e.id: _outcome(said[e.key]) for e in left if e.key in said}

    return delivered


def _outcome(word: str) -> Outcome:
    match word:
        case "taken":
            return Delivered({"said": word})
        case "refused":
            return Dead(word)
        case _:
            return Retry(word, 0.2)


def _spoilt(does: str) -> Deliver:
    calls = count()

    async def spoilt(_: Context[Any, Any], effects: Sequence[Queued]) -> Mapping[int, Outcome]:
        if does == "raises":
            raise ValueError("on purpose")
        if does == "hangs":
            await trio.sleep_forever()
        swallows = does == "swallows" or (does == "swallows the first" and next(calls) == 0)
        while swallows:
            with suppress(BaseException):  # the worst that a hook can do
                await trio.sleep(0.01)
            await trio.lowlevel.cancel_shielded_checkpoint()
            if RELEASED:
                break
        if does == "is cut":
            for cut in CUTS:
                cut()
        if does in GARBAGE:
            return {each.id: GARBAGE[does] for each in effects}
        return {each.id: Delivered() for each in effects}

    return spoilt


GARBAGE: dict[str, Any] = {
    "answers garbage": "yes",
    "answers text for seconds": Retry("busy", "60"),  # type: ignore[arg-type]  # as a header says
    "answers no number": Retry("busy", float("nan")),
    "answers text for a count": Retry("busy", counts="no"),  # type: ignore[arg-type]
    "answers no reason": Dead(None),  # type: ignore[arg-type]
}
CUTS: list[Callable[[], None]] = []  # what cuts a lane in the moment of its hook's answer
RELEASED: list[bool] = []  # once a test has seen enough of a hook that swallows cancellation


@attrs.define
class Office:
    """The upstream: what it lists, what it took, and how often it was asked."""

    public_url: str = ""
    things: list[dict[str, Any]] = attrs.field(factory=list)
    answers: Callable[[str], str] = lambda _: "taken"  # by key: taken, refused, else: again
    taken: dict[str, Any] = attrs.field(factory=dict)
    order: list[str] = attrs.field(factory=list)
    sent: Counter[str] = attrs.field(factory=Counter)  # as often would one that honours no keys
    status: Callable[[int], int] = lambda _: 200  # by the size of a bulk
    waits: dict[str, str] = attrs.field(factory=dict)  # seconds, by whose badge is told to wait
    refuses: Callable[[set[str]], bool] = lambda _: False  # all that is sent with one of these
    bulks: list[int] = attrs.field(factory=list)
    clerks: list[str] = attrs.field(factory=list)  # by whom parcels were brought, if it was said
    gate: trio.Event | None = None  # until when parcels are held back
    listed: Callable[[], None] = lambda: None  # called when things are asked for

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        status, answer = 200, cast("Any", self.things)
        if scope["path"] == "/taken":
            answer = [*self.taken]
        if scope["path"] == "/things":
            await trio.to_thread.run_sync(self.listed)
        if scope["path"] == "/parcels":
            said = dict(scope["headers"])
            self.clerks += [said[b"x-clerk"].decode()] if b"x-clerk" in said else []
            if self.gate is not None:
                await self.gate.wait()
            status, answer = self._take(msgspec.json.decode(await _body(receive)))
        headers = [(b"content-type", b"application/json")]
        clerk = dict(scope["headers"]).get(b"x-clerk", b"").decode()
        if scope["path"] == "/parcels" and clerk in self.waits:
            status, answer = 429, {}
            headers.append((b"retry-after", self.waits[clerk].encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": msgspec.json.encode(answer)})

    def _take(self, parcels: list[dict[str, Any]]) -> tuple[int, Any]:
        self.bulks.append(len(parcels))
        status = self.status(len(parcels))
        if status != 200 or self.refuses({parcel["key"] for parcel in parcels}):
            return status if status != 200 else 422, {}
        answer = {}
        for parcel in parcels:
            key = parcel["key"]
            self.sent[key] += 1
            word = self.answers(key)
            if word == "taken" and key not in self.taken:
                self.taken[key] = parcel["payload"]
                self.order.append(key)
            if word:
                answer[key] = word
        return 200, answer


async def _body(receive: Any) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


@asynccontextmanager
async def open_office(*things: Mapping[str, Any]) -> AsyncIterator[Office]:
    """Serve things, and take parcels, over real HTTP."""
    office = Office(things=[dict(thing) for thing in things])
    with trio.fail_after(DEADLINE_SECONDS):
        async with serve(cast("Any", office)):
            yield office


def configuration(
    folder: Path, dsn: str, office: Office, *, office_table: str = "", daemon: str = ""
) -> Path:
    """Write a configuration with one job that runs when it is asked to."""
    file = folder / f"{uuid4().hex}.toml"
    file.write_text(f"""
[database]
url = '''{dsn}'''
pool_max = 4
[daemon]
{daemon}
[connectors.office]
base_url = "{office.public_url}"
{office_table}
[jobs.office]
connector = "office"
mode = "full"
every = "1h"
""")
    return file
