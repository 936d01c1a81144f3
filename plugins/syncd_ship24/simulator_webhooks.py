"""What the simulated upstream posts: at least once, in no order, much of it twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from random import Random

import attrs
import msgspec

from syncd_ship24.simulator_parcels import Parcel

TWICE = 0.3  # the share of messages that are posted twice, though they were heard

_NOT_AHEAD = timedelta()
_TICK = timedelta(milliseconds=1)  # as messages write when they were generated


@attrs.frozen
class Webhook:
    """One request that is to be sent by POST."""

    message_id: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Webhooks:
    """What is to be told, and what of it has been heard."""

    def __init__(self, secret: str, *, seed: int = 0) -> None:
        self.secret = secret
        self._waiting: dict[str, Webhook] = {}
        self._heard: list[Webhook] = []
        self._told_at: dict[str, datetime] = {}  # by tracker
        self._random = Random(f"webhooks {seed}")  # noqa: S311 - no secret

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def waiting(self) -> Sequence[Webhook]:
        """Return what was not heard yet, in the order in which it was told."""
        return tuple(self._waiting.values())

    def tell(
        self,
        parcel: Parcel,
        place: int | None,
        *,
        at: datetime,
        topic: str = "tracking/events",
        ahead: timedelta = _NOT_AHEAD,
    ) -> None:
        """Put a message in the queue, about one event or none, as things stand now.

        What differs was not told at one moment: a message of a parcel comes after those before.
        `ahead`: by how much it says to have been generated too late.
        """
        message_id = f"{self._random.getrandbits(128):032x}"
        before = self._told_at.get(parcel.tracker_id)
        at = self._told_at[parcel.tracker_id] = max(at, before + _TICK) if before else at
        message = parcel.message(place, message_id=message_id, at=at + ahead, topic=topic)
        headers = (
            ("authorization", f"Bearer {self.secret}"),
            ("content-type", "application/json"),
        )
        body = msgspec.json.encode({"trackings": [message]})
        self._waiting[message_id] = Webhook(message_id, headers, body)

    def due(self) -> Iterator[Webhook]:
        """Yield what to post now: all that was not heard, some of what was, in any order."""
        again = [each for each in self._heard if self._random.random() < TWICE]
        twice = [each for each in self._waiting.values() if self._random.random() < TWICE]
        posts = [*self._waiting.values(), *twice, *again]
        self._random.shuffle(posts)
        yield from posts

    def answered(self, webhook: Webhook, status: int, body: bytes) -> bool:
        """Take the answer to a post; say whether it counts as heard."""
        is_heard = 200 <= status < 300 and not _says_failure(body)
        if is_heard and (first := self._waiting.pop(webhook.message_id, None)) is not None:
            self._heard.append(first)
        return is_heard


def _says_failure(body: bytes) -> bool:
    try:
        said = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return False
    return isinstance(said, dict) and said.get("success") is False
