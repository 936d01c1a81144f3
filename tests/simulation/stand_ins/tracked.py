"""Ship24 as its simulator has it, with a strict judge before each endpoint, and seldom well.

What befalls a bulk is drawn from a seed; some numbers it never takes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, Literal
from zlib import crc32

import msgspec
from inline import now
from judge import Allowed, Judge
from plan import Course
from stand_ins.provider import Name, Provider, Sent
from transport import Answer, Asked

from syncd.testing import Call
from syncd_ship24.plugin import (
    BULK,
    BULKS_PER_SECOND,
    LIST,
    LISTS_PER_SECOND,
    REGISTER,
    RESULTS,
    RESULTS_PER_SECOND,
)
from syncd_ship24.simulator import API_KEY, JOURNEY, PREFIX, WEBHOOK_SECRET, Ship24

HOST = "api.ship24.test"
LOCK_SECONDS = 2.0
SECONDS = 0.05  # that a call takes
REFUSED = "validation_error"
REFUSED_OF = 6  # of so many numbers one is never taken
PULLS_PER_SECOND = RESULTS_PER_SECOND
PER_SECOND = {LIST: LISTS_PER_SECOND, RESULTS: RESULTS_PER_SECOND, BULK: BULKS_PER_SECOND}

# lost: it is carried out, and the answer says otherwise. late: carried out, and never answered.
# one later: an item's error that passes. bare: items say no more than they must. existing: somebody
# has just made the tracker by hand. 409: and that is not over.
Mischief = Literal["503", "429", "409", "lost", "late", "page", "one later", "bare", "existing"]
MISCHIEF: tuple[Mischief, ...] = Mischief.__args__  # type: ignore[attr-defined]

TRUTH = """
    SELECT 'tracker' AS what, tracker_id AS name, tracking_number, status_milestone, status_code
    FROM ship24.trackers
    UNION ALL
    SELECT 'event', event_id, tracker_id, status_milestone, status_code FROM ship24.tracking_events
"""
WITHOUT = f"""
    SELECT s.tracking_number FROM front.shipments s
    WHERE NOT EXISTS (SELECT FROM syncd.effect e
                      WHERE e.kind = '{REGISTER.name}' AND e.key = s.tracking_number)
