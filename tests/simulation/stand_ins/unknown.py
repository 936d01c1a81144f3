"""An upstream that announces no limit, has one, and changes it: a connector and the upstream.

Pages are numbered. The limit is a token bucket with a second's worth of burst; over it the answer
is 429 and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import attrs
import msgspec
from judge import Allowed, Judge
from transport import Answer, Asked

import syncd
from syncd import (
    Adaptive,
    Connector,
    Context,
    Cursor,
    Feed,
    Instance,
    Page,
    Pass,
    Quota,
    Record,
    Stream,
    Upstream,
    hookimpl,
)

HOST = "unknown.test"


@attrs.frozen
class Settings:
    base_url: str = f"https://{HOST}"
    in_flight: int = 64
    rate_most: float = 1000.0


@attrs.define
class Thing:
    id: int
    size: int


class _Envelope(msgspec.Struct):
    things: list[msgspec.Raw]
    last: bool


THINGS = Stream("things", Thing, key=("id",))
FEED = Feed(
    "things", streams=(THINGS,), quota="all", paging="numbered", pass_max_age_seconds=86400.0
)


def upstream(settings: Settings, _: None) -> Upstream:
    adaptive = Adaptive(rate_most=settings.rate_most)
    quota = Quota("all", concurrency=settings.in_flight, adaptive=adaptive)
    return Upstream(settings.base_url, quotas=(quota,))


CONNECTOR = Connector("unknown", "1.0.0", settings=Settings, feeds=(FEED,), upstream=upstream)


@hookimpl
def connectors() -> Sequence[Connector]:
    return [CONNECTOR]


@hookimpl
def begin(instance: Instance[Any], feed: Feed) -> Any:
    if instance.connector is not CONNECTOR:
        return None
    return lambda _, request, __: Pass(request.mode, (Cursor({}, number=1),))


@hookimpl
def fetch(instance: Instance[Any], feed: Feed) -> Any:
    return things if instance.connector is CONNECTOR else None


async def things(ctx: Context[Settings, None], cursor: Cursor) -> Page:
    response = await ctx.http.get("/things", params={"page": cursor.number or 1})
    envelope = syncd.decode(response, _Envelope, where="GET /things")
    return Page({"things": [Record(raw) for raw in envelope.things]}, end=envelope.last)


# --- The upstream ---------------------------------------------------------------------------------


class Unknown:
    """Pages of one thing; `limits`: from when on how many calls a second are allowed."""

    def __init__(self, pages: int, *, limits: Sequence[tuple[float, float]]) -> None:
        self.sizes = [1] * pages
        self.limits = limits
        self._now = 0
        self.judge = Judge("all", _allowed(limits[0][1]))
        self.judges: Mapping[str, Judge] = {"all": self.judge}

    def limit(self, at: float) -> float:
        """Return how many calls a second are allowed."""
        return next(rate for since, rate in reversed(self.limits) if since <= at)

    def answer(self, asked: Asked) -> Answer:
        while self._now + 1 < len(self.limits) and self.limits[self._now + 1][0] <= asked.at:
            self._now += 1
            since, rate = self.limits[self._now]
            self.judge.change(_allowed(rate), since)
        if not self.judge.arrives(asked.at, sender=asked.sender, left_at=asked.left_at):
            return Answer(429, b"slow down", {"content-type": "text/plain"})
        page = int(asked.query["page"])
        found = [{"id": page, "size": self.sizes[page - 1]}] if page <= len(self.sizes) else []
        body = msgspec.json.encode({"things": found, "last": page >= len(self.sizes)})
        return Answer(200, body, {"content-type": "application/json"})

    def change(self, random: Random) -> None:
        for place in random.sample(range(len(self.sizes)), k=len(self.sizes) // 3):
            self.sizes[place] += 1
        self.sizes.append(0)

    def truth(self) -> set[tuple[Any, ...]]:
        return {(n + 1, size) for n, size in enumerate(self.sizes)}


TRUTH = "SELECT id, size FROM unknown.things"


def _allowed(rate: float) -> Allowed:
    return Allowed("bucket", rate, 1.0, burst=rate)
