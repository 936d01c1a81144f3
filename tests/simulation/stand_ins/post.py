"""A provider that honours keys, and is seldom well: what befalls a call is drawn from a seed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Literal

import attrs
import msgspec
from judge import Allowed, Judge
from stand_ins.provider import Name, Provider, Sent
from transport import Answer, Asked

HOST = "post.test"
HANG_SECONDS = 3600.0  # longer than anybody waits
LOCK_SECONDS = 2.0

# lost: it is accepted, and the answer says otherwise. late: accepted, and the answer never comes.
Mischief = Literal["503", "429", "hang", "lost", "late", "one later", "one untold"]
MISCHIEF: tuple[Mischief, ...] = Mischief.__args__  # type: ignore[attr-defined]

_REFUSED = re.compile(r".*[37]-\d+")  # keys of orders that it never takes


class Post(Provider):
    """What was sent and accepted, how often, and how often it had to be sent once more."""

    def __init__(self, *, allowed: Allowed, chance: float, random: Random) -> None:
        super().__init__(chance=chance, random=random)
        self.judge = Judge("parcels", allowed)

    def answer(self, asked: Asked) -> Answer:
        kind = asked.path.removeprefix("/")
        parcels: list[dict[str, Any]] = msgspec.json.decode(asked.body)
        for each in parcels:
            payload = msgspec.json.encode(each["payload"]).decode()
            self.note((kind, each["key"]), Sent(asked.left_at, asked.sender, payload))
        names = [(kind, each["key"]) for each in parcels]
        answer = self._answer(asked, names)
        return attrs.evolve(answer, headers={"content-type": "application/json", **answer.headers})

    def refusal(self, name: Name) -> str | None:
        return "refused" if refuses(name) else None

    def _answer(self, asked: Asked, names: Sequence[Name]) -> Answer:
        mischief = self._draw(MISCHIEF)
        if mischief == "429":
            told = self.judge.lock(asked.at, asked.at + LOCK_SECONDS)
            self.judge.arrives(asked.at, sender=asked.sender, left_at=asked.left_at)
            return self._unsettled(names, 429, {"retry-after": f"{LOCK_SECONDS:.0f}"}, told=told)
        if not self.judge.arrives(asked.at, sender=asked.sender, left_at=asked.left_at):
            return self._unsettled(names, 429)
        if mischief == "503":
            return self._unsettled(names, 503)
        if mischief == "hang":
            return self._unsettled(names, 200, seconds=HANG_SECONDS)
        if len(names) > 1 and any(map(refuses, names)):
            self.met["a bulk refused"] += 1
            return self._unsettled(names, 422)
        untold = self._one(names) if mischief == "one untold" else None
        later = self._one(names) if mischief == "one later" else None
        said = {name: self._word(name, later=name == later) for name in names}
        if mischief in {"lost", "late"}:
            seconds = HANG_SECONDS if mischief == "late" else 0.0
            return self._unsettled(names, 504, seconds=seconds)
        body = {key: word for (kind, key), word in said.items() if (kind, key) != untold}
        return Answer(200, msgspec.json.encode(body))

    def _one(self, names: Sequence[Name]) -> Name:
        chosen = self._random.choice(names)
        self.excused[chosen] += 1
        return chosen

    def _word(self, name: Name, *, later: bool) -> str:
        if later:
            return "later"
        if refuses(name):
            return "refused"
        if name not in self.accepted:
            self.accepted.append(name)
        return "taken"

    def _unsettled(
        self,
        names: Sequence[Name],
        status: int,
        headers: Mapping[str, str] | None = None,
        *,
        seconds: float = 0.0,
        told: Callable[[int, float], None] | None = None,
    ) -> Answer:
        self.excuse(names)
        return Answer(status, b"{}", headers or {}, seconds, told)


def refuses(name: Name) -> bool:
    """Say whether the provider never takes an effect."""
    return bool(_REFUSED.fullmatch(name[1]))