"""


class Tracked(Provider):
    """Ship24, and what it was asked to register."""

    def __init__(self, *, daemons: int, chance: float, course: Course, random: Random) -> None:
        super().__init__(chance=chance, random=random)
        # Daemons that do not know of each other keep a pace each. Our judges are strict.
        self.judges: Mapping[str, Judge] = {
            key: Judge(key, Allowed("sliding", daemons * calls, 1.0))
            for key, calls in PER_SECOND.items()
        }
        self.ship24 = Ship24(
            now=now,
            seed=random.randrange(2**32),
            quota_status=course.quota_status,
            limits=False,
            seconds=SECONDS,
        )
        self.ship24.odd.quota_by_item = course.quota_by_item
        self.over_quota: Counter[str] = Counter()  # sendings of numbers that it left to the next
        self._course = course

    def begin(self, trackers: int) -> None:
        """Have trackers that nobody here asked for; what follows counts against the quota."""
        for number in range(trackers):
            parcel, _ = self.ship24.register({"trackingNumber": f"OLD{number:09}"})
            self.ship24.happen(parcel, self._random.randrange(3))
        self.ship24.quota = self._course.quota

    def judge_of(self, asked: Asked) -> Judge:
        return self.judges[_endpoint(asked)]

    def answer(self, asked: Asked) -> Answer:
        at_bulk = _endpoint(asked) == BULK
        names = self._noted(asked) if at_bulk else []
        mischief = self._draw(MISCHIEF) if at_bulk else None
        if mischief == "429":
            told = self.judge_of(asked).lock(asked.at, asked.at + LOCK_SECONDS)
            self.judge_of(asked).arrives(asked.at, sender=asked.sender, left_at=asked.left_at)
            self.excuse(names)
            return Answer(429, b"", {"retry-after": f"{LOCK_SECONDS:.0f}"}, told=told)
        if not self.judge_of(asked).arrives(asked.at, sender=asked.sender, left_at=asked.left_at):
            self.excuse(names)
            return Answer(429, b"Too Many Requests", {"retry-after": "1"})
        return self._answered(asked, names, mischief)

    def _answered(self, asked: Asked, names: Sequence[Name], mischief: Mischief | None) -> Answer:
        odd = self.ship24.odd
        odd.bare = mischief == "bare"
        odd.codes = {key: REFUSED for _, key in names if refuses(key)}
        later = self._one(names) if mischief == "one later" else None
        if later is not None:
            odd.codes[later[1]] = "internal_error"
        if mischief in {"503", "page"}:
            odd.pages.append(503 if mischief == "503" else 200)
        self.ship24.lost = int(mischief == "lost")
        known = len(self.ship24.parcels)
        if mischief in {"409", "existing"}:
            self._make_by_hand(names)
        if mischief == "409":
            self.ship24.refusals.append((409, "request_conflict"))
        if asked.at >= self._course.period_at:
            self.ship24.quota = None
        path = asked.path.removeprefix(PREFIX)
        reply = self.ship24.answer(Call(asked.method, path, asked.query, asked.headers, asked.body))
        made = list(self.ship24.parcels.values())[known:]
        self.accepted += [(REGISTER.name, parcel.number) for parcel in made]
        if b"quota_limit_reached" in reply.body:
            self.met["quota for items" if reply.status == 207 else "quota for a bulk"] += 1
            there = {parcel.number for parcel in self.ship24.parcels.values()}
            self.over_quota.update(key for _, key in names if key not in there)
        if mischief in {"503", "page", "lost", "late", "409"}:
            self.excuse(names)
        elif later is not None:
            self.excuse([later])
        elif mischief == "bare":  # which of its errors are final is not said
            self.excuse(name for name in names if refuses(name[1]))
        seconds = math.inf if mischief == "late" else reply.seconds
        return Answer(reply.status, reply.body, reply.headers, seconds)

    def _make_by_hand(self, names: Sequence[Name]) -> None:
        """Let somebody make one of the trackers with the same body, as far as the quota goes."""
        one = self._one(names)
        if one is not None and self.ship24.quota != 0:
            self.ship24.register({"trackingNumber": one[1]})

    def _noted(self, asked: Asked) -> list[Name]:
        items: list[dict[str, Any]] = msgspec.json.decode(asked.body)
        names = [(REGISTER.name, each["trackingNumber"]) for each in items]
        for name, each in zip(names, items, strict=True):
            payload = msgspec.json.encode(each).decode()
            self.note(name, Sent(asked.left_at, asked.sender, payload))
        return names

    def _one(self, names: Sequence[Name]) -> Name | None:
        taken = [name for name in names if not refuses(name[1])]
        return self._random.choice(taken) if taken else None

    def refusal(self, name: Name) -> str | None:
        said = f"{REFUSED}: The item was refused: {REFUSED}"
        return said if refuses(name[1]) else None

    def change(self, random: Random) -> None:
        """Let parcels move, and registrations be taken well from now on."""
        self.ship24.move(random.random())
        self.chance = 0.0

    def truth(self) -> set[tuple[Any, ...]]:
        found: set[tuple[Any, ...]] = set()
        for parcel in self.ship24.parcels.values():
            stage = JOURNEY[parcel.happened - 1][:2] if parcel.happened else ("pending", None)
            found.add(("tracker", parcel.tracker_id, parcel.number, *stage))
            for place in range(parcel.happened):
                event = parcel.event(place)
                found.add(("event", event["eventId"], parcel.tracker_id, *JOURNEY[place][:2]))
        return found


def refuses(number: str) -> bool:
    """Say whether a number is never taken."""
    return crc32(number.encode()) % REFUSED_OF == 0


def configuration() -> str:
    """Write the connector's table."""
    return (
        f'[connectors.ship24]\nbase_url = "https://{HOST}{PREFIX}"\napi_key = "{API_KEY}"\n'
        f'webhook_secret = "{WEBHOOK_SECRET}"\n'
    )


def _endpoint(asked: Asked) -> str:
    if asked.method == "POST":
        return BULK
    return RESULTS if asked.path.endswith("/results") else LIST
