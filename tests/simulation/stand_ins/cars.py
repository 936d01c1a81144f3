"""The simulator of the cars API, answering in virtual time, and a judge before it.

It is the ASGI application that ships with the connector: it waits for nothing where no fault of
its own is armed, so that one request is one step. 429s come from here: of the judge, and in spells
for which the upstream is locked for everyone.
"""

from __future__ import annotations

import math
from collections.abc import Coroutine, Mapping, Sequence
from random import Random
from typing import Any
from urllib.parse import urlencode

import attrs
from inline import now
from judge import Allowed, Judge
from starlette.types import Message
from transport import Answer, Asked, Told

from syncd_cars.inventory import Inventory, Slice
from syncd_cars.simulator import Simulator

KEY = "an-invented-key"
HOST = "auctionsapi.test"
TRUTH = "SELECT id FROM cars.cars"
_FIRST_ID = 1_000_000


@attrs.frozen
class Spell:
    """For so long the upstream refuses everyone; `told`: it says how long."""

    at: float
    seconds: float
    told: bool


class SlimInventory(Inventory):
    """Cars that are nothing but their id: where only counts matter."""

    def slice_of_cars(
        self,
        start: int,
        count: int,
        *,
        minutes: int | None = None,  # noqa: ARG002 - nobody asks for less here
        brands: frozenset[int] | None = None,  # noqa: ARG002
    ) -> Slice:
        total = len(self)
        chosen = range(max(0, total - start - 1), max(-1, total - start - 1 - count), -1)
        if start >= total:
            chosen = range(0)
        rows = b",".join(b'{"id":%d,"lots":null}' % (_FIRST_ID + index) for index in chosen)
        return Slice(rows=rows, count=len(chosen), total=total)


class Cars:
    """The upstream."""

    def __init__(
        self,
        cars: int,
        *,
        allowed: Allowed,
        spells: Sequence[Spell] = (),
        seconds: float = 0.0,
    ) -> None:
        inventory = SlimInventory(cars, now=now)
        self._simulator = Simulator(inventory, api_key=KEY, public_url=f"https://{HOST}/api")
        self._inventory = inventory
        self._spells = spells
        self._seconds = seconds
        self.judge = Judge("account", allowed)
        self.judge.locked_seconds = sum(spell.seconds for spell in spells if not spell.told)
        self.judges: Mapping[str, Judge] = {"account": self.judge}

    def answer(self, asked: Asked) -> Answer:
        for spell in self._spells:
            if spell.at <= asked.at < spell.at + spell.seconds:
                return self._refused(asked, spell)
        if not self.judge.arrives(asked.at, sender=asked.sender, left_at=asked.left_at):
            return _too_many(None, None)
        return _answered(self._simulator, asked, self._seconds)

    def _refused(self, asked: Asked, spell: Spell) -> Answer:
        ends_at = spell.at + spell.seconds
        if not spell.told:
            self.judge.refuses(asked.at)
            return _too_many(None, None)
        told = self.judge.lock(spell.at, ends_at)
        self.judge.arrives(asked.at, sender=asked.sender, left_at=asked.left_at)
        return _too_many(ends_at - asked.at, told)

    def change(self, _: Random) -> None:
        self._inventory.insert_at_head(1)

    def truth(self) -> set[tuple[Any, ...]]:
        return {(_FIRST_ID + index,) for index in range(len(self._inventory))}


def _too_many(seconds: float | None, told: Told | None) -> Answer:
    headers = {"content-type": "application/json"}
    if seconds is not None:
        headers["retry-after"] = str(math.ceil(seconds))
    return Answer(429, b'{"message":"Too Many Attempts."}', headers, told=told)


def _answered(simulator: Simulator, asked: Asked, seconds: float) -> Answer:
    """Ask the application, in one step."""
    scope = {
        "type": "http",
        "method": asked.method,
        "path": asked.path.removeprefix("/api"),
        "query_string": urlencode(asked.query).encode(),
        "headers": [(name.encode(), value.encode()) for name, value in asked.headers.items()],
    }
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": asked.body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    _step(simulator(scope, receive, send))
    start, *parts = sent
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    body = b"".join(part.get("body", b"") for part in parts)
    return Answer(start["status"], body, headers, seconds)


def _step(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run what does not wait to its end."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("the simulator waits for something, which takes no time here")
