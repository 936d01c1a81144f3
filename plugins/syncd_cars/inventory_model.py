"""The words of the simulated inventory: what a car's life is, how it is numbered, where chance is.

A car needs no other car: a digest of (seed, index) gives as many random bytes as a record has
choices, and each byte picks from a prepared table. So any page can be rendered first, and the same
seed serves the same bytes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import blake2b
from typing import Literal, TypeAlias

import msgspec

Weight: TypeAlias = Literal["demo", "real"]
"""demo: about 1.5 KB a car. real: about 6 KB, the size users of the API report for a page."""

UNTOUCHED_BEFORE = datetime(2026, 1, 1, tzinfo=UTC)
"""No car was updated at or after this moment, unless the simulator changed or inserted it."""

LOTS_MAX = 2

_FIRST_ID = 1_000_003
_ID_STEP = 3  # ids of a real table have gaps


class Life(msgspec.Struct, frozen=True, gc=False):
    """What happened to a car since the start: when it was inserted, how often it was changed.

    A change touches one lot; the revisions go round among the lots of the car. `touched_at` is the
    newest moment of all.
    """

    touched_at: datetime
    created_at: datetime | None = None
    revision: int = 0
    lots_updated_at: tuple[datetime | None, datetime | None] = (None, None)

    def changed(self, *, lots: int, at: datetime) -> Life:
        """Return the life after one more change, of a car with `lots` lots."""
        touched = self.revision % lots
        first, second = self.lots_updated_at
        moments = (at, second) if touched == 0 else (first, at)
        return Life(max(at, self.touched_at), self.created_at, self.revision + 1, moments)

    def revisions_of_lot(self, ordinal: int, lots: int) -> int:
        """Tell how many of the changes touched the lot `ordinal` (from 0) of `lots`."""
        return (self.revision - ordinal + lots - 1) // lots


UNTOUCHED = Life(datetime.min.replace(tzinfo=UTC))


class Chance:
    """The random bytes of one seed."""

    def __init__(self, seed: int) -> None:
        """Take any integer as seed; two seeds that differ in 64 bits differ in everything."""
        self._salt = (seed % 2**64).to_bytes(8, "little")

    def of_car(self, index: int) -> bytes:
        """Return 64 random bytes of the car at `index`."""
        return blake2b(b"%d" % index, salt=self._salt).digest()

    def of_lot(self, index: int, ordinal: int) -> bytes:
        """Return 64 random bytes of one lot of the car at `index`."""
        return blake2b(b"%d.%d" % (index, ordinal), salt=self._salt).digest()


def car_id(index: int) -> int:
    """Return the upstream id of the car at `index`; a newer car has a higher one."""
    return _FIRST_ID + _ID_STEP * index


def index_of(identity: int) -> int | None:
    """Return the index of the car whose upstream id is `identity`; None if no car can have it."""
    index, rest = divmod(identity - _FIRST_ID, _ID_STEP)
    return index if rest == 0 and index >= 0 else None


def moment_text(moment: datetime) -> str:
    """Write `moment` as `/cars` does: UTC, whole seconds, six zeros and a Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000000Z")
